"""Losses over the pixels that are not void, from logits of any stride."""

import functools
import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..config import TrainConfig
from ..errors import UserError
from ..labels import VOID
from ..models.layers import resize

TILE = {"cpu": 21 * 64 * 128, "gpu": 2**23}
"""Full-size logits that exist at a time. On a processor 2/3 MiB of float32, which its own cache keeps from one operation to the
next; on a GPU 32 MiB, so that launches are few: a whole crop of 513 pixels square and 21 classes."""
LOG2_E = 1 / math.log(2)
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


def cross_entropy(
    logits: Tensor, target: Tensor, weights: Tensor | None = None, pixels: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Sum over the pixels that are not void, divided by their number over the whole batch; 0 where there is none.

    logits [N, C, h, w] of any float type, target [N, H, W] of class indices and VOID. The logits count as resized to H, W by
    `resize`, but only a tile of them is at a time; the gradient is made with the sum, so that there is no second derivative.
    Computed in float32, or in float64 where the logits are; the gradient has the logits' type.
    Class weights multiply the sum alone, as in the released code: the divisor stays the number of pixels. `pixels`: the
    divisor, where this is but a part of the batch; None: of these. `smoothing`: the share of each target that all classes
    get (arXiv 1512.00567, section 7), by `label_smoothing` of torch's cross_entropy, which weighs it by class too.
    """
    total = TiledCrossEntropy.apply(logits, target, weights, smoothing)
    return total / ((target != VOID).sum().clamp(min=1) if pixels is None else pixels)


class TiledCrossEntropy(torch.autograd.Function):
    """The sum of `cross_entropy`. For the backward pass it keeps the gradient of the logits as they came, not resized."""

    @staticmethod
    def forward(ctx, logits, target, weights, smoothing):
        dtype, device, classes = torch.promote_types(logits.dtype, torch.float32), logits.device, logits.shape[1]
        shares = SmoothedTargets(weights, smoothing, classes, dtype, device)
        gradient = torch.zeros_like(logits, dtype=dtype) if ctx.needs_input_grad[0] else None
        # Twice as wide as high: the larger of the two matrix products then has long rows.
        side = (TILE["cpu" if device.type == "cpu" else "gpu"] / classes / 2) ** 0.5
        rows = stretches(logits.shape[2], target.shape[1], side, dtype, device)
        columns = stretches(logits.shape[3], target.shape[2], 2 * side, dtype, device)
        sums = []
        with torch.autocast(device.type, enabled=False):
            for index in range(len(logits)):
                bits = logits[index].to(dtype).contiguous() * LOG2_E
                for (to_y, of_y, down), (to_x, of_x, across) in itertools.product(rows, columns):
                    tile = enlarged(bits[:, of_y, of_x], down, across)
                    label = target[index, to_y, to_x].reshape(-1).long()
                    sums += shares.entropy(tile.view(classes, -1), label, gradient is not None)
                    if gradient is not None:
                        gradient[index, :, of_y, of_x] += reduced(tile, down, across)
        ctx.dtype = logits.dtype
        ctx.save_for_backward(gradient)
        return torch.stack(sums).sum() / LOG2_E

    @staticmethod
    @once_differentiable
    def backward(ctx, scale):
        # Rounded once, after the scaling.
        return (ctx.saved_tensors[0] * scale).to(ctx.dtype), None, None, None


class SmoothedTargets:
    """What each class counts in the cross-entropy of a pixel, by the pixel's label: nothing where that is void."""

    def __init__(self, weights: Tensor | None, smoothing: float, classes: int, dtype: torch.dtype, device: torch.device):
        self.weights = torch.ones(classes, dtype=dtype, device=device) if weights is None else weights.to(dtype)
        self.spread = smoothing / classes
        self.own = torch.zeros(VOID + 1, dtype=dtype, device=device)
        self.own[:classes] = (1 - smoothing) * self.weights
        self.whole = self.own.clone()
        self.whole[:classes] += self.spread * self.weights.sum()

    def entropy(self, tile: Tensor, label: Tensor, gradient: bool) -> list[Tensor]:
        """Summands of the sum, in bits, over the pixels of logits [C, pixels], in bits, and labels int64 [pixels].

        The logits are overwritten: where it is wanted, with the gradient by the logits in natural units. In bits because exp2
        is four times as fast as exp.
        """
        void = label == VOID
        own = self.own.index_select(0, label)
        whole = self.whole.index_select(0, label) if self.spread else own
        label = label.masked_fill(void, 0)[None]
        tile -= tile.amax(0)
        sums = [-own.dot(tile.gather(0, label)[0])]
        if self.spread:
            spread = self.spread * (~void).to(tile.dtype)
            sums.append(-spread.dot(self.weights @ tile))
        exponentials = tile.exp2_().sum(0)
        sums.append(whole.dot(exponentials.log2()))
        if gradient:
            tile *= whole / exponentials
            tile.scatter_add_(0, label, -own[None])
            if self.spread:
                tile.addr_(self.weights, spread, alpha=-1)
        return sums


@functools.lru_cache(maxsize=64)
def stretches(size: int, wanted: int, length: float, dtype: torch.dtype, device: torch.device) -> list[tuple]:
    """How an axis of `size` is resized to `wanted` with aligned corners, in even stretches of about `length`.

    Of each: its slice, the slice of the axis that it is made of, and the matrix [length, source length] that makes it; None
    where the sizes are equal. Positions are rounded as F.interpolate does.
    """
    at = torch.arange(wanted, dtype=dtype) * ((size - 1) / max(wanted - 1, 1))
    before = at.long().clamp(max=size - 1)
    after = before if size == wanted else (before + 1).clamp(max=size - 1)
    part = (at - before)[:, None]
    matrix = torch.zeros(wanted, size, dtype=dtype)
    matrix.scatter_add_(1, before[:, None], 1 - part).scatter_add_(1, after[:, None], part)
    found = []
    for positions in torch.arange(wanted).tensor_split(max(1, round(wanted / length))):
        to = slice(int(positions[0]), int(positions[-1]) + 1)
        of = slice(int(before[to.start]), int(after[to.stop - 1]) + 1)
        found.append((to, of, None if size == wanted else matrix[to, of].contiguous().to(device)))
    return found


def enlarged(x: Tensor, down: Tensor | None, across: Tensor | None) -> Tensor:
    """`x` [C, h, w] resized by the matrices of two stretches, in memory of its own."""
    if across is not None:
        x = x @ across.T
    if down is not None:
        x = torch.bmm(down.expand(len(x), -1, -1), x)
    return x.clone(memory_format=torch.contiguous_format) if down is None and across is None else x


def reduced(x: Tensor, down: Tensor | None, across: Tensor | None) -> Tensor:
    """The gradient of what `enlarged` was given, from that of what it gave."""
    if down is not None:
        x = torch.bmm(down.T.expand(len(x), -1, -1), x)
    return x if across is None else x @ across


class Loss(nn.Module):
    """Weighted sum of the configured losses: logits [N, C, h, w], which are resized to the target [N, H, W] -> scalar.

    dice, jaccard, lovasz and focal are segmentation-models-pytorch's, over the batch's pixels that are not void, and need the
    logits at full size; each is 0 where all are void. For a part of a batch, `pixels` is the cross-entropy's divisor and
    `parts` that of the others.
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
        self.smoothing = config.label_smoothing
        self.library = library_losses(self.parts)

    def forward(self, logits: Tensor, target: Tensor, pixels: Tensor | None = None, parts: int = 1) -> Tensor:
        total = 0.0
        if "cross_entropy" in self.parts:
            total = self.parts["cross_entropy"] * cross_entropy(logits, target, self.class_weights, pixels, self.smoothing)
        if not self.library:
            return total
        # The library's losses differ in how, and whether, they leave out a label: all get the labeled pixels as one row.
        labeled = target != VOID
        if not labeled.any():
            return total + 0.0 * logits.sum()
        logits = resize(logits.to(torch.promote_types(logits.dtype, torch.float32)), target.shape[1:])
        row, truth = logits.movedim(1, 3)[labeled].T[None, :, None], target[labeled].long()[None, None]
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
