"""Scores of predictions: confusion matrix, IoU, boundary quality, comparison."""

from typing import Any

from ..errors import no_attribute
from .metrics import ConfusionMatrix, Scores

__all__ = ["ConfusionMatrix", "Scores"]

_MIOU = "matrix = ConfusionMatrix(21); matrix.update(truth, prediction) for each image; matrix.scores().miou"
_HINTS = dict.fromkeys(("mIoU", "miou", "mean_iou", "MeanIoU", "iou", "IoU", "JaccardIndex", "Evaluator", "SegMetrics"), _MIOU)


def __getattr__(name: str) -> Any:
    raise no_attribute(__name__, name, _HINTS, __all__)
