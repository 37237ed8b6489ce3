"""Converts images to arrays: paths, PIL images, NumPy arrays, torch tensors."""

import os
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..data.images import PIXELS, of_pillow, read_image
from ..errors import UserError
from .inputs import find_images, names_several


def to_pixels(image: Any) -> np.ndarray:
    """Return uint8 RGB [H, W, 3] of an image that `Predictor` accepts.

    Raises:
        UserError: it is not an image.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        return of_pillow(image)
    if isinstance(image, Tensor):
        image = image.movedim(0, -1) if image.ndim == 3 and len(image) in (1, 3) else image
        image = image.detach().cpu()
        image = (image.float() if image.is_floating_point() else image).numpy()  # NumPy has no bfloat16
    if not isinstance(image, np.ndarray):
        raise UserError(f"{type(image).__name__}: not an image; give a path, a PIL image, a NumPy array or a torch tensor")
    shape = list(image.shape)
    if np.issubdtype(image.dtype, np.floating):
        image = _of_fractions(image)
    if image.dtype != np.uint8:
        raise UserError(f"an image {image.dtype} {shape}: must be uint8, 0 to 255, or floating point, 0 to 1")
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[2] not in (1, 3)) or not 0 < shape[0] * shape[1] <= PIXELS:
        turned = "; for an array [3, H, W], give image.transpose(1, 2, 0)" if len(shape) == 3 and shape[0] == 3 else ""
        raise UserError(f"an image {shape}: must be [H, W, 3] (RGB) or [H, W] (gray), of at most {PIXELS:,} pixels{turned}")
    return np.broadcast_to(image if image.ndim == 3 else image[..., None], (*shape[:2], 3))


def several(image: Any) -> list[Any] | None:
    """The images of a list, of an array or tensor of four dimensions, of a folder or of a pattern; None for a single image.

    Raises:
        UserError: the folder or pattern has no images.
    """
    if isinstance(image, list | tuple) or (isinstance(image, np.ndarray | Tensor) and image.ndim == 4):
        return list(image)
    return [path for path, _ in find_images([image])] if names_several(image) else None


def _of_fractions(image: np.ndarray) -> np.ndarray:
    """Convert values from 0 to 1 to uint8. Raises UserError for other values, such as those of normalized images."""
    low, high = (float(image.min()), float(image.max())) if image.size else (0.0, 1.0)
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"an image {image.dtype} {list(image.shape)} with values from {low:.3g} to {high:.3g}: must be from 0 to 1, or "
            "uint8, 0 to 255. The Predictor normalizes images itself: give images that are not normalized"
        )
    levels: np.ndarray = np.rint(image * 255).astype(np.uint8)
    return levels
