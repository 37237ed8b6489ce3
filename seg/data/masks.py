"""Read mask files as class indices, uint8: the label set maps the values in the file to classes.

Formats: PNG, BMP, TIFF and GIF. JPEG and WebP are refused because compression changes labels. A mask of one channel (palette,
gray, black and white) holds integers; an RGB mask holds colors. The label set's `values` define the class of each. Without
them, integer i is class i, 255 is void, and colors are those of the classes. A mask is turned by its EXIF orientation, like an
image.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..colors import Color
from ..errors import UserError
from ..labels import BUILT_IN, LARGEST_VALUE, VOC, VOID, LabelSet
from .images import INDEX, bands, decode

MASK_FORMATS = ("PNG", "BMP", "TIFF", "GIF")


def read_mask(path: str | Path, labels: LabelSet) -> np.ndarray:
    """Read a mask file: uint8 [H, W], class index or 255, upright.

    Raises:
        UserError: the file is not readable, or holds a value or color that the label set does not have. The message names the
            first such pixel (row, column) and what the mask seems to be.
    """
    return to_labels(decode(path, MASK_FORMATS), labels, path)


def to_labels(image: Image.Image, labels: LabelSet, path: Any) -> np.ndarray:
    """The class indices in a decoded mask, as `read_mask`; `path` names it in errors."""
    if image.mode not in INDEX:
        return _from_colors(image, labels, path)
    mask = np.array(image.getchannel(0) if image.mode in ("LA", "PA") else image)
    table = _integer_table(labels)
    if table is not None:
        return _look_up(mask, table, labels, path)
    # Void, 255, wraps to 0: one temporary array tells a valid mask.
    if mask.dtype == np.uint8 and (mask + np.uint8(1)).max() <= len(labels):
        return mask
    wrong = (mask >= len(labels)) & (mask != VOID)
    if wrong.any():
        row, column = first_pixel(wrong)
        raise UserError(
            f"{path}: label {mask[row, column]} at ({row}, {column}); this label set has {len(labels)} classes and "
            f"{VOID} for void. Is it a mask of another label set? {_sibling(labels)}Name it as data.labels, or --labels"
        )
    return mask.astype(np.uint8)


@lru_cache(maxsize=8)
def _integer_table(labels: LabelSet) -> tuple[np.ndarray, np.ndarray] | None:
    """Class index of every integer, uint8 [65536], and which are listed, bool [65536]; None: integers are class indices."""
    integers = [(value, index) for value, index in labels.values or () if isinstance(value, int)]
    if not integers:
        return None
    table, listed = np.full(LARGEST_VALUE + 1, unused_index(labels), np.uint8), np.zeros(LARGEST_VALUE + 1, bool)
    for value, index in integers:
        table[value], listed[value] = index, True
    return table, listed


def unused_index(labels: LabelSet) -> int:
    """Index of values that are not listed in the label set. With 255 classes, it is void."""
    return len(labels)


def _look_up(mask: np.ndarray, tables: tuple[np.ndarray, np.ndarray], labels: LabelSet, path: Any) -> np.ndarray:
    import cv2

    table, listed = tables
    # OpenCV's look-up is 8 times as fast as numpy's indexing: 0.09 ms for an image of VOC.
    found = cv2.LUT(mask, table[:256]) if mask.dtype == np.uint8 else table[mask.astype(np.int64)]
    if (found + np.uint8(1)).max() <= len(labels) and len(labels) < VOID:
        return found
    wrong = ~listed[mask.astype(np.int64)]
    if wrong.any():
        row, column = first_pixel(wrong)
        raise UserError(
            f"{path}: value {mask[row, column]} at ({row}, {column}) is not listed in the 'values' of the label set. "
            f"{_sibling(labels)}List it there as a class or as void"
        )
    return found


def _sibling(labels: LabelSet) -> str:
    """The built-in label set of the same classes and other values, as a hint."""
    names = [name for name, other in BUILT_IN.items() if other.names == labels.names and other.values != labels.values]
    return f"The label set {names[0]} has the same classes and other values: try it. " if names else ""


def first_pixel(wrong: np.ndarray) -> tuple[int, int]:
    """Row and column of the first True, of bool [H, W]."""
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    return int(row), int(column)


@lru_cache(maxsize=8)
def color_table(labels: LabelSet) -> dict[Color, int]:
    """Maps the colors of RGB masks to a class index or 255."""
    listed = {value: index for value, index in labels.values or () if not isinstance(value, int)}
    return listed or {color: index for index, color in enumerate(labels.mask_colors)} | {labels.void_color: VOID}


@lru_cache(maxsize=8)
def _sorted_colors(labels: LabelSet) -> tuple[np.ndarray, np.ndarray]:
    """The colors as numbers, int32 [colors], ascending, and the class of each, uint8 [colors]."""
    table = {int(color_codes(np.array(color))): index for color, index in color_table(labels).items()}
    known = np.array(sorted(table), np.int32)
    return known, np.array([table[code] for code in known.tolist()], np.uint8)


def _from_colors(image: Image.Image, labels: LabelSet, path: Any) -> np.ndarray:
    known, values = _sorted_colors(labels)
    mask = np.empty((image.height, image.width), np.uint8)
    for top, band in bands(image):
        colors = np.asarray(band.convert("RGB"))
        codes = color_codes(colors)
        places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        wrong = known[places] != codes
        if wrong.any():
            row, column = first_pixel(wrong)
            raise UserError(_unknown_color(image, colors[row, column].tolist(), (top + row, column), labels, path))
        mask[top : top + band.height] = values[places]
    return mask


def color_codes(colors: np.ndarray) -> np.ndarray:
    """One number per color: int32 [...] of RGB [..., 3]."""
    r, g, b = np.moveaxis(colors.astype(np.int32), -1, 0)
    codes: np.ndarray = r << 16 | g << 8 | b
    return codes


def _unknown_color(image: Image.Image, color: list[int], place: tuple[int, int], labels: LabelSet, path: Any) -> str:
    """The message for a mask with a color that is no class."""
    counted = (image if image.mode == "RGB" else image.convert("RGB")).getcolors(256)
    found = None if counted is None else {each for _, each in counted}
    ours, vocs = (set(color_table(known)) for known in (labels, VOC))
    if found is None:
        guess = (
            "It has more than 256 colors, probably from resizing or JPEG: export it again as PNG, resized by nearest neighbor"
        )
    elif found <= vocs:
        guess = "Its colors are PASCAL VOC's: set data.labels=voc, or --labels voc"
    elif found <= {(0, 0, 0), (255, 255, 255)}:
        guess = "It is black and white: seg data init converts such masks to 0 and 1"
    else:
        guess = (
            f"{len(found - ours)} of its {len(found)} colors are unknown: name the label set that has them as data.labels, or "
            "--labels (seg data init writes one); or was the mask resized, or saved as JPEG?"
        )
    return f"{path}: color {tuple(color)} at {place} is no class of this label set. {guess}"
