"""Losses over all pixels except void, from logits of any stride."""

import functools
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import TrainConfig
from ..errors import UserError, did_you_mean
from ..labels import VOID
from ..models.ops.resize import resize
from .tiled_cross_entropy import TiledCrossEntropy

WEIGHT_POWER, WEIGHT_RANGE = 0.5, (0.3, 3.0)


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """Class weights that favor rare classes: (median frequency / frequency) ^ 0.5, clipped to 0.3 .. 3.

    The frequency of a class is its share of the pixels of the images that contain it (arXiv 1411.4734, section 6.3.2).

    Args:
        counts: int [images, classes], pixels of each class in each image.

    Returns:
        float32 [classes]; 1 for a class that no image contains.
    """
    present = counts > 0
    pixels = (present * counts.sum(1, keepdims=True)).sum(0)
    frequency = counts.sum(0) / np.maximum(pixels, 1)
    found = frequency > 0
    weights = np.ones(counts.shape[1], np.float32)
    ratio = np.median(frequency[found]) / frequency[found]
    weights[found] = np.clip(ratio**WEIGHT_POWER, *WEIGHT_RANGE)
    return weights


def cross_entropy(
    logits: Tensor, target: Tensor, weights: Tensor | None = None, pixels: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy over the pixels that are not void; 0 if there is none.

    The logits are resized to the target's size, bilinear with aligned corners, a tile at a time: full-size logits are never
    stored. The gradient is computed in the forward pass, so that there is no second derivative.

    Args:
        logits: [N, C, h, w], of any float type and any stride: `net.logits(images)`.
        target: uint8 or int64 [N, H, W], class index, or 255 for void, which is ignored.
        weights: float [C], weight of each class in the sum. The divisor stays the number of pixels, as in the released code.
        pixels: scalar, the divisor, if this is a part of a larger batch; None: the number of labeled pixels in `target`.
        smoothing: share of each target that is spread over all classes, 0 to below 1 (arXiv 1512.00567, section 7): the
            `label_smoothing` of torch's cross_entropy.

    Returns:
        A scalar, computed in float32, or in float64 for such logits. The gradient has the logits' type.

    Raises:
        ValueError: if the shapes do not fit, or, on a CPU, a class index is out of range.
    """
    if logits.ndim != 4 or target.ndim != 3 or len(logits) != len(target):
        raise ValueError(f"logits must be [N, C, h, w] and target [N, H, W], not {list(logits.shape)} and {list(target.shape)}")
    classes = logits.shape[1]
    if target.device.type == "cpu" and ((target != VOID) & ((target < 0) | (target >= classes))).any():
        raise ValueError(f"target must hold class indices below {classes}, or 255 for void, not {target.unique().tolist()}")
    total: Tensor = TiledCrossEntropy.apply(logits, target, weights, smoothing)
    return total / ((target != VOID).sum().clamp(min=1) if pixels is None else pixels)


def hard_share(iteration: int, config: TrainConfig) -> float:
    """Return the share of pixels that count in an iteration, counted from 0; it decreases linearly to `hard_pixels`."""
    fallen = min(1.0, iteration / config.hard_pixels_steps) if config.hard_pixels_steps else 1.0
    return 1 - fallen * (1 - config.hard_pixels)


def hard_cross_entropy(
    logits: Tensor, target: Tensor, share: float, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy of the pixels with the largest cross-entropy, as in the released code; 0 if there are none.

    The logits are computed at full size. The share is of all pixels; void pixels count as 0. The mean is over the chosen pixels
    whose cross-entropy is not 0.

    Args:
        logits, target, weights, smoothing: as for `cross_entropy`.
        share: of the pixels, above 0 to 1.
    """
    logits = resize(logits.to(torch.promote_types(logits.dtype, torch.float32)), target.shape[1:])
    each = functional.cross_entropy(
        logits, target.long(), weights, ignore_index=VOID, reduction="none", label_smoothing=smoothing
    ).flatten()
    hardest = each.topk(max(1, int(share * each.numel())), sorted=False).values
    return hardest.sum() / (hardest != 0).sum().clamp(min=1)


class Loss(nn.Module):
    """Weighted sum of the configured losses.

    dice, jaccard, lovasz and focal are those of segmentation-models-pytorch, over the labeled pixels of the batch. They need
    the logits at full size.

    Args:
        config: loss, class_weights and label_smoothing.
        counts: int [images, classes], pixels of the training masks, for `class_weights: balanced`.
        names: of the classes, for `class_weights` by name.

    Raises:
        UserError: if class_weights has another number of classes, or names no class.
    """

    def __init__(self, config: TrainConfig, counts: np.ndarray, names: Sequence[str] = ()):
        super().__init__()
        self.parts = {name: weight for name, weight in config.loss.items() if weight}
        weights = config.class_weights
        if weights == "balanced":
            weights = balanced_weights(counts)
        elif isinstance(weights, dict):
            for name in weights:
                if name not in names:
                    raise UserError(f"train.class_weights.{name}: not a class{did_you_mean(str(name), names)}")
            weights = [float(weights.get(name, 1)) for name in names]
        elif weights is not None and len(weights) != counts.shape[1]:
            raise UserError(f"train.class_weights: {len(weights)} numbers for {counts.shape[1]} classes; give one per class")
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", None if weights is None else torch.tensor(weights, dtype=torch.float32))
        self.smoothing = config.label_smoothing
        self.mines = config.hard_pixels < 1
        self.share = 1.0
        """Share of the pixels that count in the cross-entropy: `hard_share` of the iteration."""
        self.library = library_losses(self.parts)

    def forward(self, logits: Tensor, target: Tensor, pixels: Tensor | None = None, parts: int = 1) -> Tensor:
        """The loss of a batch, or of one part of it; each loss is 0 where all pixels are void.

        Args:
            logits: [N, C, h, w], of any stride.
            target: uint8 or int64 [N, H, W], class index or 255.
            pixels: scalar, number of labeled pixels in the whole batch, if this is a part of it.
            parts: number of parts of the batch. The losses of the library and the loss of hard pixels are not sums over pixels:
                they are averaged over the parts.
        """
        terms = []
        if "cross_entropy" in self.parts:
            if self.mines:
                entropy = hard_cross_entropy(logits, target, self.share, self.class_weights, self.smoothing) / parts
            else:
                entropy = cross_entropy(logits, target, self.class_weights, pixels, self.smoothing)
            terms.append(self.parts["cross_entropy"] * entropy)
        if self.library:
            terms += self._library_terms(logits, target, parts)
        return functools.reduce(torch.add, terms)

    def _library_terms(self, logits: Tensor, target: Tensor, parts: int) -> list[Tensor]:
        # The library's losses differ in whether and how they ignore a label: all get the labeled pixels as one row.
        labeled = target != VOID
        if not labeled.any():
            return [0.0 * logits.sum()]
        logits = resize(logits.to(torch.promote_types(logits.dtype, torch.float32)), target.shape[1:])
        row, truth = logits.movedim(1, 3)[labeled].T[None, :, None], target[labeled].long()[None, None]
        return [self.parts[name] / parts * loss(row, truth) for name, loss in self.library.items()]


def library_losses(names: Iterable[str]) -> dict[str, nn.Module]:
    """Return the losses of segmentation-models-pytorch in `names`. The library takes seconds to import, so only if needed."""
    classes = {"dice": "DiceLoss", "jaccard": "JaccardLoss", "lovasz": "LovaszLoss", "focal": "FocalLoss"}
    wanted = [name for name in names if name in classes]
    if not wanted:
        return {}
    from segmentation_models_pytorch import losses

    return {name: getattr(losses, classes[name])(mode="multiclass") for name in wanted}
