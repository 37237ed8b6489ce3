"""Networks: images in, logits out."""

from typing import Any

from ..errors import no_attribute
from .constructors import (
    deeplabv3plus_xception,
    deeplabv3plus_xception41,
    deeplabv3plus_xception65,
    deeplabv3plus_xception71,
    xception,
    xception41,
    xception65,
    xception71,
)
from .deeplab import DeepLabV3Plus
from .xception import Xception

__all__ = [
    "DeepLabV3Plus",
    "Xception",
    "deeplabv3plus_xception",
    "deeplabv3plus_xception41",
    "deeplabv3plus_xception65",
    "deeplabv3plus_xception71",
    "xception",
    "xception41",
    "xception65",
    "xception71",
]

_FAMILY = "the networks are deeplabv3plus_xception41, ...65, ...71 and, on the original Xception, deeplabv3plus_xception"
_OTHER_BACKBONE = (
    f"{_FAMILY}; other backbones come from segmentation-models-pytorch by configuration: seg train voc_smp model.smp=..."
)
_HINTS = {
    "list_models": _FAMILY,
    "create_model": _FAMILY,
    "get_model": _FAMILY,
    "DeepLabV3": "deeplabv3plus_xception65(decoder=None) is DeepLab V3",
    "deeplabv3_xception65": "deeplabv3plus_xception65(decoder=None) is DeepLab V3",
}


def __getattr__(name: str) -> Any:
    if any(other in name.lower() for other in ("resnet", "mobilenet", "efficientnet", "convnext", "unet")):
        raise no_attribute(__name__, name, {name: _OTHER_BACKBONE}, ())
    raise no_attribute(__name__, name, _HINTS, __all__)
