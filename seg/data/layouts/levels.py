"""Levels of masks in lossy formats, such as JPEG: compression keeps flat regions near their value, and changes edges."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...errors import UserError

NEAR = 24
"""Smallest difference between two levels, in any channel."""
MOST = 32
"""Largest number of levels; a file with more is a photo."""
_KEPT = 1024
"""Number of colors of a file's flat regions that are counted."""


class Flat(NamedTuple):
    """The pixels of a lossy file that equal their neighbors."""

    share: float
    """Of all pixels, 0 to 1."""
    gray: bool
    colors: tuple[tuple[tuple[int, ...], int], ...]
    """(R, G, B), and how many pixels have it; the most frequent ones."""


def flat_regions(image: Image.Image) -> Flat:
    """Count the colors of the pixels that differ from none of their 8 neighbors by more than 4."""
    import cv2

    pixels = np.asarray(image.convert("RGB"))
    kernel = np.ones((3, 3), np.uint8)
    flat = (cv2.dilate(pixels, kernel).astype(np.int16) - cv2.erode(pixels, kernel) <= 4).all(-1)
    spread = pixels.max(-1).astype(np.int16) - pixels.min(-1)
    colors, counts = np.unique(pixels[flat], axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_KEPT]
    kept = tuple((tuple(map(int, colors[i])), int(counts[i])) for i in order)
    return Flat(float(flat.mean()), bool(spread.max() <= 4), kept)


def find_levels(
    flats: Iterable[tuple[Path, Flat]], named: Iterable[tuple[int, ...] | None] = ()
) -> tuple[list[tuple[int, ...]], bool]:
    """Find the levels of a set of masks, as RGB, from dark to bright, and whether they are gray.

    Args:
        flats: the flat regions of each mask.
        named: colors of classes; a level near one is that color.

    Raises:
        UserError: the flat regions are not near a few levels that can be told apart: the files hold class indices, or photos.
    """
    flats = list(flats)
    first = flats[0][0]
    refused = (
        f"{first}: a mask in a lossy format such as JPEG, whose compression changes labels; its values do not form a few "
        "separate levels. Export the masks as PNG, or take two classes by --threshold 128"
    )
    for path, flat in flats:
        if flat.share < 0.3:
            raise UserError(refused.replace(str(first), str(path)))
    gray = all(flat.gray for _, flat in flats)
    counts: Counter[tuple[int, ...]] = Counter()
    for _, flat in flats:
        for color, count in flat.colors:
            counts[(color[1],) * 3 if gray else color] += count
    total = sum(counts.values())
    groups: dict[tuple[int, ...], Counter[tuple[int, ...]]] = {}
    for color, count in counts.most_common():
        near = [center for center in groups if _distance(center, color) < NEAR]
        center = min(near, key=lambda center: _distance(center, color)) if near else color
        groups.setdefault(center, Counter())[color] += count
    strong = {center: group for center, group in groups.items() if group.total() > max(20, 0.002 * total)}
    stray = total - sum(group.total() for group in strong.values())
    if not 2 <= len(strong) <= MOST or stray > 0.01 * total:
        raise UserError(refused)
    for center, group in strong.items():
        # Reject class indices 0, 1, 2, which would merge into one level: of a real level, nearly all flat pixels differ by at
        # most 1.
        off = sum(count for color, count in group.items() if _distance(center, color) > 1)
        if gray and off > 0.1 * group.total():
            raise UserError(refused)
    known = [color for color in named if color is not None]
    return sorted(_snapped(center, known) for center in strong), gray


def _distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def _snapped(center: tuple[int, ...], known: list[tuple[int, ...]]) -> tuple[int, ...]:
    near = min(known, key=lambda color: _distance(color, center), default=None)
    if near and _distance(near, center) < NEAR:
        return near
    return tuple(0 if value <= 4 else 255 if value >= 251 else value for value in center)
