"""Scores a model on a split: one confusion matrix over all images, each at its original size."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import distributed
from ..data.images import read_image
from ..data.label_mapping import labels_file, map_by_name, mapping_notes
from ..data.range_notes import RangeNotes
from ..data.voc import Split, open_split, save_mask
from ..errors import UserError
from ..files import expand
from ..inference.predictor import Predictor
from ..labels import LabelSet, load
from ..progress import print_stderr
from ..threads import BackgroundWorker, prefetch
from .boundary import Boundary
from .calibration import Calibration
from .metrics import ImageScore, Scores, confusion_matrix
from .predictions import CLASSES
from .result import Evaluation

CONTAINED = {"trainval": ("train", "val", "trainval")}
"""For each training split, the splits whose images it contains."""
OnImage = Callable[[int, np.ndarray, np.ndarray, np.ndarray], None]
"""Called with index, image, ground truth and prediction."""


def evaluate_model(
    predictor: Predictor,
    split: Split,
    on_image: OnImage | None = None,
    boundary: Boundary | None = None,
    calibration: Calibration | None = None,
    read: Callable[[Path], np.ndarray] = read_image,
) -> Scores:
    """Score a model on every image of a split.

    Several processes share the images; each image is scored once.

    Args:
        predictor: the model with its inference configuration.
        split: images and masks.
        on_image: called with index, image uint8 [h, w, 3], ground truth and prediction uint8 [h, w] of each image of this
            process, in order, in a background thread.
        boundary: if given, it adds up the boundary scores.
        calibration: if given, it measures confidence and accuracy.
        read: reads an image.

    Returns:
        The scores over the images of all processes, on each process.

    Raises:
        UserError: an image or mask cannot be read, or they differ in size.
    """
    num_classes = len(split.labels)
    each: dict[int, ImageScore] = {}

    def score(index: int, image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> None:
        each[index] = ImageScore.of(split.ids[index], confusion_matrix(truth, prediction, num_classes))
        if boundary:
            boundary.add(truth, prediction)
        if on_image:
            on_image(index, image, truth, prediction)

    # While the network runs, the next images are decoded and the last ones scored.
    mine = range(distributed.rank(), len(split), distributed.world_size())
    with BackgroundWorker() as worker:
        read_samples = prefetch(lambda index: split.sample(index, read), mine)
        samples = (((index, *sample), sample[0]) for index, sample in zip(mine, read_samples, strict=True))
        if calibration:
            predicted: Any = ((sample, calibration.add(predictor, *sample[1:])) for sample, _ in samples)
        else:
            predicted = predictor.stream(samples)
        for (index, image, truth), mask in predicted:
            worker(score, index, image, truth, mask)
    if boundary:
        boundary.gather()
    if calibration:
        calibration.gather()
    scored = {index: one for part in distributed.all_gather(each) for index, one in part.items()}
    return Scores.over(split.labels, [scored[index] for index in range(len(split))])


def evaluate_split(
    predictor: Predictor,
    data: str | Path | None = None,
    split: str | None = None,
    *,
    boundary: bool = False,
    calibrated: bool = False,
    save_masks: str | Path | None = None,
    labels: str | None = None,
    on_split: Callable[[Split], None] | None = None,
    on_image: OnImage | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a model on a split of a data set.

    Args:
        predictor: the model with its inference configuration.
        data: folder in VOC layout; None is that of the training.
        split: list in ImageSets/Segmentation; None is the validation split of the training.
        boundary: also score boundaries.
        calibrated: also measure the calibration, and fit a temperature.
        save_masks: folder to which each prediction is written as a palette PNG with the names of its classes.
        labels: label set of the data: the name of a built-in one, or the path of a YAML file. None: labels.yaml in the data
            set, or else the model's. Classes are matched by name.
        on_split: called with the split before the first image; an error that it raises ends the evaluation.
        on_image: see `evaluate_model`.
        progress: called with the number of images done and of all, first with 0.

    Returns:
        The scores, the boundary scores, the calibration, and the settings that they were made with.

    Raises:
        UserError: the data cannot be read, its classes are not the model's, or `data` or `split` is None for a model that does
            not know its training data.
    """
    predictor = predictor.native()
    samples = _open_data(predictor, data, split, labels)
    if on_split:
        on_split(samples)
    edges = Boundary(predictor.labels) if boundary else None
    calibration = Calibration(predictor.temperature) if calibrated else None
    names = json.dumps(predictor.labels.names)

    def see(index: int, image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> None:
        if save_masks:
            save_mask(Path(save_masks) / f"{samples.ids[index]}.png", prediction, predictor.labels, **{CLASSES: names})
        if on_image:
            on_image(index, image, truth, prediction)
        if progress:
            progress(index + 1, len(samples))

    if progress:
        progress(0, len(samples))
    notes = RangeNotes()
    scores = evaluate_model(predictor, samples, see, edges, calibration, notes.read)
    for note in notes.lines():
        print_stderr(f"note: {note}")
    return Evaluation(scores, edges, _settings(predictor, samples, labels), calibration)


def _settings(predictor: Predictor, samples: Split, labels: str | None) -> dict[str, Any]:
    """Settings of an evaluation: the network, the data, and the inference."""
    config = predictor.metadata.config if predictor.metadata else None
    settings: dict[str, Any] = {"run": config.name, "network": config.model.title} if config else {}
    settings |= {"data": str(samples.root), "split": samples.name} | ({"labels": labels} if labels else {})
    # Every image is scored: only validations during a training take a share.
    return settings | {key: value for key, value in asdict(predictor.config).items() if key != "every_nth"}


def _open_data(predictor: Predictor, data: str | Path | None, split: str | None, labels: str | None) -> Split:
    """The split to score; see `evaluate_split`."""
    metadata = predictor.metadata
    if metadata is None and (data is None or split is None):
        raise UserError("this model does not know its training data; give the data folder and the split")
    trained = metadata.config.data if metadata else None
    root, name = data or (metadata.data_root() if metadata else ""), split or (trained.val if trained else "")
    samples = open_split(root, name, _data_labels(predictor, root, labels), trained.masks if trained else None)
    if trained and name in CONTAINED.get(trained.train, ()) and distributed.is_main():
        print_stderr(f"note: the model was trained on {trained.train}, which contains {name}: this score is not valid")
    return samples


def _data_labels(predictor: Predictor, root: str | Path, labels: str | None) -> LabelSet:
    """The label set that reads the masks of a data set as the model's classes; see `evaluate_split`."""
    trained = predictor.metadata.config.data if predictor.metadata else None
    path = labels_file(root)
    if labels is None and path and trained and path.parent.resolve() == expand(trained.root).resolve():
        path = path if expand(trained.labels).resolve() == path.resolve() else None  # trained there with another label set
    source = labels or (str(path) if path else None)
    if source is None:
        return predictor.labels
    data = load(source)
    mapped = map_by_name(data, predictor.labels, source)
    for note in mapping_notes(data, predictor.labels) if distributed.is_main() else ():
        print_stderr(f"note: {source}: {note}")
    return mapped
