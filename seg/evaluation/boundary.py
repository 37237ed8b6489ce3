"""Scores near the boundaries of objects: trimap mIoU and Boundary IoU."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import distributed
from ..labels import VOID, LabelSet
from .metrics import Scores, confusion_matrix

WIDTHS = (1, 5, 10, 20, 40)
"""Widths of the trimap bands in pixels: the range of arXiv 1802.02611, figure 5."""
DIAGONAL = 0.02
"""Width of Boundary IoU's band, as a share of the image diagonal."""


def trimaps(truth: np.ndarray, widths: Iterable[float]) -> list[np.ndarray]:
    """Find the labeled pixels near void pixels.

    VOC draws void along the boundaries of objects: dilating it gives the band of arXiv 1802.02611, section 4.4.

    Args:
        truth: uint8 [h, w], class index or 255.
        widths: largest Euclidean distances to a void pixel, in pixels.

    Returns:
        bool [h, w] for each width.
    """
    import cv2

    labeled = truth != VOID
    if labeled.all():
        return [np.zeros(truth.shape, bool) for _ in widths]
    distance = cv2.distanceTransform(labeled.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # The distance sqrt(k) is rounded to float32, but never as far as to sqrt(k + 1).
    return [labeled & (distance <= width + 1e-3) for width in widths]


def inner_boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """Find the pixels of a mask near its boundary: Boundary IoU, arXiv 2103.16562, section 4.

    Args:
        mask: bool [h, w].
        width: largest number of steps (8 neighbors) to a pixel outside of the mask or to the image border.

    Returns:
        bool [h, w].
    """
    import cv2

    window = np.ones((3, 3), np.uint8)
    inside = cv2.erode(mask.astype(np.uint8), window, iterations=width, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(mask & (inside == 0))


class Boundary:
    """Adds up the boundary scores of the images of an evaluation.

    Args:
        labels: the classes.
        widths: of the trimap bands, in pixels.
    """

    def __init__(self, labels: LabelSet, widths: Iterable[float] = WIDTHS):
        self.labels, self.images = labels, 0
        self.matrices = {width: np.zeros((len(labels), len(labels)), np.int64) for width in widths}
        self.intersection = np.zeros(len(labels), np.int64)
        self.union = np.zeros(len(labels), np.int64)
        self.present = np.zeros(len(labels), bool)

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Add an image.

        Args:
            truth: uint8 [h, w], class index or 255.
            prediction: uint8 [h, w], class index.
        """
        self.images += 1
        for band, matrix in zip(trimaps(truth, self.matrices), self.matrices.values(), strict=True):
            matrix += confusion_matrix(np.where(band, truth, VOID), prediction, len(self.labels))
        labeled = truth != VOID
        matrix = confusion_matrix(truth, prediction, len(self.labels))
        width = max(1, round(DIAGONAL * float(np.hypot(*truth.shape))))
        for index in np.flatnonzero(matrix.any(0) | matrix.any(1)):
            # Void belongs to neither mask, so a prediction that ends at void has the boundary of the ground truth.
            ours, theirs = (inner_boundary((mask == index) & labeled, width) for mask in (prediction, truth))
            self.intersection[index] += np.count_nonzero(ours & theirs)
            self.union[index] += np.count_nonzero(ours | theirs)
            self.present[index] |= theirs.any()

    def gather(self) -> None:
        """Add up the images of all processes."""
        for width, matrix in self.matrices.items():
            self.matrices[width] = distributed.all_reduce_sum_array(matrix)
        self.intersection = distributed.all_reduce_sum_array(self.intersection)
        self.union = distributed.all_reduce_sum_array(self.union)
        self.present = distributed.all_reduce_sum_array(self.present.astype(np.int64)) > 0
        self.images = int(distributed.all_reduce_sum_array(np.array(self.images)))

    def trimap_miou(self, width: float) -> float:
        """Return the mean IoU of the pixels in a band, over the classes present there in the ground truth."""
        return Scores(self.labels, self.matrices[width], self.images).miou

    @property
    def iou(self) -> np.ndarray:
        """Boundary IoU of each class over all images; NaN if neither truth nor prediction has the class."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.intersection / self.union)

    @property
    def miou(self) -> float:
        """Mean Boundary IoU over the classes present in the ground truth."""
        return float(self.iou[self.present].mean()) if self.present.any() else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "trimap": [{"width": width, "miou": self.trimap_miou(width)} for width in self.matrices],
            "iou": [None if np.isnan(value) else float(value) for value in self.iou],
            "miou": self.miou,
            "diagonal": DIAGONAL,
        }
