"""Scores of a model on a split: one confusion matrix over all images, each at its own size."""

from torch import nn

from .. import distributed
from ..config import EvaluateConfig
from ..data.voc import Split
from ..parallel import Behind, ahead
from .boundary import Boundary
from .confusion import ImageScore, Scores, confusion_matrix
from .policy import masks_in_order, output_stride


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
        samples = (((index, *sample), sample[0]) for index, sample in zip(mine, ahead(split.sample, mine), strict=True))
        for (index, image, truth), mask in masks_in_order(model, samples, policy):
            behind(score, index, image, truth, mask)
    if boundary:
        boundary.gather()
    scored = {index: one for part in distributed.every(each) for index, one in part.items()}
    return Scores.over(split.labels, [scored[index] for index in range(len(split))])
