"""Losses over the pixels that are not void."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..classes import VOID
from ..config import TrainConfig
from ..errors import UserError

WEIGHT_POWER, WEIGHT_RANGE = 0.5, (0.3, 3.0)


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """float32 [classes] from pixel counts [images, classes]: (median frequency / frequency) ^ 0.5, clipped to 0.3..3.

    The frequency of a class is its share of the pixels of the images that have it (arXiv 1411.4734 section 6.3.2); a class
    in no image gets 1.
    """
    present = counts > 0
    pixels = (present * counts.sum(1, keepdims=True)).sum(0)
    frequency = counts.sum(0) / np.maximum(pixels, 1)
    found = frequency > 0
    weights = np.ones(counts.shape[1], np.float32)
    ratio = np.median(frequency[found]) / frequency[found]
    weights[found] = np.clip(ratio**WEIGHT_POWER, *WEIGHT_RANGE)
    return weights


def cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None, pixels: Tensor | None = None) -> Tensor:
    """Sum over the pixels that are not void, divided by their number over the whole batch; 0 where there is none.

    logits [N, C, H, W], target [N, H, W]. Class weights multiply the sum alone, as in the released code: the divisor stays
    the number of pixels. `pixels`: the divisor, where this is but a part of the batch; None: of these.
    """
    total = F.cross_entropy(logits, target, weights, ignore_index=VOID, reduction="sum")
    return total / ((target != VOID).sum().clamp(min=1) if pixels is None else pixels)


class Loss(nn.Module):
    """Weighted sum of the configured losses: full-size logits [N, C, H, W] and target [N, H, W] -> scalar.

    dice, jaccard, lovasz and focal are segmentation-models-pytorch's, over the batch's pixels that are not void; each is 0
    where all are void. For a part of a batch, `pixels` is the cross-entropy's divisor and `parts` that of the others.
    `counts` (pixels [images, classes] of the training masks) serves `class_weights: balanced`.
    """

    def __init__(self, config: TrainConfig, counts: np.ndarray):
        super().__init__()
        self.parts = {name: weight for name, weight in (config.loss or {"cross_entropy": 1.0}).items() if weight}
        weights = config.class_weights
        if weights == "balanced":
            weights = balanced_weights(counts)
        elif weights is not None and len(weights) != counts.shape[1]:
            raise UserError(f"train.class_weights: {len(weights)} numbers for {counts.shape[1]} classes; give one a class")
        self.register_buffer("class_weights", None if weights is None else torch.tensor(weights, dtype=torch.float32))
        self.library = library_losses(self.parts)

    def forward(self, logits: Tensor, target: Tensor, pixels: Tensor | None = None, parts: int = 1) -> Tensor:
        total = 0.0
        if "cross_entropy" in self.parts:
            total = self.parts["cross_entropy"] * cross_entropy(logits, target, self.class_weights, pixels)
        if not self.library:
            return total
        # The library's losses differ in how, and whether, they leave out a label: all get the labelled pixels as one row.
        labelled = target != VOID
        if not labelled.any():
            return total + 0.0 * logits.sum()
        row, truth = logits.movedim(1, 3)[labelled].T[None, :, None], target[labelled][None, None]
        for name, loss in self.library.items():
            total = total + self.parts[name] / parts * loss(row, truth)
        return total


def library_losses(names) -> dict:
    """segmentation-models-pytorch's loss for each name that is one. Importing it costs seconds, so only these do."""
    classes = {"dice": "DiceLoss", "jaccard": "JaccardLoss", "lovasz": "LovaszLoss", "focal": "FocalLoss"}
    wanted = [name for name in names if name in classes]
    if not wanted:
        return {}
    from segmentation_models_pytorch import losses

    return {name: getattr(losses, classes[name])(mode="multiclass") for name in wanted}
