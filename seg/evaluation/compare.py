"""Compares two evaluations of the same images: differences, and a confidence interval of the mIoU."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..colors import default_colors
from ..errors import UserError
from ..files import read_json
from ..labels import VOC, LabelSet
from .metrics import ImageScore, Scores

RESAMPLES = 2000
CONFIDENCE = 0.95


def read_scores(path: str | Path) -> Scores:
    """Read the scores in a JSON file of `seg evaluate --json`.

    Raises:
        UserError: it is not such a file.
    """
    return scores_of(read_json(path, "an evaluation"), path)


def scores_of(numbers: dict[str, Any], path: str | Path) -> Scores:
    """Return the scores in a JSON object of `seg evaluate --json`; errors name the file `path`.

    Raises:
        UserError: it is not such an object.
    """
    try:
        names = tuple(str(name) for name in numbers["classes"])
        each = [
            ImageScore(str(i["name"]), tuple((int(t), int(p), int(n)) for t, p, n in i["pixels"])) for i in numbers["per_image"]
        ]
        labels = VOC if names == VOC.names else LabelSet(names, default_colors(names))
        scores = Scores.over(labels, each)
        if scores.matrix.tolist() != numbers["confusion_matrix"]:
            raise ValueError("its images do not add up to its confusion matrix")
        if any(pixels < 0 or min(entry) < 0 for image in each for *entry, pixels in image.entries):
            raise ValueError("negative numbers")
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path}: not an evaluation by this version ({what}); write it again with seg evaluate --json"
        ) from error
    return scores


@dataclass
class Comparison:
    """Two evaluations of the same images and classes; the difference is `second` minus `first`."""

    first: Scores
    second: Scores
    interval: tuple[float, float]
    """Interval of the mIoU difference, with 95 % confidence."""

    @property
    def difference(self) -> float:
        """Difference of the mIoU."""
        return self.second.miou - self.first.miou

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; an undefined IoU is null."""
        plain = [[None if np.isnan(v) else float(v) for v in scores.iou] for scores in (self.first, self.second)]
        return {
            "classes": list(self.first.labels.names),
            "images": self.first.images,
            "iou": plain,
            "miou": [self.first.miou, self.second.miou],
            "difference": self.difference,
            "interval": list(self.interval),
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
        }


def mean_iou(matrices: np.ndarray) -> np.ndarray:
    """Return the mean IoU over the classes present in the ground truth, for confusion matrices [..., classes, classes]."""
    truth, hit = matrices.sum(-1), np.diagonal(matrices, axis1=-2, axis2=-1)
    present, union = truth > 0, truth + matrices.sum(-2) - hit
    iou = np.where(present, hit / np.maximum(union, 1), 0)
    return np.asarray(iou.sum(-1) / np.maximum(present.sum(-1), 1))


def require_same(scores: Scores, labels: LabelSet, names: Sequence[str]) -> None:
    """Check that scores belong to these classes and these images, each once.

    Raises:
        ValueError: the classes or images differ.
    """
    if scores.labels.names != labels.names:
        raise ValueError("the classes differ")
    if sorted(image.name for image in scores.each) != sorted(names) or len(set(names)) != len(names):
        raise ValueError("the images differ")


def compare(first: Scores, second: Scores, *, seed: int = 0) -> Comparison:
    """Compare two evaluations by a paired bootstrap over the images.

    Each of RESAMPLES resamples draws as many images as there are, with replacement, and compares both evaluations on them. The
    interval is given by percentiles.

    Raises:
        ValueError: the images or classes differ.
    """
    require_same(first, second.labels, [image.name for image in second.each])
    other = {image.name: image for image in second.each}
    classes, count = len(first.labels), len(first.each)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)

    def resampled(images: Sequence[ImageScore]) -> np.ndarray:
        # float64 has a fast matrix product, and pixel counts below 2 ** 53 are exact in it.
        matrices = np.stack([image.matrix(classes) for image in images]).reshape(count, -1).astype(np.float64)
        return mean_iou((draws @ matrices).reshape(RESAMPLES, classes, classes))

    differences = resampled([other[image.name] for image in first.each]) - resampled(first.each)
    low, high = np.quantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Comparison(first, second, (float(low), float(high)))
