"""Scores of saved masks of any model: one confusion matrix over all images, each at its own size. Needs no torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..data.masks import read_mask
from ..errors import UserError
from ..labels import LabelSet, load
from ..threads import prefetch
from .boundary import Boundary
from .metrics import ImageScore, Scores, confusion_matrix
from .result import Evaluation

OnMask = Callable[[int, str, np.ndarray, np.ndarray], None]
"""Called with index, name, ground truth and prediction."""


def evaluate_folders(
    predictions: str | Path,
    truth: str | Path,
    labels: str = "voc",
    *,
    boundary: bool = False,
    on_image: OnMask | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a folder of saved masks.

    Args:
        predictions: see `evaluate_masks`.
        truth: see `evaluate_masks`.
        labels: label set: voc, or the path of a YAML file.
        boundary: also score boundaries.
        on_image: see `evaluate_masks`.
        progress: called with the number of masks done and of all, first with 0.

    Raises:
        UserError: as `evaluate_masks`, or the label set cannot be read.
    """
    label_set = load(labels)
    edges = Boundary(label_set) if boundary else None
    total = len(_mask_paths(Path(predictions), Path(truth)))

    def see(index: int, name: str, expected: np.ndarray, got: np.ndarray) -> None:
        if on_image:
            on_image(index, name, expected, got)
        if progress:
            progress(index + 1, total)

    if progress:
        progress(0, total)
    scores = evaluate_masks(predictions, truth, label_set, see, edges)
    return Evaluation(scores, edges, {"predictions": str(predictions), "truth": str(truth), "labels": labels})


def _mask_paths(predictions: Path, truth: Path) -> list[Path]:
    """Return the masks of the ground truth. Raises UserError for a missing or empty folder."""
    for folder in (predictions, truth):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of masks")
    paths = sorted(path for path in truth.iterdir() if path.suffix.lower() == ".png")
    if not paths:
        raise UserError(f"{truth}: contains no PNG masks")
    return paths


def evaluate_masks(
    predictions: str | Path,
    truth: str | Path,
    labels: LabelSet,
    on_image: OnMask | None = None,
    boundary: Boundary | None = None,
) -> Scores:
    """Score saved masks.

    Args:
        predictions: folder with a mask of the same file name for each of the ground truth; others are ignored.
        truth: folder of PNG masks.
        labels: the classes of both.
        on_image: called with index, name, ground truth and prediction uint8 [h, w] of each image, in order.
        boundary: if given, it adds up the boundary scores.

    Raises:
        UserError: a folder or mask is missing, sizes differ, or a label is out of range.
    """
    predictions, truth = Path(predictions), Path(truth)
    paths = _mask_paths(predictions, truth)

    def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
        return read_mask(path, labels), read_mask(predictions / path.name, labels.indexed)

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
