"""Scores of saved masks of any model: one confusion matrix over all images, each at its own size. Needs no torch."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.inventory import MASK_SUFFIXES
from ..data.label_mapping import labels_file, map_by_name, mapping_notes
from ..data.masks import read_mask
from ..data.voc import LISTS, files_of, list_file, mask_folder, read_ids
from ..errors import UserError
from ..labels import VOID, LabelSet, load
from ..progress import print_stderr
from ..threads import prefetch
from .boundary import Boundary
from .metrics import ImageScore, Scores, confusion_matrix
from .predictions import Pair, labels_of, pair_predictions, read_prediction, size_of
from .result import Evaluation

OnMask = Callable[[int, str, np.ndarray, np.ndarray], None]
"""Called with index, name, ground truth and prediction."""


def evaluate_folders(
    predictions: str | Path,
    truth: str | Path,
    labels: str | None = None,
    *,
    split: str | None = None,
    pair: str | None = None,
    resize: bool = False,
    boundary: bool = False,
    on_image: OnMask | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a folder of saved masks.

    Args:
        predictions: see `evaluate_masks`. If a labels.yaml there or the masks themselves name their classes
            (`seg evaluate --save-masks` writes the names), classes are matched by name.
        truth: folder of masks, or a data set in VOC layout.
        labels: label set: the name of a built-in one, or the path of a YAML file. None: labels.yaml in the data set or the
            folder of the truth, or else voc.
        split: list of the data set that the truth belongs to; None: every mask of the truth.
        pair: see `evaluate_masks`.
        resize: see `evaluate_masks`.
        boundary: also score boundaries.
        on_image: see `evaluate_masks`.
        progress: called with the number of masks done and of all, first with 0.

    Raises:
        UserError: as `evaluate_masks`, or a label set or the split cannot be read, or the classes differ.
    """
    predictions, truth = Path(predictions), Path(truth)
    root = truth if (truth / LISTS).is_dir() else truth.parent
    folder = mask_folder(root, None) if root == truth else truth
    source = labels or next((str(path) for path in map(labels_file, (truth, root)) if path), "voc")
    label_set = load(source)
    ids = read_ids(list_file(root, split), files_of(folder, MASK_SUFFIXES))[0] if split else None
    pairs = pair_predictions(predictions, folder, pair, ids)
    theirs = _labels_of(predictions, pairs[0].prediction, label_set.indexed)
    edges = Boundary(label_set) if boundary else None
    resized = Resized() if resize else None

    def see(index: int, name: str, expected: np.ndarray, got: np.ndarray) -> None:
        if on_image:
            on_image(index, name, expected, got)
        if progress:
            progress(index + 1, len(pairs))

    if progress:
        progress(0, len(pairs))
    scores = score_pairs(pairs, label_set, theirs, see, edges, resized)
    settings = {"predictions": str(predictions), "truth": str(truth), "labels": source}
    if split:
        settings["split"] = split
    if resized and resized.count:
        settings["resize_predictions"] = resized.note(label_set)
        print_stderr(f"note: {settings['resize_predictions']}")
    return Evaluation(scores, edges, settings)


def _labels_of(predictions: Path, first: Path, truth: LabelSet) -> LabelSet:
    """The label set that reads the predictions: as class indices of the truth, or by their own class names."""
    found = labels_of(predictions, first)
    if found is None:
        return truth
    theirs, place = found
    names = "predictions", "ground truth"
    mapped = map_by_name(theirs, truth, str(place), *names)
    for note in mapping_notes(theirs, truth, *names):
        print_stderr(f"note: {place}: {note}")
    return mapped


class Resized:
    """Resizes predictions to their truth by nearest neighbor, and measures the loss.

    The loss is measured by the mIoU of a perfect mask, resized to the prediction's size and back.
    """

    def __init__(self) -> None:
        self.count = 0
        self._first = ""
        self._distorted = 0
        self._perfect: list[ImageScore] = []

    def __call__(self, path: Path, expected: np.ndarray, got: np.ndarray, num_classes: int) -> np.ndarray:
        """The prediction at the size of its truth."""
        best = expected
        if got.shape != expected.shape:
            height, width = expected.shape
            self.count += 1
            self._first = self._first or f"{path} from {got.shape[1]}x{got.shape[0]} to {width}x{height}"
            self._distorted += abs(got.shape[1] * height / (got.shape[0] * width) - 1) > 0.05
            best = _nearest(_nearest(expected, got.shape), expected.shape)
            got = _nearest(got, expected.shape)
        seen = np.where(best == VOID, np.uint8(VOID), expected)
        self._perfect.append(ImageScore.of(path.stem, confusion_matrix(seen, best, num_classes)))
        return got

    def note(self, labels: LabelSet) -> str:
        """Describe the resizing and its effect on the score."""
        limit = Scores.over(labels, self._perfect).miou
        text = (
            f"{self.count} of {len(self._perfect)} predictions were resized to their truth by nearest neighbor "
            f"({self._first}). The ground truth itself, resized so and back, scores mIoU {100 * limit:.2f} %: for the "
            "model's own score, predict at the size of the image"
        )
        odd = f"; {self._distorted} have another aspect ratio: are they cropped or turned?"
        return text + (odd if self._distorted else "")


def _nearest(mask: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize((shape[1], shape[0]), Image.Resampling.NEAREST))


def evaluate_masks(
    predictions: str | Path,
    truth: str | Path,
    labels: LabelSet,
    on_image: OnMask | None = None,
    boundary: Boundary | None = None,
    *,
    pair: str | None = None,
    resized: Resized | None = None,
) -> Scores:
    """Score saved masks.

    Args:
        predictions: folder with a mask for each of the ground truth, in PNG, BMP, TIFF or GIF, or as .npy: integers [H, W]. See
            `pair_predictions` for the names; others are ignored.
        truth: folder of masks, and of folders of masks.
        labels: the classes of both. Predictions hold class indices.
        on_image: called with index, name, ground truth and prediction uint8 [h, w] of each image, in order.
        boundary: if given, it adds up the boundary scores.
        pair: names of the predictions, as `{stem}_pred.png`.
        resized: if given, predictions of another size are resized; None: they are refused.

    Raises:
        UserError: a folder or mask is missing, a prediction is lossy or no class map, sizes differ, or a label is out of range.
    """
    pairs = pair_predictions(Path(predictions), Path(truth), pair)
    return score_pairs(pairs, labels, labels.indexed, on_image, boundary, resized)


def score_pairs(
    pairs: Sequence[Pair],
    labels: LabelSet,
    theirs: LabelSet,
    on_image: OnMask | None = None,
    boundary: Boundary | None = None,
    resized: Resized | None = None,
) -> Scores:
    """Score pairs of files; `theirs` is how predictions are read. See `evaluate_masks`."""
    if resized is None:
        _refuse_sizes(pairs, len(labels))

    def read(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        return read_mask(pair.truth, labels), read_prediction(pair.prediction, theirs)

    each = []
    for index, (pair, (expected, got)) in enumerate(zip(pairs, prefetch(read, pairs), strict=True)):
        if resized:
            got = resized(pair.prediction, expected, got, len(labels))
        if ((got >= len(labels)) & (expected < len(labels))).any():
            raise UserError(f"{pair.prediction}: predicts void (255) where the truth has a class; predict a class there")
        each.append(ImageScore.of(pair.name, confusion_matrix(expected, got, len(labels))))
        if boundary:
            boundary.add(expected, got)
        if on_image:
            on_image(index, pair.name, expected, got)
    return Scores.over(labels, each)


def _refuse_sizes(pairs: Sequence[Pair], num_classes: int) -> None:
    """Raise UserError if predictions have another size than their truth."""

    def sizes(pair: Pair) -> tuple[tuple[int, int], tuple[int, int]]:
        return size_of(pair.prediction, num_classes), size_of(pair.truth, num_classes)

    found = [(pair, *both) for pair, both in zip(pairs, prefetch(sizes, pairs), strict=True) if both[0] != both[1]]
    if not found:
        return
    pair, got, wanted = found[0]
    by = " and ".join(f"{new / old:.3g} times as {how}" for new, old, how in zip(got, wanted, ("wide", "high"), strict=True))
    more = f" ({len(found)} of {len(pairs)} differ)" if len(pairs) > 1 else ""
    raise UserError(
        f"{pair.prediction}: {got[0]}x{got[1]} pixels, its truth is {wanted[0]}x{wanted[1]}, so it is {by}{more}. Scores are "
        "computed at the size of the ground truth: predict at that size, or add --resize-predictions, which reports the loss"
    )
