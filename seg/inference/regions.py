"""Outlines of a mask's regions: polygons for annotation tools."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

_FINE = 3
"""Subdivisions of a pixel. An outline through the centers of a region's outermost parts encloses the centers of exactly its
pixels."""


@dataclass(frozen=True)
class Region:
    """A connected region of one class in a mask (4-connectivity)."""

    index: int
    """Of the class."""
    top: int
    left: int
    pixels: np.ndarray
    """bool [H, W], of the bounding box."""

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.pixels.sum())

    @property
    def box(self) -> list[int]:
        """Left, top, width and height, in pixels."""
        return [self.left, self.top, self.pixels.shape[1], self.pixels.shape[0]]

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the bounding box in the mask."""
        height, width = self.pixels.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def outer_pixels(self, tolerance: float) -> np.ndarray:
        """The pixels along the outer border, in order: int [N, 2], (x, y). Lines between them, filled, cover region and holes.

        Args:
            tolerance: largest distance in pixels of the border to the lines.
        """
        (outline,), _ = cv2.findContours(self.pixels.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        points: np.ndarray = _simplified(outline, tolerance) + np.array([self.left, self.top])
        return points

    def polygon(self, tolerance: float) -> np.ndarray:
        """The region without its holes as one polygon: float [N, 2], (x, y); pixel (0, 0) covers the square from 0 to 1.

        A line to each hole and back makes it part of the outline.

        Args:
            tolerance: largest distance in pixels of the border to the polygon.
        """
        fine = np.kron(self.pixels, np.ones((_FINE, _FINE), np.uint8))
        outlines, hierarchy = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        rings = [_simplified(outline, tolerance * _FINE) for outline in outlines]
        outer = next(ring for ring, (*_, parent) in zip(rings, hierarchy[0], strict=True) if parent < 0)
        for hole in (ring for ring, (*_, parent) in zip(rings, hierarchy[0], strict=True) if parent >= 0):
            start = int(hole[:, 0].argmin())
            near = int(np.abs(outer - hole[start]).sum(1).argmin())
            outer = np.concatenate([outer[: near + 1], hole[start:], hole[: start + 1], outer[near:]])
        points: np.ndarray = (outer + 0.5) / _FINE + np.array([self.left, self.top])
        return points


def regions(mask: np.ndarray) -> Iterator[Region]:
    """The connected regions of each class of a mask, class by class.

    Args:
        mask: uint8 [H, W], class indices.
    """
    for index in np.unique(mask):
        count, numbers, boxes, _ = cv2.connectedComponentsWithStats((mask == index).astype(np.uint8), connectivity=4)
        for number in range(1, count):
            left, top, width, height, _ = boxes[number].tolist()
            window = numbers[top : top + height, left : left + width]
            yield Region(int(index), top, left, window == number)


def _simplified(outline: np.ndarray, tolerance: float) -> np.ndarray:
    """Simplify an outline of OpenCV to at least three points: int [N, 2]."""
    points: np.ndarray = (cv2.approxPolyDP(outline, tolerance, True) if tolerance > 0 else outline)[:, 0]
    return points if len(points) >= 3 else np.resize(points, (3, 2))
