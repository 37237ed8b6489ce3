"""Scores of a model on a split: one confusion matrix over all images, each at its own size."""

from collections.abc import Callable

import numpy as np

from .. import distributed
from ..data.voc import Split
from ..inference.predictor import Predictor
from ..threads import BackgroundWorker, prefetch
from .boundary import Boundary
from .metrics import ImageScore, Scores, confusion_matrix

OnImage = Callable[[int, np.ndarray, np.ndarray, np.ndarray], None]
"""Called with index, image, ground truth and prediction."""


def evaluate_model(
    predictor: Predictor, split: Split, on_image: OnImage | None = None, boundary: Boundary | None = None
) -> Scores:
    """Score a model on every image of a split.

    Several processes share the images; each image is scored once.

    Args:
        predictor: the model with its inference configuration.
        split: images and masks.
        on_image: called with index, image uint8 [h, w, 3], ground truth and prediction uint8 [h, w] of each image of this
            process, in order, in a background thread.
        boundary: if given, it adds up the boundary scores.

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

    # While the network works, the next images are decoded and the last ones scored.
    mine = range(distributed.rank(), len(split), distributed.world_size())
    with BackgroundWorker() as worker:
        samples = (((index, *sample), sample[0]) for index, sample in zip(mine, prefetch(split.sample, mine), strict=True))
        for (index, image, truth), mask in predictor.stream(samples):
            worker(score, index, image, truth, mask)
    if boundary:
        boundary.gather()
    scored = {index: one for part in distributed.all_gather(each) for index, one in part.items()}
    return Scores.over(split.labels, [scored[index] for index in range(len(split))])
