"""Two evaluations of the same images, class by class, and how sure the difference of their mIoU is."""

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..files import read_json
from ..labels import VOC, LabelSet, voc_color
from .metrics import ImageScore, Scores

RESAMPLES = 2000
CONFIDENCE = 0.95


def read_scores(path) -> Scores:
    """The scores in the JSON that `seg evaluate --json` writes. Raises UserError where it is not such a file."""
    return scores_of(read_json(path, "an evaluation"), path)


def scores_of(numbers: dict, path) -> Scores:
    """The scores in the object that `seg evaluate --json` writes; `path` names its file in errors."""
    try:
        names = tuple(str(name) for name in numbers["classes"])
        each = [ImageScore(str(i["name"]), tuple(tuple(map(int, e)) for e in i["pixels"])) for i in numbers["per_image"]]
        labels = VOC if names == VOC.names else LabelSet(names, tuple(voc_color(index) for index in range(len(names))))
        scores = Scores.over(labels, each)
        if scores.matrix.tolist() != numbers["confusion_matrix"]:
            raise ValueError("its images do not add up to its confusion matrix")
        if any(pixels < 0 or min(entry) < 0 for image in each for *entry, pixels in image.entries):
            raise ValueError("negative numbers")
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path}: not an evaluation by this version ({what}); write it anew with seg evaluate --json"
        ) from error
    return scores


@dataclass
class Comparison:
    """`second` less `first`; both of the same images and classes."""

    first: Scores
    second: Scores
    interval: tuple[float, float]
    """Of the difference of the mIoU, with 95 % confidence."""

    @property
    def difference(self) -> float:
        return self.second.miou - self.first.miou

    def as_dict(self) -> dict:
        """For JSON; an IoU is null where undefined."""
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
    """Mean IoU over the classes present in the ground truth of each confusion matrix [..., classes, classes]."""
    truth, hit = matrices.sum(-1), np.diagonal(matrices, axis1=-2, axis2=-1)
    present, union = truth > 0, truth + matrices.sum(-2) - hit
    iou = np.where(present, hit / np.maximum(union, 1), 0)
    return iou.sum(-1) / np.maximum(present.sum(-1), 1)


def require_same(scores: Scores, labels: LabelSet, names) -> None:
    """Raises ValueError where the scores are not of these classes and of the images of these names, each once."""
    if scores.labels.names != labels.names:
        raise ValueError("the classes differ")
    if sorted(image.name for image in scores.each) != sorted(names) or len(set(names)) != len(names):
        raise ValueError("the images differ")


def compare(first: Scores, second: Scores, *, seed: int = 0) -> Comparison:
    """Difference of two evaluations, with the percentile interval of a paired bootstrap over the images: each resample draws
    as many images as there are, with replacement, and takes both evaluations of them.

    Raises ValueError where images or classes are not the same.
    """
    require_same(first, second.labels, [image.name for image in second.each])
    other = {image.name: image for image in second.each}
    classes, count = len(first.labels), len(first.each)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)

    def resampled(images) -> np.ndarray:
        # Pixel counts below 2 ** 53 are exact in float64, which has a fast matrix product.
        matrices = np.stack([image.matrix(classes) for image in images]).reshape(count, -1).astype(np.float64)
        return mean_iou((draws @ matrices).reshape(RESAMPLES, classes, classes))

    differences = resampled([other[image.name] for image in first.each]) - resampled(first.each)
    low, high = np.quantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Comparison(first, second, (float(low), float(high)))
