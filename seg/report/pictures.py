"""The small pictures of a report's gallery."""

import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

SIDE = 400
"""Longest side of a picture, in pixels: VOC's 1,449 images then take a half of the 60 MB that a page may have."""
QUALITY = 60
"""Of WebP."""


@dataclass(frozen=True)
class Picture:
    """An image and its masks, made small."""

    width: int
    height: int
    masks: bytes
    """zlib of uint8 [2, height, width]: truth and prediction."""
    photo: bytes | None
    """WebP of the image; None where masks alone are known."""

    @classmethod
    def of(cls, truth: np.ndarray, prediction: np.ndarray, image: np.ndarray | None = None) -> "Picture":
        """truth, prediction: uint8 [h, w], class index or 255. image: uint8 [h, w, 3], RGB.

        A pixel of a mask is the one that lies at its center; colors are averages.
        """
        scale = min(1, SIDE / max(truth.shape))
        height, width = (max(1, round(scale * side)) for side in truth.shape)
        rows, columns = (
            ((np.arange(small) + 0.5) * (side / small)).astype(int)
            for small, side in zip((height, width), truth.shape, strict=True)
        )
        small = np.stack([mask[rows[:, None], columns] for mask in (truth, prediction)])
        photo = None
        if image is not None:
            file = BytesIO()
            resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3)
            resized.save(file, "WEBP", quality=QUALITY)
            photo = file.getvalue()
        return cls(width, height, zlib.compress(small.tobytes()), photo)


def planes(masks: bytes, width: int, height: int) -> np.ndarray:
    """uint8 [n, height, width]: the masks of a picture, 2 or 3. Raises ValueError where they are not such, of at most SIDE."""
    if not 0 < width <= SIDE or not 0 < height <= SIDE:
        raise ValueError(f"a picture of {width}x{height}")
    unpacked = zlib.decompressobj()
    try:
        content = unpacked.decompress(masks, 3 * width * height)  # bounded: a few bytes can claim any length
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not unpacked.eof or len(content) // (width * height) not in (2, 3):
        raise ValueError("a picture whose masks are not of its size")
    return np.frombuffer(content, np.uint8).reshape(-1, height, width)
