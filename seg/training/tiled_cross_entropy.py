"""Cross-entropy of logits that are resized to the target's size, one tile at a time: full-size logits are never stored.

Full-size logits of a batch of 16 crops of 513x513 with 21 classes take 354 MB, and their gradient as much. Here each tile of
them is resized and scored, and its gradient is brought to the logits' own size before the next tile. The resize is a product
with one matrix per axis, so its gradient is a product with the transposed matrices.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..labels import VOID

TILE = {"cpu": 21 * 64 * 128, "gpu": 2**23}
"""Full-size logits that exist at a time. On a CPU 2/3 MiB of float32, which stays in a core's cache from one operation to the
next; on a GPU 32 MiB, so that kernel launches are few: a whole crop of 513x513 pixels and 21 classes."""
LOG2_E = 1 / math.log(2)


class TiledCrossEntropy(torch.autograd.Function):
    """The sum of the cross-entropy over the pixels that are not void; see `seg.training.losses.cross_entropy`.

    The forward pass computes the gradient too, at the size of the logits: it is all that is kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        dtype, device, classes = torch.promote_types(logits.dtype, torch.float32), logits.device, logits.shape[1]
        targets = SmoothedTargets(weights, smoothing, classes, dtype, device)
        gradient = torch.zeros_like(logits, dtype=dtype) if ctx.needs_input_grad[0] else None
        # Twice as wide as high: the larger of the two matrix products then has long rows.
        side = (TILE["cpu" if device.type == "cpu" else "gpu"] / classes / 2) ** 0.5
        rows = axis_tiles(logits.shape[2], target.shape[1], side, dtype, device)
        columns = axis_tiles(logits.shape[3], target.shape[2], 2 * side, dtype, device)
        sums = []
        with torch.autocast(device.type, enabled=False):
            for index in range(len(logits)):
                bits = logits[index].to(dtype).contiguous() * LOG2_E
                for row, column in itertools.product(rows, columns):
                    tile = resize_tile(bits[:, row.source, column.source], row.matrix, column.matrix)
                    label = target[index, row.target, column.target].reshape(-1).long()
                    sums += targets.entropy(tile.view(classes, -1), label, gradient is not None)
                    if gradient is not None:
                        gradient[index, :, row.source, column.source] += resize_tile_backward(tile, row.matrix, column.matrix)
        ctx.dtype = logits.dtype
        ctx.save_for_backward(gradient)
        return torch.stack(sums).sum() / LOG2_E

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None, None]:
        # Rounded once, after the scaling.
        return (ctx.saved_tensors[0] * scale).to(ctx.dtype), None, None, None


class SmoothedTargets:
    """The target distribution of a pixel by its label: class weights, label smoothing (arXiv 1512.00567, section 7), and zero
    where the label is void.

    Args:
        weights: [classes], the weight of each class; None: 1.
        smoothing: share of each target that is spread evenly over all classes, 0 to below 1.
        classes: number of classes.
        dtype, device: of the sums.
    """

    def __init__(self, weights: Tensor | None, smoothing: float, classes: int, dtype: torch.dtype, device: torch.device):
        self.weights = torch.ones(classes, dtype=dtype, device=device) if weights is None else weights.to(dtype)
        self.spread = smoothing / classes
        # By label: what the target gives to the label's own class, and to all classes together.
        self.own = torch.zeros(VOID + 1, dtype=dtype, device=device)
        self.own[:classes] = (1 - smoothing) * self.weights
        self.total = self.own.clone()
        self.total[:classes] += self.spread * self.weights.sum()

    def entropy(self, tile: Tensor, label: Tensor, gradient: bool) -> list[Tensor]:
        """Cross-entropy of the pixels of a tile, in bits: exp2 is four times as fast as exp.

        Args:
            tile: [classes, pixels], the logits in bits. Overwritten; with `gradient` by the gradient of the sum in nats with
                respect to the logits in nats.
            label: int64 [pixels], class index or void.
            gradient: whether to compute it.

        Returns:
            The summands, one to three scalars.
        """
        void = label == VOID
        own = self.own.index_select(0, label)
        total = self.total.index_select(0, label) if self.spread else own
        label = label.masked_fill(void, 0)[None]
        tile -= tile.amax(0)
        sums = [-own.dot(tile.gather(0, label)[0])]
        if self.spread:
            spread = self.spread * (~void).to(tile.dtype)
            sums.append(-spread.dot(self.weights @ tile))
        exponentials = tile.exp2_().sum(0)
        sums.append(total.dot(exponentials.log2()))
        if gradient:
            tile *= total / exponentials
            tile.scatter_add_(0, label, -own[None])
            if self.spread:
                tile.addr_(self.weights, spread, alpha=-1)
        return sums


class AxisTile(NamedTuple):
    """A stretch of one axis of the target, and the part of the logits' axis that it is interpolated from."""

    target: slice
    source: slice
    matrix: Tensor | None
    """[target length, source length], the interpolation; None where both sizes are equal."""


@functools.lru_cache(maxsize=64)
def axis_tiles(size: int, wanted: int, length: float, dtype: torch.dtype, device: torch.device) -> list[AxisTile]:
    """Cut an axis of the target into even tiles.

    Args:
        size: the logits' pixels along this axis.
        wanted: the target's pixels along it. The resize is bilinear with aligned corners, rounded as in F.interpolate.
        length: approximate length of a tile, in pixels of the target.
        dtype, device: of the matrices.
    """
    position = torch.arange(wanted, dtype=dtype) * ((size - 1) / max(wanted - 1, 1))
    before = position.long().clamp(max=size - 1)
    after = before if size == wanted else (before + 1).clamp(max=size - 1)
    fraction = (position - before)[:, None]
    matrix = torch.zeros(wanted, size, dtype=dtype)
    matrix.scatter_add_(1, before[:, None], 1 - fraction).scatter_add_(1, after[:, None], fraction)
    tiles = []
    for positions in torch.arange(wanted).tensor_split(max(1, round(wanted / length))):
        target = slice(int(positions[0]), int(positions[-1]) + 1)
        source = slice(int(before[target.start]), int(after[target.stop - 1]) + 1)
        tiles.append(AxisTile(target, source, None if size == wanted else matrix[target, source].contiguous().to(device)))
    return tiles


def resize_tile(x: Tensor, vertical: Tensor | None, horizontal: Tensor | None) -> Tensor:
    """Resize a tile [C, h, w] by the matrices of its two axis tiles. The result is a copy, never a view."""
    if horizontal is not None:
        x = x @ horizontal.T
    if vertical is not None:
        x = torch.bmm(vertical.expand(len(x), -1, -1), x)
    return x.clone(memory_format=torch.contiguous_format) if vertical is None and horizontal is None else x


def resize_tile_backward(x: Tensor, vertical: Tensor | None, horizontal: Tensor | None) -> Tensor:
    """The gradient of the input of `resize_tile` from the gradient `x` of its output."""
    if vertical is not None:
        x = torch.bmm(vertical.T.expand(len(x), -1, -1), x)
    return x if horizontal is None else x @ horizontal
