"""The first lines of a training: data, network, weights, loss and time."""

import math
import time
from typing import cast

import torch
from torch import nn

from .. import distributed
from ..config import Config, ModelConfig, TrainConfig
from ..data.loader import TrainingSamples, batches
from ..data.training_data import TrainingData
from ..errors import UserError
from ..models.interface import SegmentationModel
from ..models.preprocess import network_input
from ..models.summary import summary
from ..weights.loading import read_into
from ..weights.sources import open_source
from ..weights.warm_start import warm_start
from .batch_norm import all_synchronized

MIN_BATCH_NORM_IMAGES = 12
"""Smallest batch for which the released code advises to fine-tune batch norm."""
DAY = 24 * 3600
LARGE = 5e15
"""Trainings of fewer operations need no estimate of their time on a CPU: 14 hours at 100 billion operations per second."""
CPU_EFFICIENCY = {torch.float32: 0.9, torch.bfloat16: 0.5}
"""Speed of a training step divided by `matrix_speed`. Measured on 2 cores with AVX512-BF16, in float32 and bfloat16:
Xception-65 with 2 crops of 321 1.15 and 0.49, with 4 of 513 0.88 and 0.51; the original Xception, 6 of 321, 0.90 and 0.54."""
WARM_START_CROPS = 16
"""Number of crops from which a warm start measures statistics."""
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
            f"{frozen}, but the weights are random: frozen layers could not learn. Start from published weights: "
            f"model.weights={published(config.model)}; or train all layers: train.freeze_batch_norm=none "
            "train.freeze_backbone=false; or set model.weights=random, which allows it"
        )


def published(model: ModelConfig) -> str:
    """Published weights of ImageNet for a network, as `model.weights` takes them."""
    return "imagenet" if model.smp else PUBLISHED[model.backbone]


def load_weights(model: nn.Module, config: ModelConfig, samples: TrainingSamples) -> str:
    """Read the configured weights into a network.

    Args:
        model: the network, with random weights or those loaded by its library.
        config: of the network.
        samples: crops from which a warm start measures statistics.

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


def describe_training(config: Config, classes: int, data: TrainingData, model: nn.Module, device: torch.device) -> str:
    """Describe the training in one line: images, classes, iterations and epochs, device and precision, parameters.

    Args:
        config: every setting, `auto` resolved.
        classes: their number.
        data: the splits.
        model: in the modes of the training.
        device: where it trains.
    """
    train, images = config.train, len(data.sources)
    epochs = train.iterations * train.batch_size / images
    rounded = f"{epochs:.1f}" if epochs < 10 else f"{epochs:,.0f}"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return (
        f"training: {images} images, {len(data.val)} for validation, {classes} classes; {train.iterations} iterations of "
        f"{train.batch_size} images ({rounded} epochs); {distributed.describe_device(device)}, {train.precision}; "
        f"{trained / 1e6:.1f} of {parameters / 1e6:.1f} million parameters train"
    )


def few_images_for_batch_norm(config: Config, model: nn.Module) -> str | None:
    """Return a line of advice if published batch norm would train on too few images at a time; None otherwise."""
    train = config.train
    if train.freeze_batch_norm != "none" or not (config.model.source or config.model.published):
        return None
    images = train.batch_size // train.grad_accumulation
    alone = distributed.world_size() > 1 and not all_synchronized(model)
    if alone:
        images //= distributed.world_size()
    if images >= MIN_BATCH_NORM_IMAGES:
        return None
    return (
        f"batch norm trains on {images} image{'s' * (images != 1)} at a time"
        + (", because each process normalizes by itself (this network's norms are synchronized on GPUs only)" * alone)
        + f"; train.freeze_batch_norm=backbone keeps the published statistics, or use {MIN_BATCH_NORM_IMAGES} images or more"
    )


def slow_without_gpu(config: Config, model: nn.Module, device: torch.device) -> str | None:
    """Return a line with the days that a training takes on the CPU, if it takes more than one; None otherwise.

    The estimate is the multiply-adds of the convolutions, times 3 for forward and backward pass, divided by the speed of a
    matrix product on this machine. `CPU_EFFICIENCY` corrects for the rest of the network.
    """
    if device.type != "cpu" or not hasattr(model, "logits"):
        return None
    work = 6 * summary(model, *config.data.crop)[-1].multiply_adds * config.train.batch_size * config.train.iterations
    dtype = torch.bfloat16 if config.train.precision == "bfloat16" else torch.float32
    if work < LARGE:
        return None
    seconds = work / (CPU_EFFICIENCY[dtype] * matrix_speed(dtype)) / distributed.world_size()
    if seconds < DAY:
        return None
    days = f"{seconds / DAY:.0f}" if seconds >= 2 * DAY else f"{seconds / DAY:.1f}"
    return f"no GPU: this training takes about {days} days on this CPU; voc_mini is a configuration for CPUs (seg train --list)"


def matrix_speed(dtype: torch.dtype) -> float:
    """Operations per second of a matrix product of the size of a pointwise convolution: the best of five measurements."""
    a, b = torch.randn(4096, 728).to(dtype), torch.randn(728, 728).to(dtype)
    best = math.inf
    for _ in range(5):
        began = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * 4096 * 728 * 728 / best


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
