"""Scores of a model on a split, or of saved masks: one confusion matrix over all images, each at its own size."""

from pathlib import Path

from torch import nn

from .. import distributed
from ..classes import LabelSet
from ..config import EvaluateConfig
from ..data.read import read_mask
from ..data.voc import Split
from ..errors import UserError
from ..parallel import Behind, ahead
from .boundary import Boundary
from .confusion import ImageScore, Scores, confusion_matrix
from .policy import output_stride, predict_mask


def evaluate_model(
    model: nn.Module, split: Split, policy: EvaluateConfig, on_image=None, boundary: Boundary | None = None
) -> Scores:
    """Score the model on every image of the split; `boundary`, where given, adds them up too.

    `on_image(index, image, truth, prediction)` sees each, in order. Several processes deal the images out among
    them, each once; each returns the scores of all, and sees its own.
    """
    classes, each = len(split.labels), {}

    def score(index, image, truth, prediction) -> None:
        each[index] = ImageScore.of(split.ids[index], confusion_matrix(truth, prediction, classes))
        if boundary:
            boundary.add(truth, prediction)
        if on_image:
            on_image(index, image, truth, prediction)

    # The next images are decoded and the last ones scored while the network works.
    mine = range(distributed.rank(), len(split), distributed.world())
    with output_stride(model, policy.output_stride), Behind() as behind:
        for index, (image, truth) in zip(mine, ahead(split.sample, mine), strict=True):
            behind(score, index, image, truth, predict_mask(model, image, policy))
    if boundary:
        boundary.gather()
    scored = {index: one for part in distributed.every(each) for index, one in part.items()}
    return Scores.over(split.labels, [scored[index] for index in range(len(split))])


def evaluate_masks(predictions, truth, labels: LabelSet, on_image=None, boundary: Boundary | None = None) -> Scores:
    """Score saved masks: every PNG under `truth` against the one of the same name under `predictions`; see `evaluate_model`.

    Raises UserError for a missing folder or mask, a size that differs, or a label out of range; extra predictions do not count.
    """
    predictions, truth = Path(predictions), Path(truth)
    for folder in (predictions, truth):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of masks")
    paths = sorted(path for path in truth.iterdir() if path.suffix.lower() == ".png")
    if not paths:
        raise UserError(f"{truth}: holds no PNG masks")

    def read(path: Path):
        return read_mask(path, labels), read_mask(predictions / path.name, labels)

    each = []
    for index, (path, (expected, got)) in enumerate(zip(paths, ahead(read, paths), strict=True)):
        if expected.shape != got.shape:
            raise UserError(
                f"{predictions / path.name}: {got.shape[1]}x{got.shape[0]} pixels, its truth is "
                f"{expected.shape[1]}x{expected.shape[0]}; scores are taken at the size of the ground truth"
            )
        if ((got >= len(labels)) & (expected < len(labels))).any():
            raise UserError(
                f"{predictions / path.name}: predicts void (255) where the truth has a class; predict a class there"
            )
        each.append(ImageScore.of(path.stem, confusion_matrix(expected, got, len(labels))))
        if boundary:
            boundary.add(expected, got)
        if on_image:
            on_image(index)
    return Scores.over(labels, each)
