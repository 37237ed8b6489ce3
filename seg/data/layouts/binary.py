"""Recognizes binary masks, and combines one for each class, to a mask of class indices."""

from pathlib import Path

import numpy as np

from ...errors import UserError
from ..images import decode
from ..masks import MASK_FORMATS
from .raw_masks import gray_levels


def is_binary(path: Path) -> bool:
    """Whether a mask file has two values, apart from a few pixels along edges."""
    image = decode(path, (*MASK_FORMATS, "JPEG"))
    if image.mode in ("RGB", "RGBA") and not _is_gray(np.asarray(image)[..., :3]):
        return False
    levels = gray_levels(image)
    return bool(np.isin(levels, (0, levels.max())).mean() > 0.95)


def _is_gray(pixels: np.ndarray) -> bool:
    """Whether red, green and blue are nearly equal in every pixel."""
    return bool((np.ptp(pixels, -1) <= 8).all())


def draw_binary(masks: dict[Path, int]) -> np.ndarray:
    """Combine binary masks: uint8 [H, W], the class index where a mask is not 0.

    Where masks overlap, the smallest one is on top, such as the eyes of a face.

    Raises:
        UserError: masks of one image differ in size, or hold more than two values.
    """
    found: list[tuple[np.ndarray, int]] = []
    for path, index in masks.items():
        levels = gray_levels(decode(path, (*MASK_FORMATS, "JPEG")))
        if found and levels.shape != found[0][0].shape:
            raise UserError(f"{path}: {levels.shape[1]}x{levels.shape[0]} pixels, unlike other masks of its image")
        found.append((levels > (levels.max() // 2 if levels.max() > 1 else 0), index))
    drawn = np.zeros(found[0][0].shape, np.uint8)
    for inside, index in sorted(found, key=lambda one: -int(one[0].sum())):
        drawn[inside] = index
    return drawn
