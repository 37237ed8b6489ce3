"""Scores of saved masks, of any model: one confusion matrix over all images, each at its own size. Needs no torch."""

from pathlib import Path

from ..data.images import read_mask
from ..errors import UserError
from ..labels import LabelSet
from ..threads import prefetch
from .boundary import Boundary
from .metrics import ImageScore, Scores, confusion_matrix


def evaluate_masks(predictions, truth, labels: LabelSet, on_image=None, boundary: Boundary | None = None) -> Scores:
    """Score saved masks: every PNG under `truth` against the one of the same name under `predictions`.

    Raises UserError for a missing folder or mask, a size that differs, or a label out of range; extra predictions do not count.
    `on_image(index, name, truth, prediction)` sees each, in order.
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
    for index, (path, (expected, got)) in enumerate(zip(paths, prefetch(read, paths), strict=True)):
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
            on_image(index, path.stem, expected, got)
    return Scores.over(labels, each)
