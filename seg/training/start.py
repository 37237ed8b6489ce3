"""Where the weights of a training come from, and the loss that it lowers, in words."""

from typing import cast

from torch import nn

from ..config import Config, ModelConfig, TrainConfig
from ..data.loader import TrainingSamples, batches
from ..errors import UserError
from ..models.interface import SegmentationModel
from ..models.preprocess import network_input
from ..weights.loading import read_into
from ..weights.sources import open_source
from ..weights.warm_start import warm_start

WARM_START_CROPS = 16
"""Crops from which a warm start measures statistics."""
PUBLISHED = {
    "xception": "timm:legacy_xception.tf_in1k",
    **{name: f"{name}_imagenet" for name in ("xception41", "xception65", "xception71")},
}
"""Published weights of each backbone."""


def refuse_frozen_random(config: Config) -> None:
    """Refuse to freeze layers of random weights, unless `model.weights=random` asks for it.

    Raises:
        UserError: batch norm or the backbone is frozen, and no weights are given.
    """
    if config.model.weights is not None:
        return
    frozen = "train.freeze_backbone=true" if config.train.freeze_backbone else None
    if config.train.freeze_batch_norm != "none":
        frozen = f"train.freeze_batch_norm={config.train.freeze_batch_norm}"
    if frozen:
        raise UserError(
            f"{frozen}, but the weights are random: what is frozen could not learn. Start from published ones: "
            f"model.weights={published(config.model)}; or train all of it: train.freeze_batch_norm=none "
            "train.freeze_backbone=false; or set model.weights=random, which allows it"
        )


def published(model: ModelConfig) -> str:
    """Published weights of ImageNet for a network, as `model.weights` takes them."""
    return "imagenet" if model.smp else PUBLISHED[model.backbone]


def load_weights(model: nn.Module, config: ModelConfig, samples: TrainingSamples) -> str:
    """Read the configured weights into a network.

    Args:
        model: the network, with random weights, or those that its library has put in.
        config: of the network.
        samples: crops, on which a warm start measures statistics.

    Returns:
        A line that says where the weights come from.

    Raises:
        UserError: the weights cannot be read, or do not fit.
    """
    if config.source is None:
        random = f"random weights; published ones: model.weights={published(config)}"
        return f"network: {config.title}, {f'weights {config.published}' if config.published else random}"
    if config.weights_use != "warm_start":
        return str(read_into(model, config.source, partial=config.weights_use == "partial"))
    statistics = cast(SegmentationModel, model)
    source = open_source(config.source)
    device = next(model.parameters()).device
    crops, _, extents = (tensor.to(device) for tensor in next(batches(samples, WARM_START_CROPS, 0, 1, 0)))
    return str(warm_start(model, source, network_input(crops, extents, statistics.mean, statistics.std)))


def describe_loss(config: TrainConfig) -> str:
    """The loss in words, such as "loss: cross_entropy + 0.5 dice; class weights balanced"."""
    parts = [name if weight == 1 else f"{weight:g} {name}" for name, weight in config.loss.items() if weight]
    weights = (
        ""
        if config.class_weights is None
        else "; class weights " + ("balanced" if config.class_weights == "balanced" else "as given")
    )
    if config.hard_pixels < 1:
        weights += f"; of the {100 * config.hard_pixels:g} % hardest pixels"
    return f"loss: {' + '.join(parts)}{weights}"
