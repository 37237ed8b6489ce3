"""From a configuration to a network."""

from torch import nn

from ..config import ModelConfig
from .aspp import ASPP
from .decoder import Decoder
from .deeplab import DeepLabV3Plus
from .xception import Xception


def build_model(config: ModelConfig, classes: int, *, pretrained: bool = False) -> nn.Module:
    """Our DeepLab V3+, or with `config.smp` a segmentation-models-pytorch architecture behind the same interface.

    `model(images)`: logits N,classes,H,W. `model.logits(images)`: before the last resize. `model.output_stride`,
    `model.backbone`, and `model.mean` and `model.std` of the input for images in [0, 1].
    pretrained: let segmentation-models-pytorch fetch the published encoder weights that `config.weights` names.
    Raises UserError where the parts do not fit together.
    """
    if config.smp is not None:
        from .smp import SmpModel

        return SmpModel(
            config.smp,
            config.backbone,
            classes=classes,
            output_stride=config.output_stride,
            weights=config.weights,
            download=pretrained,
        )
    backbone = Xception(config.backbone, placement=config.placement, width=config.width, output_stride=config.output_stride)
    aspp, decoder = config.aspp, config.decoder
    head = ASPP(
        backbone.channels,
        channels=aspp.channels,
        rates=aspp.rates,
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
        )
    return DeepLabV3Plus(backbone, head, decoder, classes, config.initialisation)
