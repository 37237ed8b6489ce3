"""Raw values of mask files of any kind: integers or colors, as one number each, before their meaning is known.

A code is the integer of a pixel, or `COLOR` + R * 65536 + G * 256 + B. Transparent pixels are black, or 0. JPEG and other lossy
masks hold a few levels, changed by compression: see `levels`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...colors import Color
from ...errors import UserError
from ..images import INDEX, WIDE, NotAnImage, decode
from ..masks import MASK_FORMATS, color_codes, first_pixel
from .levels import Flat, flat_regions

COLOR = 1 << 24
MOST = 255
"""Largest number of values in a mask; more are not classes."""


@dataclass(frozen=True)
class Seen:
    """Content of one mask file."""

    path: Path
    size: tuple[int, int]
    """Width and height, in pixels."""
    codes: tuple[int, ...]
    """The different codes, ascending; of lossy and thresholded masks none."""
    palette: tuple[Color, ...] | None = None
    """The color of each code, if the file has a palette."""
    lossy: Flat | None = None
    """Of a lossy file, its flat regions."""
    wide: bool = False
    """The file has 16 bits per pixel."""
    transparent: bool = False

    @property
    def colored(self) -> bool:
        """Whether the mask holds colors, not integers."""
        return bool(self.codes) and self.codes[-1] >= COLOR


@dataclass(frozen=True)
class Decoding:
    """How the files of a data set become codes; the same for all files."""

    threshold: int | None = None
    """Gray level from which on a pixel is 1, else 0."""
    levels: tuple[int, ...] = ()
    """Each pixel of a lossy mask gets the nearest of these codes."""
    unit: int = 1
    """Divisor of 16-bit integers: 257 or 256 if they are widened 8-bit integers."""
    gray: bool = False
    """Colors are gray, R = G = B, and represent integers."""
    palette: bool = False
    """The colors of palette masks are read, not their indices."""


def code_of(color: Color) -> int:
    """The code of a color."""
    return COLOR | color[0] << 16 | color[1] << 8 | color[2]


def color_of(code: int) -> Color:
    """The color of a code."""
    return code >> 16 & 255, code >> 8 & 255, code & 255


def show(code: int) -> str:
    """A code for messages: an integer, or (r, g, b)."""
    return str(color_of(code) if code >= COLOR else code)


def look(path: Path, threshold: int | None = None) -> Seen:
    """Read the values of a mask file.

    Raises:
        UserError: the file is damaged, or its values are not classes: more than 255 colors, or half transparent pixels.
    """
    image, lossy = _open(path)
    size = image.size
    if threshold is not None or lossy:
        return Seen(path, size, (), lossy=flat_regions(image) if lossy else None)
    transparent = _transparent(image, path)
    if image.mode not in INDEX:
        found: Any = _on_black(image, transparent).getcolors(MOST)
        if found is None:
            raise UserError(
                f"{path}: more than {MOST} colors; a mask has one color per class. Was it resized, or saved as JPEG? Export it "
                "again as PNG, or take two classes by --threshold 128"
            )
        codes = sorted(code_of(color) for _, color in found)
        return Seen(path, size, tuple(codes), transparent=transparent is not None)
    if image.mode in ("L", "P") and transparent is None:  # ten times as fast as numpy
        counted: Any = image.getcolors()
        codes = sorted(index for _, index in counted)
    else:
        codes = np.unique(_integers(image, transparent)).tolist()
    palette = None
    if image.mode == "P":
        stored = np.array(image.getpalette("RGB")).reshape(-1, 3).tolist()
        palette = tuple((*stored[i],) if i < len(stored) else (0, 0, 0) for i in codes)
    return Seen(path, size, tuple(codes), palette, wide=image.mode in WIDE, transparent=transparent is not None)


def read_codes(path: Path, how: Decoding) -> np.ndarray:
    """The code of every pixel, int32 [H, W]."""
    image, lossy = _open(path)
    if how.threshold is not None:
        return (gray_levels(image) >= how.threshold).astype(np.int32)
    if lossy:
        return nearest_level(image, how.levels)
    transparent = _transparent(image, path)
    if image.mode not in INDEX or how.palette:
        codes = color_codes(np.asarray(_on_black(image, transparent)))
        return codes & 255 if how.gray else codes | COLOR
    return _integers(image, transparent).astype(np.int32) // how.unit


def find_code(path: Path, code: int, how: Decoding) -> tuple[int, int]:
    """Row and column of the first pixel with a code."""
    return first_pixel(read_codes(path, how) == code)


def gray_levels(image: Image.Image) -> np.ndarray:
    """Gray levels 0 to 255, [H, W]: of the alpha channel if only it varies; of 16 bits the upper 8."""
    if image.mode in ("RGBA", "LA"):
        alpha = np.asarray(image.getchannel("A"))
        if alpha.min() < alpha.max():
            return alpha
    if image.mode in WIDE:
        values = np.asarray(image)
        return values >> 8 if values.max() > 255 else values
    return np.asarray(image.convert("L"))


def nearest_level(image: Image.Image, levels: Iterable[int]) -> np.ndarray:
    """The nearest of some codes for every pixel, int32 [H, W]: of gray levels, or of colors by their distance in RGB."""
    levels = list(levels)
    points = np.array([color_of(code) if code >= COLOR else (code,) * 3 for code in levels], np.int32)
    gray = all(code < COLOR for code in levels)
    pixels = np.asarray(image.convert("L"))[..., None] if gray else np.asarray(image.convert("RGB"))
    best = np.full(pixels.shape[:2], 1 << 30, np.int32)
    found = np.zeros(pixels.shape[:2], np.int32)
    for code, point in zip(levels, points, strict=True):
        far = ((pixels.astype(np.int32) - point[: pixels.shape[2]]) ** 2).sum(-1)
        closer = far < best
        best[closer], found[closer] = far[closer], code
    return found


def _open(path: Path) -> tuple[Image.Image, bool]:
    """The image, and whether its format changes values. Raises UserError if it is not readable."""
    try:
        return decode(path, MASK_FORMATS, whole=True), False
    except NotAnImage:
        return decode(path), True


def _transparent(image: Image.Image, path: Path) -> np.ndarray | None:
    """Transparent pixels, bool [H, W]; None: no pixel, or all pixels, which some programs write by mistake."""
    if image.mode not in ("RGBA", "LA", "PA"):
        return None
    alpha = np.asarray(image.getchannel("A"))
    half = (alpha > 0) & (alpha < 255)
    if half.any():
        row, column = first_pixel(half)
        raise UserError(
            f"{path}: {half.sum():,} pixels are half transparent, as at ({row}, {column}), {alpha[row, column]} of 255: smooth "
            "edges have no class. Export the mask without smoothing, or take two classes by --threshold 128"
        )
    found = alpha == 0
    return found if found.any() and not found.all() else None


def _on_black(image: Image.Image, transparent: np.ndarray | None) -> Image.Image:
    colors = image.convert("RGB")
    if transparent is None:
        return colors
    return Image.fromarray(np.where(transparent[..., None], np.uint8(0), np.asarray(colors)))


def _integers(image: Image.Image, transparent: np.ndarray | None) -> np.ndarray:
    values = np.asarray(image.getchannel(0) if image.mode in ("LA", "PA") else image)
    return values if transparent is None else np.where(transparent, values.dtype.type(0), values)


def common_decoding(seen: Sequence[Seen], how: Decoding, colors: Sequence[Color | None] = ()) -> Decoding:
    """How to read the files of a set.

    Recognizes 8-bit integers in 16-bit files, gray masks saved as RGB, and palettes that differ between files or have the named
    `colors` in another order.
    """
    codes = {code for one in seen for code in one.codes}
    if codes and all(one.wide for one in seen) and max(codes) > 255:
        for unit in (257, 256):
            if all(code % unit == 0 for code in codes):
                return replace(how, unit=unit)
    found = {color_of(code) for code in codes if code >= COLOR}
    mixed = len({code >= COLOR for code in codes}) > 1
    if found and all(r == g == b for r, g, b in found) and (mixed or found - {(0, 0, 0), (255, 255, 255)}):
        return replace(how, gray=not found <= {*colors})
    return replace(how, palette=_palettes_differ(seen, colors))


def _palettes_differ(seen: Sequence[Seen], colors: Sequence[Color | None]) -> bool:
    if not seen or not all(one.palette for one in seen):
        return False
    pairs = {pair for one in seen for pair in zip(one.codes, one.palette or (), strict=True)}
    in_order = all(index < len(colors) and colors[index] == color for index, color in pairs)
    differ = len({index for index, _ in pairs}) < len(pairs)
    return differ or (not in_order and all(color in colors for _, color in pairs))


def decoded_codes(one: Seen, how: Decoding) -> tuple[int, ...]:
    """The codes of `read_codes` for a file."""
    if how.threshold is not None:
        return (0, 1)
    if one.lossy:
        return how.levels
    if how.palette:
        return tuple(code_of(color) for color in one.palette or ())
    if how.gray and one.colored:
        return tuple(code & 255 for code in one.codes)
    return tuple(code // how.unit for code in one.codes)
