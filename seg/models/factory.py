"""Networks from a configuration."""

import torch
from torch import nn

from ..config import ModelConfig
from ..errors import UserError
from .aspp import ASPP
from .classifier import ImageClassifier
from .decoder import Decoder
from .deeplab import DeepLabV3Plus
from .dpc import DensePredictionCell
from .xception import Xception


def build_model(config: ModelConfig, num_classes: int, *, pretrained: bool = False) -> nn.Module:
    """The network that a configuration describes, with initial weights.

    Segmentation networks have the same interface. `model(images)` gives logits [N, num_classes, H, W]. `model.logits(images)`
    gives them before the last resize, at stride `model.logits_stride`. `model.mean` and `model.std` normalize images in [0, 1].
    Further attributes: `model.backbone`, `model.num_classes` and `model.output_stride`.

    Args:
        config: with `smp`, an architecture of segmentation-models-pytorch; with `image_classes`, the backbone as an ImageNet
            classifier, with logits [N, image_classes]; else DeepLab V3+.
        num_classes: of the segmentation.
        pretrained: download the encoder weights of segmentation-models-pytorch that `config.published` names.

    Raises:
        UserError: the parts do not fit together.
    """
    if config.smp is not None:
        from .smp import SmpModel

        return SmpModel(
            config.smp,
            config.backbone,
            num_classes=num_classes,
            output_stride=config.output_stride,
            weights=config.published,
            download=pretrained,
        )
    backbone = build_backbone(config)
    if config.image_classes is not None:
        return ImageClassifier(backbone, config.image_classes)
    return build_deeplab(config, backbone, num_classes)


def build_backbone(config: ModelConfig) -> Xception:
    """The Xception that a configuration describes. Its weights are not initialized yet: see `initialize_backbone`.

    Raises:
        UserError: `spatial_groups` does not divide the channels of every layer.
    """
    try:
        return Xception(
            config.backbone,
            activation_placement=config.activation_placement,
            width=config.width,
            output_stride=config.output_stride,
            residual=config.residual,
            separable_activation=config.separable_activation,
            spatial_groups=config.spatial_groups,
            conv3=config.decoder is not None and config.decoder.conv3,
        )
    except ValueError as error:
        raise UserError(
            f"model.spatial_groups={config.spatial_groups}: must divide the channels of every layer ({error})"
        ) from error


def build_deeplab(config: ModelConfig, backbone: Xception, num_classes: int) -> DeepLabV3Plus:
    """DeepLab V3+ with the context and the decoder of a configuration on a backbone, with initial weights."""
    context: ASPP | DensePredictionCell
    if config.context == "dpc":
        context = DensePredictionCell(backbone.channels)
    else:
        context = ASPP(
            backbone.channels,
            config.aspp.channels,
            atrous_rates=config.aspp.atrous_rates,
            separable=config.aspp.separable,
            image_pooling=config.aspp.image_pooling,
            dropout=config.aspp.dropout,
        )
    decoder = None
    if config.decoder is not None:
        decoder = Decoder(
            context.out_channels,
            backbone.low_level_channels,
            low_level_channels=config.decoder.low_level_channels,
            convolutions=config.decoder.convolutions,
            separable=config.decoder.separable,
            conv3_in_channels=backbone.conv3_channels if config.decoder.conv3 else None,
        )
    return DeepLabV3Plus(backbone, context, decoder, num_classes, config.initialization)


def build_meta_model(config: ModelConfig, num_classes: int) -> nn.Module:
    """The network of `build_model` on the meta device: shapes without values, in no time and no memory.

    Networks of segmentation-models-pytorch are built on the CPU: not all of them work on the meta device.
    """
    with torch.device("cpu" if config.smp is not None else "meta"):
        return build_model(config, num_classes)
