"""Images as people hold them: paths, PIL images, NumPy arrays, torch tensors."""

import os
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..data.images import PIXELS, of_pillow, read_image
from ..errors import UserError


def to_pixels(image: Any) -> np.ndarray:
    """Return uint8 RGB [H, W, 3] of an image as `Predictor` takes it.

    Raises:
        UserError: it is not such an image.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        return of_pillow(image)
    if isinstance(image, Tensor):
        image = image.movedim(0, -1) if image.ndim == 3 and len(image) in (1, 3) else image
        image = image.detach().cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise UserError(f"{type(image).__name__}: not an image; give a path, a PIL image, a NumPy array or a torch tensor")
    shape = list(image.shape)
    if image.dtype != np.uint8:
        raise UserError(
            f"an image {image.dtype} {shape}: must be uint8, 0 to 255; for values from 0 to 1, round 255 times them"
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[2] not in (1, 3)) or not 0 < shape[0] * shape[1] <= PIXELS:
        raise UserError(
            f"an image {shape}: must be [H, W, 3] (RGB) or [H, W] (gray), of at most {PIXELS:,} pixels; give several as a list"
        )
    return np.broadcast_to(image if image.ndim == 3 else image[..., None], (*shape[:2], 3))
