"""Quality near the borders of objects: trimap mIoU and Boundary IoU."""

import numpy as np

from .. import distributed
from ..labels import VOID, LabelSet
from .metrics import Scores, confusion_matrix

WIDTHS = (1, 5, 10, 20, 40)
"""Of the trimap's bands, in pixels: the range of arXiv 1802.02611, figure 5."""
DIAGONAL = 0.02
"""Width of Boundary IoU's band, as a part of the image's diagonal."""


def trimaps(truth: np.ndarray, widths) -> list[np.ndarray]:
    """For each width bool [h, w]: labeled pixels at most so many pixels (Euclidean) from a void one.

    Void is what VOC draws along the borders of objects: dilating it gives the band of arXiv 1802.02611, section 4.4.
    """
    import cv2

    labeled = truth != VOID
    if labeled.all():
        return [np.zeros(truth.shape, bool) for _ in widths]
    distance = cv2.distanceTransform(labeled.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # In float32: the distance of sqrt(k) is rounded, but never as far as to sqrt(k + 1).
    return [labeled & (distance <= width + 1e-3) for width in widths]


def inner_boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """bool [h, w]: pixels of the mask within `width` steps (of 8 neighbors) of one outside of it, or of the image's border.

    Boundary IoU, arXiv 2103.16562, section 4.
    """
    import cv2

    window = np.ones((3, 3), np.uint8)
    inside = cv2.erode(mask.astype(np.uint8), window, iterations=width, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & (inside == 0)


class Boundary:
    """Adds up over the images of an evaluation."""

    def __init__(self, labels: LabelSet, widths=WIDTHS):
        self.labels, self.images = labels, 0
        self.matrices = {width: np.zeros((len(labels), len(labels)), np.int64) for width in widths}
        self.intersection = np.zeros(len(labels), np.int64)
        self.union = np.zeros(len(labels), np.int64)
        self.present = np.zeros(len(labels), bool)

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """truth: uint8 [h, w], class index or 255. prediction: the same shape, class index."""
        self.images += 1
        for band, matrix in zip(trimaps(truth, self.matrices), self.matrices.values(), strict=True):
            matrix += confusion_matrix(np.where(band, truth, VOID), prediction, len(self.labels))
        labeled = truth != VOID
        matrix = confusion_matrix(truth, prediction, len(self.labels))
        width = max(1, round(DIAGONAL * float(np.hypot(*truth.shape))))
        for index in (matrix.any(0) | matrix.any(1)).nonzero()[0]:
            # Void belongs to neither mask, so that a prediction right up to it has the truth's boundary.
            ours, theirs = (inner_boundary((mask == index) & labeled, width) for mask in (prediction, truth))
            self.intersection[index] += np.count_nonzero(ours & theirs)
            self.union[index] += np.count_nonzero(ours | theirs)
            self.present[index] |= theirs.any()

    def gather(self) -> None:
        """Add up what several processes have seen."""
        for width, matrix in self.matrices.items():
            self.matrices[width] = distributed.all_reduce_sum_array(matrix)
        self.intersection = distributed.all_reduce_sum_array(self.intersection)
        self.union = distributed.all_reduce_sum_array(self.union)
        self.present = distributed.all_reduce_sum_array(self.present.astype(np.int64)) > 0
        self.images = int(distributed.all_reduce_sum_array(np.array(self.images)))

    def trimap_miou(self, width: float) -> float:
        """Mean IoU of the pixels in the band, over the classes that the truth has there."""
        return Scores(self.labels, self.matrices[width], self.images).miou

    @property
    def iou(self) -> np.ndarray:
        """Boundary IoU of each class, its pixels summed over the images; NaN where neither truth nor prediction has it."""
        with np.errstate(invalid="ignore"):
            return self.intersection / self.union

    @property
    def miou(self) -> float:
        """Mean Boundary IoU over the classes present in the ground truth."""
        return float(self.iou[self.present].mean()) if self.present.any() else 0.0

    def as_dict(self) -> dict:
        return {
            "trimap": [{"width": width, "miou": self.trimap_miou(width)} for width in self.matrices],
            "iou": [None if np.isnan(value) else float(value) for value in self.iou],
            "miou": self.miou,
            "diagonal": DIAGONAL,
        }
