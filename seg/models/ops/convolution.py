"""Depthwise and pointwise convolutions with faster gradients on CPUs than PyTorch's."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEW = 2048
"""Largest number of positions (N * H * W) at which a pointwise convolution computes its weight gradient as a matrix product.
oneDNN's matrix product beats its convolution there: by a third at 882 positions, by nothing at 3362 (two cores of an EPYC)."""

Window = tuple[Any, slice, slice]
"""Index of a rectangle of the maps [N, C, H, W]."""


def _eager_on_cpu(x: Tensor) -> bool:
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not tracing


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available()  # type: ignore[no-any-return]


def _kernel_positions(height: int, width: int, dilation: int) -> Iterator[tuple[int, int, Window, Window]]:
    """Row, column, output window and input window of each position of a 3x3 kernel that falls on the map, the center first."""

    def overlap(side: int, offset: int) -> tuple[slice, slice]:
        return slice(max(0, -offset), side - max(0, offset)), slice(max(0, offset), side - max(0, -offset))

    for row, column in ((1, 1), (0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        if max(abs(row - 1) * dilation - height, abs(column - 1) * dilation - width) < 0:
            (to_y, from_y), (to_x, from_x) = overlap(height, (row - 1) * dilation), overlap(width, (column - 1) * dilation)
            yield row, column, (..., to_y, to_x), (..., from_y, from_x)


def _shifted_sum(x: Tensor, weight: Tensor, dilation: int, transposed: bool) -> Tensor:
    """The convolution as a sum: each kernel weight times the shifted map. `transposed`: shifted the other way."""
    # The center of the kernel comes first: it covers the whole map.
    total = x * weight[:, 0, 1, 1].view(1, -1, 1, 1)
    for row, column, target, source in _kernel_positions(x.shape[2], x.shape[3], dilation):
        if (row, column) == (1, 1):
            continue
        if transposed:
            target, source = source, target
        total[target].addcmul_(x[source], weight[:, 0, row, column].view(1, -1, 1, 1))
    return total


def _depthwise(x: Tensor, weight: Tensor, dilation: int, transposed: bool = False) -> Tensor:
    """The depthwise convolution, or with `transposed` the gradient of its input.

    That gradient is a convolution too: PyTorch's own backward pass takes ten times as long. At a large dilation most kernel
    positions fall outside of most of the map, and PyTorch computes them all the same.
    """
    if 3 * dilation > min(x.shape[2:]):
        return _shifted_sum(x, weight, dilation, transposed)
    return torch.conv2d(x, weight.flip(2, 3) if transposed else weight, None, 1, dilation, dilation, x.shape[1])


class _AtrousDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return _depthwise(x, weight, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, _ = ctx.needs_input_grad
        grad_x = _depthwise(grad, weight, ctx.dilation, transposed=True) if needs_x else None
        grad_weight = None
        if needs_weight:
            grad_weight = torch.zeros_like(weight)
            for row, column, target, source in _kernel_positions(x.shape[2], x.shape[3], ctx.dilation):
                grad_weight[:, 0, row, column] = (grad[target] * x[source]).sum((0, 2, 3))
        return grad_x, grad_weight, None


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.conv2d(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad
        grad_x = grad_weight = None
        if needs_x:
            plain = [1, 1], [0, 0], [1, 1], False, [0, 0], 1
            grad_x, _, _ = torch.ops.aten.convolution_backward(grad, x, weight, None, *plain, [True, False, False])
        if needs_weight:
            # [N * H * W, C], in the memory of channels-last maps.
            rows = (tensor.movedim(1, -1).flatten(0, 2).t() for tensor in (grad, x))
            grad_weight = torch.ops.mkldnn._linear_pointwise(*rows, None, "none", [], "").view(weight.shape)
        return grad_x, grad_weight


class DepthwiseConv2d(nn.Conv2d):
    """3x3 convolution of each channel by itself, or of groups of channels. Takes the arguments of nn.Conv2d."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        dilation = self.dilation[0]
        ours = dilation > 1 and self.stride == (1, 1)
        if ours and self.groups == self.in_channels == self.out_channels and _eager_on_cpu(x):
            if torch.is_autocast_enabled("cpu"):
                x, weight = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (x, weight))
            out: Tensor = _AtrousDepthwise.apply(x, weight, dilation)
            return out if bias is None else out + bias.to(out.dtype).view(-1, 1, 1)
        out = super()._conv_forward(x, weight, bias)
        return out


class PointwiseConv2d(nn.Conv2d):
    """1x1 convolution without bias. Folding batch norm into it gives it one."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__(in_channels, out_channels, 1, stride, bias=False)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        trains = weight.requires_grad and torch.is_grad_enabled() and _eager_on_cpu(x)
        if trains and bias is None and self.stride == (1, 1) and x.dtype == weight.dtype == torch.float32:
            few = x.shape[0] * x.shape[2] * x.shape[3] <= FEW
            if few and not torch.is_autocast_enabled("cpu") and _has_onednn():
                out: Tensor = _Pointwise.apply(x, weight)
                return out
        out = super()._conv_forward(x, weight, bias)
        return out
