"""Cross-entropy of logits that are resized to the target's size, one tile at a time: full-size logits are never stored.

Full-size logits of a batch of 16 crops of 513x513 with 21 classes take 354 MB, and their gradient as much. Here each tile of
them is resized and scored, and its gradient is brought to the logits' own size before the next tile. The resize is a product
with one matrix per axis, so its gradient is a product with the transposed matrices.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..labels import VOID
from ..models.ops.resize import interpolation

TILE = {"cpu": 21 * 64 * 128, "gpu": 2**26}
"""Full-size logits that exist at a time. On a CPU 2/3 MiB of float32, which stays in a core's cache from one operation to the
next; on a GPU 256 MiB, so that kernel launches are few: twelve whole crops of 513x513 pixels and 21 classes."""
LOG2_E = 1 / math.log(2)


class TiledCrossEntropy(torch.autograd.Function):
    """The sum of the cross-entropy over all pixels except void; see `seg.training.losses.cross_entropy`.

    The forward pass also computes the gradient, at the size of the logits, and stores nothing else for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        dtype, device, classes = torch.promote_types(logits.dtype, torch.float32), logits.device, logits.shape[1]
        targets = SmoothedTargets(weights, smoothing, classes, dtype, device)
        gradient = torch.zeros_like(logits, dtype=dtype) if ctx.needs_input_grad[0] else None
        # Twice as wide as high: the larger of the two matrix products then has long rows.
        values = TILE["cpu" if device.type == "cpu" else "gpu"]
        side = (values / classes / 2) ** 0.5
        rows = axis_tiles(logits.shape[2], target.shape[1], side, dtype, device)
        columns = axis_tiles(logits.shape[3], target.shape[2], 2 * side, dtype, device)
        # Several images at a time where their whole targets fit.
        images = max(1, values // (classes * target.shape[1] * target.shape[2])) if len(rows) == len(columns) == 1 else 1
        sums = []
        with torch.autocast(device.type, enabled=False):
            for first in range(0, len(logits), images):
                chosen = slice(first, first + images)
                bits = logits[chosen].to(dtype).contiguous() * LOG2_E
                for row, column in itertools.product(rows, columns):
                    tile = resize_tile(bits[:, :, row.source, column.source], row.matrix, column.matrix)
                    label = target[chosen, row.target, column.target].flatten(1).long()
                    sums += targets.entropy(tile.flatten(2), label, gradient is not None)
                    if gradient is not None:
                        share = resize_tile_backward(tile, row.matrix, column.matrix)
                        gradient[chosen, :, row.source, column.source] += share
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
            tile: [images, classes, pixels], the logits in bits. Overwritten; with `gradient` by the gradient of the sum in nats
                with respect to the logits in nats.
            label: int64 [images, pixels], class index or void.
            gradient: whether to compute it.

        Returns:
            The summands, one to three scalars.
        """
        void, flat = label == VOID, label.flatten()
        own = self.own.index_select(0, flat)
        total = self.total.index_select(0, flat) if self.spread else own
        label = label.masked_fill(void, 0)[:, None]
        tile -= tile.amax(1, keepdim=True)
        sums = [-own.dot(tile.gather(1, label).flatten())]
        if self.spread:
            spread = self.spread * (~void).to(tile.dtype)
            sums.append(-spread.flatten().dot((self.weights @ tile).flatten()))
        exponentials = tile.exp2_().sum(1)
        sums.append(total.dot(exponentials.log2().flatten()))
        if gradient:
            tile *= (total.view_as(exponentials) / exponentials)[:, None]
            tile.scatter_add_(1, label, -own.view_as(label))
            if self.spread:
                tile.addcmul_(self.weights[:, None], spread[:, None], value=-1)
        return sums


class AxisTile(NamedTuple):
    """A part of one axis of the target, and the part of the logits' axis that it is interpolated from."""

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
    matrix, tiles = interpolation(size, wanted, dtype), []
    for positions in np.array_split(np.arange(wanted), max(1, round(wanted / length))):
        target = slice(positions[0], positions[-1] + 1)
        used = matrix[target].any(0).nonzero()[0]
        source = slice(used[0], used[-1] + 1)
        part = None if size == wanted else torch.from_numpy(matrix[target, source].copy()).to(device)
        tiles.append(AxisTile(target, source, part))
    return tiles


def resize_tile(x: Tensor, vertical: Tensor | None, horizontal: Tensor | None) -> Tensor:
    """Resize a tile [N, C, h, w] by the matrices of its two axis tiles. The result is a copy, never a view."""
    if horizontal is not None:
        x = x @ horizontal.T
    if vertical is not None:
        x = _each_column(vertical, x)
    return x.clone(memory_format=torch.contiguous_format) if vertical is None and horizontal is None else x


def resize_tile_backward(x: Tensor, vertical: Tensor | None, horizontal: Tensor | None) -> Tensor:
    """The gradient of the input of `resize_tile` from the gradient `x` of its output."""
    if vertical is not None:
        x = _each_column(vertical.T, x)
    return x if horizontal is None else x @ horizontal


def _each_column(matrix: Tensor, x: Tensor) -> Tensor:
    """matrix @ x over maps [N, C, h, w], as one batched product: torch.matmul would transpose the maps first."""
    product = torch.bmm(matrix.expand(x.shape[0] * x.shape[1], -1, -1), x.flatten(0, 1))
    return product.view(*x.shape[:2], *product.shape[1:])
