"""The confusion matrix, and its scores."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..colors import default_colors
from ..errors import UserError
from ..labels import VOID, LabelSet

SHORT_RUN = 32
"""If runs of equal pixels are shorter than this on average, a histogram is faster."""
EXACT_PIXELS = 2**24
"""Largest number of pixels that OpenCV's histogram counts exactly, because it counts in float32."""
_buffers = threading.local()
"""Scratch buffers reused across images: the page faults of new ones would take several times as long as the comparisons."""


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the pixels of each pair of true and predicted class.

    Args:
        truth: uint8 of any shape, class index or 255 (void). Void pixels do not count.
        prediction: the same shape, class index. Values under void pixels are ignored.
        num_classes: number of classes.

    Returns:
        int64 [classes, classes], rows truth, columns prediction.

    Raises:
        ValueError: shapes differ, or a label is out of range.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth is {truth.shape}, prediction {prediction.shape}")
    truth, prediction, pixels = _runs(truth.ravel(), prediction.ravel())
    scored = truth != VOID
    truth, prediction, pixels = truth[scored].astype(np.int64), prediction[scored], pixels[scored]
    if truth.size and (truth.max() >= num_classes or prediction.max() >= num_classes):
        raise ValueError(f"label {max(truth.max(), prediction.max())} of {num_classes} classes")
    # The sums are float64, which is exact up to 2 ** 53 pixels.
    counts = np.bincount(truth * num_classes + prediction, weights=pixels, minlength=num_classes**2)
    return counts.astype(np.int64).reshape(num_classes, num_classes)


def _runs(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs of labels of [pixels] and the number of pixels of each; a pair may appear more than once."""
    buffer = _scratch(max(0, truth.size - 1))
    changes = np.not_equal(truth[1:], truth[:-1], out=buffer[0])
    changes |= np.not_equal(prediction[1:], prediction[:-1], out=buffer[1])
    if np.count_nonzero(changes) > truth.size // SHORT_RUN and truth.dtype == prediction.dtype == np.uint8:
        return _histogram(truth, prediction)
    # Masks are flat: there are a hundred times fewer runs of equal pixels than pixels.
    last = np.append(changes.nonzero()[0], truth.size - 1)[: truth.size]
    return truth[last], prediction[last], np.diff(last, prepend=-1)


def _scratch(size: int) -> np.ndarray:
    """Return an uninitialized buffer bool [2, size] of this thread."""
    buffer: np.ndarray | None = getattr(_buffers, "changes", None)
    if buffer is None or buffer.shape[1] < size:
        buffer = _buffers.changes = np.empty((2, size), bool)
    return buffer[:, :size]


def _histogram(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import cv2

    width = int(prediction.max()) + 1
    counts = np.zeros(256 * width, np.int64)
    for start in range(0, truth.size, EXACT_PIXELS):
        part = [labels[start : start + EXACT_PIXELS] for labels in (truth, prediction)]
        counts += cv2.calcHist(part, [0, 1], None, [256, width], [0, 256, 0, width]).ravel().astype(np.int64)
    found = counts.nonzero()[0]
    return found // width, found % width, counts[found]


class ClassValues(np.ndarray):
    """A float array [classes] that is also indexed by class name: `scores.iou["cat"]`."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, values: np.ndarray, names: tuple[str, ...]) -> "ClassValues":
        """Name the values of an array."""
        found = values.view(cls)
        found.names = names
        return found

    def __array_finalize__(self, source: Any) -> None:
        self.names = ()

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in self.names:
            raise KeyError(f"{key}: not a class; known are {', '.join(self.names)}")
        return float(super().__getitem__(self.names.index(key)))

    def items(self) -> list[tuple[str, float]]:
        """(class name, value) of each class, as of a dict."""
        return list(zip(self.names, self.tolist(), strict=True))


@dataclass(frozen=True)
class ImageScore:
    """The confusion matrix of one image, as its nonzero entries (truth, prediction, pixels)."""

    name: str
    entries: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, name: str, matrix: np.ndarray) -> "ImageScore":
        """Keep the nonzero entries of a confusion matrix."""
        rows, columns = matrix.nonzero()
        entries = zip(rows.tolist(), columns.tolist(), matrix[rows, columns].tolist(), strict=True)
        return cls(name, tuple(entries))

    def matrix(self, num_classes: int) -> np.ndarray:
        """Return int64 [classes, classes], rows truth, columns prediction."""
        matrix = np.zeros((num_classes, num_classes), np.int64)
        for truth, prediction, pixels in self.entries:
            matrix[truth, prediction] = pixels
        return matrix


@dataclass(repr=False)
class Scores:
    """The scores of one confusion matrix over a whole data set. Scores are fractions in 0..1."""

    labels: LabelSet
    matrix: np.ndarray
    """int64 [classes, classes], rows truth, columns prediction."""
    images: int
    each: tuple[ImageScore, ...] = ()
    """The matrices of the single images, if known; their sum is `matrix`."""

    @classmethod
    def over(cls, labels: LabelSet, each: Sequence[ImageScore]) -> "Scores":
        """Add up the matrices of images."""
        matrix = np.zeros((len(labels), len(labels)), np.int64)
        for image in each:
            for truth, prediction, pixels in image.entries:
                matrix[truth, prediction] += pixels
        return cls(labels, matrix, len(each), tuple(each))

    def __repr__(self) -> str:
        present = int(self.present.sum())
        return f"Scores(mIoU {100 * self.miou:.2f} % over {present} of {len(self.labels)} classes, {self.images} images)"

    @property
    def present(self) -> np.ndarray:
        """bool [classes]: the ground truth has a pixel of the class."""
        return np.asarray(self.matrix.sum(1) > 0)

    @property
    def union(self) -> np.ndarray:
        """int64 [classes]: pixels of the class in the ground truth or the prediction."""
        return np.asarray(self.matrix.sum(0) + self.matrix.sum(1) - np.diag(self.matrix))

    @property
    def iou(self) -> ClassValues:
        """Intersection over union of each class, by index or name; NaN if neither truth nor prediction has the class."""
        with np.errstate(invalid="ignore"):
            return ClassValues.of(np.diag(self.matrix) / self.union, self.labels.names)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes present in the ground truth."""
        return self._mean(self.iou[self.present])

    @property
    def miou_all(self) -> float:
        """Mean IoU over the classes present in the ground truth or predicted."""
        return self._mean(self.iou[self.union > 0])

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labeled pixels with the correct class."""
        return float(np.diag(self.matrix).sum() / max(1, self.matrix.sum()))

    @property
    def accuracy(self) -> ClassValues:
        """Share of each class's pixels that are predicted as the class; NaN for a class without pixels."""
        with np.errstate(invalid="ignore"):
            return ClassValues.of(np.diag(self.matrix) / self.matrix.sum(1), self.labels.names)

    @property
    def mean_accuracy(self) -> float:
        """Mean accuracy over the classes present in the ground truth."""
        return self._mean(self.accuracy[self.present])

    @property
    def frequency_weighted_iou(self) -> float:
        """IoU of the classes, weighted by their share of the labeled pixels."""
        share = self.matrix.sum(1) / max(1, self.matrix.sum())
        return float((share * np.nan_to_num(np.asarray(self.iou))).sum())

    @staticmethod
    def _mean(values: np.ndarray) -> float:
        return float(values.mean()) if values.size else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON. Undefined values are null; `per_image` has the matrix entries of each image."""
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


class ConfusionMatrix:
    """Scores predictions image by image: one confusion matrix over all of them.

    Args:
        num_classes: the number of classes (2 to 255), the class names, or a LabelSet.

    Example:
        matrix = ConfusionMatrix(21)
        matrix.update(truth, prediction)   # for each image, at its own size
        print(matrix.scores().miou)
    """

    def __init__(self, num_classes: LabelSet | Sequence[str] | int):
        labels = [f"class {index}" for index in range(num_classes)] if isinstance(num_classes, int) else num_classes
        if not isinstance(labels, LabelSet):
            labels = LabelSet(tuple(labels), default_colors(labels))
        self.labels = labels
        self._each: list[ImageScore] = []

    def update(self, truth: Any, prediction: Any, name: str | None = None) -> None:
        """Add an image, or a batch of images of one size.

        Args:
            truth: integers [H, W] or [N, H, W], class index or 255 (void); NumPy or torch.
            prediction: integers of the same shape, class index.
            name: of the image, for `Scores.each`; default: its number.

        Raises:
            UserError: shapes differ, values are not class indices, or an index is out of range.
        """
        expected, found = _labels_of(truth, "truth"), _labels_of(prediction, "prediction")
        try:
            matrix = confusion_matrix(expected, found, len(self.labels))
        except ValueError as error:
            raise UserError(
                f"ConfusionMatrix.update: {error}; give truth and prediction of one shape, void as {VOID}"
            ) from error
        self._each.append(ImageScore.of(name or str(len(self._each)), matrix))

    def reset(self) -> None:
        """Forget all images."""
        self._each.clear()

    def scores(self) -> Scores:
        """Return the scores over all images so far."""
        return Scores.over(self.labels, self._each)


def _labels_of(values: Any, what: str) -> np.ndarray:
    """Return uint8 labels of an integer array or tensor. Raises UserError for other values."""
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.dtype.kind not in "iu":
        raise UserError(
            f"ConfusionMatrix.update: {what} is {array.dtype} {list(array.shape)}; give class indices as integers: "
            "logits.argmax(1), not logits"
        )
    if array.size and (array.min() < 0 or array.max() > VOID):
        raise UserError(
            f"ConfusionMatrix.update: {what} has a value {array.min() if array.min() < 0 else array.max()}; void is {VOID}"
        )
    return array.astype(np.uint8, copy=False)
