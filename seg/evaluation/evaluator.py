"""Scores of a model on a split: one confusion matrix over all images, each at its own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from torch import nn

from .. import distributed
from ..config import InferenceConfig
from ..data.voc import Split, open_split, save_mask
from ..inference.predictor import masks_in_order, output_stride
from ..runtimes.models import open_runtime
from ..threads import BackgroundWorker, prefetch
from .boundary import Boundary
from .metrics import ImageScore, Scores, confusion_matrix
from .result import Evaluation

OnImage = Callable[[int, np.ndarray, np.ndarray, np.ndarray], None]
"""Called for each image, in order, with its index, RGB uint8 [h, w, 3], truth and prediction uint8 [h, w]."""


def evaluate_weights(
    weights: str | Path,
    overrides: Sequence[str] = (),
    *,
    runtime: str | None = None,
    data: str | Path | None = None,
    split: str | None = None,
    boundary: bool = False,
    save_masks: str | Path | None = None,
    on_split: Callable[[Split], None] | None = None,
    on_image: OnImage | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score the model in a file on a split.

    Several processes split the images between them; each returns the scores of all images, and sees its own.

    Args:
        weights: as `runtimes.models.open_runtime` takes them.
        overrides: strings KEY=VALUE that replace settings of the training, such as "evaluate.flip=true".
        runtime: inference engine, one of `runtimes.models.RUNTIMES`; None: PyTorch.
        data: folder in VOC layout; None: as trained.
        split: list in ImageSets/Segmentation; None: the validation split of the training.
        boundary: also score boundaries.
        save_masks: folder to which each prediction is written as a palette PNG.
        on_split: called with the split before the first image; an error that it raises ends the evaluation.
        on_image: see `OnImage`.
        progress: called with the number of images done and of all, first with 0.

    Raises:
        UserError: weights, data or a setting cannot be used.
    """
    model, metadata = open_runtime(weights, runtime, overrides)
    settings, labels = metadata.config, metadata.labels
    samples = open_split(data or settings.data.root, split or settings.data.val, labels, settings.data.masks)
    if on_split:
        on_split(samples)
    edges = Boundary(labels) if boundary else None

    def see(index: int, image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> None:
        if save_masks:
            save_mask(Path(save_masks) / f"{samples.ids[index]}.png", prediction, labels)
        if on_image:
            on_image(index, image, truth, prediction)
        if progress:
            progress(index + 1, len(samples))

    if progress:
        progress(0, len(samples))
    scores = evaluate_model(model, samples, settings.evaluate, see, edges)
    made_with = {"weights": str(weights), "data": str(samples.root), "split": samples.name} | asdict(settings.evaluate)
    return Evaluation(scores, edges, made_with | {"output_stride": settings.evaluate.output_stride or model.output_stride})


def evaluate_model(
    model: nn.Module, split: Split, config: InferenceConfig, on_image: OnImage | None = None, boundary: Boundary | None = None
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
    mine = range(distributed.rank(), len(split), distributed.world_size())
    with output_stride(model, config.output_stride), BackgroundWorker() as behind:
        samples = (((index, *sample), sample[0]) for index, sample in zip(mine, prefetch(split.sample, mine), strict=True))
        for (index, image, truth), mask in masks_in_order(model, samples, config):
            behind(score, index, image, truth, mask)
    if boundary:
        boundary.gather()
    scored = {index: one for part in distributed.all_gather(each) for index, one in part.items()}
    return Scores.over(split.labels, [scored[index] for index in range(len(split))])
