"""Polygons and regions of pixels, in COCO's coordinates: pixel (0, 0) covers the square from 0 to 1."""

from typing import Any

import numpy as np

from ...errors import UserError

_PARTS = 5
"""COCO's program rounds coordinates to this fraction of a pixel."""


def fill_polygon(mask: np.ndarray, points: Any, value: int, place: str) -> None:
    """Write a value to the pixels inside a polygon, by the rules of COCO's own program.

    A pixel is inside if its center is, by the even-odd rule. The outline is first rounded to fifths of a pixel.

    Args:
        mask: uint8 [H, W], changed in place.
        points: [x, y, x, y, ...], three points or more.
        value: 0 to 255.
        place: named in errors.

    Raises:
        UserError: the points are not pairs of finite numbers.
    """
    try:
        xy = np.array(points, np.float64)
    except (TypeError, ValueError):
        xy = np.empty(0)
    if xy.ndim != 1 or len(xy) < 6 or len(xy) % 2 or not (np.abs(xy) < 1e6).all():
        raise UserError(
            f"{place}: its segmentation is not a list of polygons [x, y, x, y, ...] of three points or more, nor RLE"
        )
    height, width = mask.shape
    outline = _outline((_PARTS * xy.reshape(-1, 2) + 0.5).astype(np.int64))
    # Columns whose center the outline crosses, and where: below it, inside and outside swap.
    u, v = outline[:, 0], outline[:, 1]
    moves = np.flatnonzero(u[1:] != u[:-1])
    left = np.minimum(u[moves], u[moves + 1])
    columns, off = np.divmod(left - _PARTS // 2, _PARTS)
    crosses = (off == 0) & (columns >= 0) & (columns < width)
    rows = np.minimum(v[moves], v[moves + 1])[crosses]
    rows = np.clip(np.ceil((rows + 0.5) / _PARTS - 0.5), 0, height).astype(np.int64)
    columns = columns[crosses]
    if not len(rows):
        return
    # Below the last crossing is outside: a closed outline crosses a column an even number of times.
    top, bottom, start, end = rows.min(), rows.max(), columns.min(), columns.max() + 1
    changes = np.zeros((bottom - top + 1, end - start), bool)
    np.logical_xor.at(changes, (rows - top, columns - start), True)
    mask[top:bottom, start:end][np.logical_xor.accumulate(changes)[:-1]] = value


def _outline(corners: np.ndarray) -> np.ndarray:
    """Integer points, each next to the one before, along the sides of a polygon: int64 [n, 2]."""
    parts = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        steps = int(np.abs(end - start).max())
        if steps == 0:
            parts.append(start[None])
            continue
        major = int(np.abs(end - start).argmax()) if abs(end - start)[0] != abs(end - start)[1] else 0
        first, last = (start, end) if start[major] <= end[major] else (end, start)
        walk = np.arange(steps + 1)
        slope = (last[1 - major] - first[1 - major]) / steps
        line = np.empty((steps + 1, 2), np.int64)
        line[:, major] = first[major] + walk
        line[:, 1 - major] = (first[1 - major] + slope * walk + 0.5).astype(np.int64)
        parts.append(line if first is start else line[::-1])
    return np.concatenate([*parts, parts[0][:1]])
