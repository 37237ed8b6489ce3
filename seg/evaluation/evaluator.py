"""Scores of a model on a split: one confusion matrix over all images, each at its own size."""

from torch import nn

from .. import distributed
from ..config import InferenceConfig
from ..data.voc import Split
from ..inference.predictor import masks_in_order, output_stride
from ..threads import BackgroundWorker, prefetch
from .boundary import Boundary
from .metrics import ImageScore, Scores, confusion_matrix


def evaluate_model(
    model: nn.Module, split: Split, policy: InferenceConfig, on_image=None, boundary: Boundary | None = None
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
    with output_stride(model, policy.output_stride), BackgroundWorker() as behind:
        samples = (((index, *sample), sample[0]) for index, sample in zip(mine, prefetch(split.sample, mine), strict=True))
        for (index, image, truth), mask in masks_in_order(model, samples, policy):
            behind(score, index, image, truth, mask)
    if boundary:
        boundary.gather()
    scored = {index: one for part in distributed.all_gather(each) for index, one in part.items()}
    return Scores.over(split.labels, [scored[index] for index in range(len(split))])
