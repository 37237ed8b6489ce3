"""Networks: images in, logits out."""

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
