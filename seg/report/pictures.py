"""Small pictures for the gallery of a report."""

import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

SIDE = 400
"""Longest side of a picture in pixels: the 1,449 images of VOC then take half of the 60 MB that a page may have."""
QUALITY = 60
"""Quality of the WebP photos."""


@dataclass(frozen=True)
class Picture:
    """A small copy of an image and its masks."""

    width: int
    height: int
    masks: bytes
    """zlib of uint8 [2, height, width]: truth and prediction."""
    photo: bytes | None
    """The image as WebP; None if only the masks are known."""

    @classmethod
    def of(cls, truth: np.ndarray, prediction: np.ndarray, image: np.ndarray | None = None) -> "Picture":
        """Make a picture of an image RGB uint8 [h, w, 3] and its masks uint8 [h, w].

        Masks are sampled at the centers of the small pixels; colors are averaged.
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
    """Unpack the 2 or 3 masks of a picture, uint8 [n, height, width]. Raises ValueError if they are not of this size."""
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
