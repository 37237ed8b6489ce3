"""From a configuration to a network."""

import torch
from torch import nn

from ..config import ModelConfig
from ..errors import UserError
from .aspp import ASPP
from .classifier import ImageClassifier
from .decoder import Decoder
from .deeplab import DeepLabV3Plus
from .xception import Xception


def build_model(config: ModelConfig, classes: int, *, pretrained: bool = False) -> nn.Module:
    """Our DeepLab V3+, or with `config.smp` a segmentation-models-pytorch architecture behind the same interface; with
    `config.image_classes` the backbone's ImageNet form, which gives logits N,image_classes.

    `model(images)`: logits N,classes,H,W. `model.logits(images)`: before the last resize. `model.output_stride`,
    `model.backbone`, and `model.mean` and `model.std` of the input for images in [0, 1].
    pretrained: let segmentation-models-pytorch fetch the published encoder weights that `config.published` names.
    Raises UserError where the parts do not fit together.
    """
    if config.smp is not None:
        from .smp import SmpModel

        return SmpModel(
            config.smp,
            config.backbone,
            classes=classes,
            output_stride=config.output_stride,
            weights=config.published,
            download=pretrained,
        )
    try:
        backbone = Xception(
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
    if config.image_classes is not None:
        return ImageClassifier(backbone, config.image_classes)
    aspp, decoder = config.aspp, config.decoder
    head = ASPP(
        backbone.channels,
        channels=aspp.channels,
        rates=aspp.atrous_rates,
        separable=aspp.separable,
        image_pooling=aspp.image_pooling,
        dropout=aspp.dropout,
    )
    if decoder is not None:
        decoder = Decoder(
            head.channels,
            backbone.low_level_channels,
            low_level_channels=decoder.low_level_channels,
            convolutions=decoder.convolutions,
            separable=decoder.separable,
            conv3=backbone.conv3_channels if decoder.conv3 else None,
        )
    return DeepLabV3Plus(backbone, head, decoder, classes, config.initialization)


def build_meta_model(config: ModelConfig, classes: int) -> nn.Module:
    """The network that `build_model` makes, on the meta device: shapes without values, in no time and no memory, however large.

    The library's networks, not all of which can be made so, come as they are.
    """
    with torch.device("cpu" if config.smp is not None else "meta"):
        return build_model(config, classes)
