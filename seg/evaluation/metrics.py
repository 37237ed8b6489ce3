"""The confusion matrix and the scores that it gives."""

import threading
from dataclasses import dataclass

import numpy as np

from ..labels import VOID, LabelSet

SHORT = 32
"""Runs of equal pixels that are shorter on average cost more than a histogram."""
EXACT = 2**24
"""Pixels that OpenCV's histogram counts exactly: it gives float32."""
_kept = threading.local()
"""Room for comparisons: taken anew for each image it costs, in page faults, several times what the comparisons do."""


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """int64 [classes, classes], rows truth, columns prediction; pixels whose truth is void do not count.

    truth: uint8 of any shape, class index or 255. prediction: the same shape, class index.
    Raises ValueError for shapes that differ or labels out of range.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth is {truth.shape}, prediction {prediction.shape}")
    truth, prediction, pixels = _pairs(truth.ravel(), prediction.ravel())
    scored = truth != VOID
    truth, prediction, pixels = truth[scored].astype(np.int64), prediction[scored], pixels[scored]
    if truth.size and (truth.max() >= classes or prediction.max() >= classes):
        raise ValueError(f"label {max(truth.max(), prediction.max())} of {classes} classes")
    # The sums are of float64, which is exact up to 2 ** 53 pixels.
    counts = np.bincount(truth * classes + prediction, weights=pixels, minlength=classes**2)
    return counts.astype(np.int64).reshape(classes, classes)


def _pairs(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of labels of [pixels], and how many pixels have each; a pair may stand there more than once."""
    room = _room(max(0, truth.size - 1))
    changes = np.not_equal(truth[1:], truth[:-1], out=room[0])
    changes |= np.not_equal(prediction[1:], prediction[:-1], out=room[1])
    if np.count_nonzero(changes) > truth.size // SHORT and truth.dtype == prediction.dtype == np.uint8:
        return _pairs_of_noise(truth, prediction)
    # Masks are flat: runs of equal pixels are a hundredth as many.
    last = np.append(changes.nonzero()[0], truth.size - 1)[: truth.size]
    return truth[last], prediction[last], np.diff(last, prepend=-1)


def _room(size: int) -> np.ndarray:
    """bool [2, size], whatever they hold; this thread's alone."""
    room = getattr(_kept, "room", None)
    if room is None or room.shape[1] < size:
        room = _kept.room = np.empty((2, size), bool)
    return room[:, :size]


def _pairs_of_noise(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import cv2

    width = int(prediction.max()) + 1
    counts = np.zeros(256 * width, np.int64)
    for start in range(0, truth.size, EXACT):
        part = [labels[start : start + EXACT] for labels in (truth, prediction)]
        counts += cv2.calcHist(part, [0, 1], None, [256, width], [0, 256, 0, width]).ravel().astype(np.int64)
    found = counts.nonzero()[0]
    return found // width, found % width, counts[found]


@dataclass(frozen=True)
class ImageScore:
    """The confusion matrix of one image: (truth, prediction, pixels) of its entries that are not zero."""

    name: str
    entries: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, name: str, matrix: np.ndarray) -> "ImageScore":
        rows, columns = matrix.nonzero()
        entries = zip(rows.tolist(), columns.tolist(), matrix[rows, columns].tolist(), strict=True)
        return cls(name, tuple(entries))

    def matrix(self, classes: int) -> np.ndarray:
        """int64 [classes, classes], rows truth, columns prediction."""
        matrix = np.zeros((classes, classes), np.int64)
        for truth, prediction, pixels in self.entries:
            matrix[truth, prediction] = pixels
        return matrix


@dataclass
class Scores:
    """What one confusion matrix over a whole data set says. Means are of fractions in 0..1."""

    labels: LabelSet
    matrix: np.ndarray
    images: int
    each: tuple[ImageScore, ...] = ()
    """Of the images one by one, where known; together they give the matrix."""

    @classmethod
    def over(cls, labels: LabelSet, each) -> "Scores":
        """The sum over images."""
        matrix = np.zeros((len(labels), len(labels)), np.int64)
        for image in each:
            for truth, prediction, pixels in image.entries:
                matrix[truth, prediction] += pixels
        return cls(labels, matrix, len(each), tuple(each))

    @property
    def present(self) -> np.ndarray:
        """bool [classes]: classes with a pixel in the ground truth."""
        return self.matrix.sum(1) > 0

    @property
    def union(self) -> np.ndarray:
        return self.matrix.sum(0) + self.matrix.sum(1) - np.diag(self.matrix)

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each class; NaN where neither truth nor prediction has it."""
        with np.errstate(invalid="ignore"):
            return np.diag(self.matrix) / self.union

    @property
    def miou(self) -> float:
        """Mean IoU over the classes present in the ground truth."""
        return self._mean(self.iou[self.present])

    @property
    def miou_all(self) -> float:
        """Mean IoU over the classes whose union is not empty: predicted or present."""
        return self._mean(self.iou[self.union > 0])

    @property
    def pixel_accuracy(self) -> float:
        return float(np.diag(self.matrix).sum() / max(1, self.matrix.sum()))

    @property
    def accuracy(self) -> np.ndarray:
        """Share of each class's pixels that were found; NaN for a class without any."""
        with np.errstate(invalid="ignore"):
            return np.diag(self.matrix) / self.matrix.sum(1)

    @property
    def mean_accuracy(self) -> float:
        return self._mean(self.accuracy[self.present])

    @property
    def frequency_weighted_iou(self) -> float:
        share = self.matrix.sum(1) / max(1, self.matrix.sum())
        return float((share * np.nan_to_num(self.iou)).sum())

    @staticmethod
    def _mean(values: np.ndarray) -> float:
        return float(values.mean()) if values.size else 0.0

    def as_dict(self) -> dict:
        """For JSON: IoU and accuracy are null where undefined; `per_image` has the entries of each image's own matrix."""
        return {
            "images": self.images,
            "classes": list(self.labels.names),
            "confusion_matrix": self.matrix.tolist(),
            "iou": [None if np.isnan(v) else float(v) for v in self.iou],
            "accuracy": [None if np.isnan(v) else float(v) for v in self.accuracy],
            "miou": self.miou,
            "miou_classes": int(self.present.sum()),
            "miou_all": self.miou_all,
            "miou_all_classes": int((self.union > 0).sum()),
            "pixel_accuracy": self.pixel_accuracy,
            "mean_accuracy": self.mean_accuracy,
            "frequency_weighted_iou": self.frequency_weighted_iou,
            "per_image": [{"name": image.name, "pixels": [list(entry) for entry in image.entries]} for image in self.each],
        }
