"""Depthwise and pointwise convolutions that are faster than PyTorch's: their gradients on CPUs, atrous ones on GPUs."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

FEW = {torch.float32: 2048, torch.bfloat16: 4096}
"""Largest number of positions (N * H * W) at which a pointwise convolution computes its weight gradient as a matrix product.
oneDNN's matrix product beats its convolution there. Two cores of an EPYC: in float32 by a third at 882 positions, by nothing at
3362; in bfloat16 by a fifth at both."""

Window = tuple[Any, slice, slice]
"""Index of a rectangle of the maps [N, C, H, W]."""
Dilation = tuple[int, int]
"""Vertical and horizontal: those of a dense prediction cell differ."""


def _eager_on_cpu(x: Tensor) -> bool:
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not tracing


def _computed_in(x: Tensor) -> torch.dtype:
    """The type that a convolution of `x` computes in on the CPU."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available()  # type: ignore[no-any-return]


def _kernel_positions(height: int, width: int, dilation: Dilation) -> Iterator[tuple[int, int, Window, Window]]:
    """Row, column, output window and input window of each position of a 3x3 kernel that falls on the map, the center first."""

    def overlap(side: int, offset: int) -> tuple[slice, slice]:
        return slice(max(0, -offset), side - max(0, offset)), slice(max(0, offset), side - max(0, -offset))

    for row, column in ((1, 1), (0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        down, right = (row - 1) * dilation[0], (column - 1) * dilation[1]
        if abs(down) < height and abs(right) < width:
            (to_y, from_y), (to_x, from_x) = overlap(height, down), overlap(width, right)
            yield row, column, (..., to_y, to_x), (..., from_y, from_x)


def _shifted_sum(x: Tensor, weight: Tensor, dilation: Dilation, transposed: bool) -> Tensor:
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


def _depthwise(x: Tensor, weight: Tensor, dilation: Dilation, transposed: bool = False) -> Tensor:
    """The depthwise convolution, or with `transposed` the gradient of its input.

    That gradient is a convolution too: PyTorch's own backward pass takes ten times as long. At a large dilation most kernel
    positions fall outside of most of the map, and PyTorch computes them all the same.
    """
    if 3 * dilation[0] > x.shape[2] or 3 * dilation[1] > x.shape[3]:
        return _shifted_sum(x, weight, dilation, transposed)
    return torch.conv2d(x, weight.flip(2, 3) if transposed else weight, None, 1, dilation, dilation, x.shape[1])


class _AtrousDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dilation: Dilation) -> Tensor:
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


def _by_phases(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: Dilation) -> Tensor:
    """A 3x3 depthwise convolution at a dilation, from plain ones: with dilation 2, say, of the even and of the odd rows and
    columns ("space to batch", as in TensorFlow).

    cuDNN has fast kernels of depthwise convolutions without dilation only: in a bfloat16 step of Xception-65 on an H100, with
    16 crops of 513x513, 6 convolutions with dilation took 17 of 89 ms, and 62 without took 12.
    """
    (images, channels, height, width), (down, right) = x.shape, dilation
    rows, columns = -(-height // down), -(-width // right)
    x = functional.pad(x, (0, columns * right - width, 0, rows * down - height)).permute(0, 2, 3, 1)
    x = x.reshape(images, rows, down, columns, right, channels).permute(0, 2, 4, 1, 3, 5)
    x = x.reshape(images * down * right, rows, columns, channels).permute(0, 3, 1, 2)
    y = torch.conv2d(x, weight, bias, 1, 1, 1, channels).permute(0, 2, 3, 1)
    y = y.reshape(images, down, right, rows, columns, channels).permute(0, 3, 1, 4, 2, 5)
    y = y.reshape(images, rows * down, columns * right, channels)[:, :height, :width].contiguous()
    return y.permute(0, 3, 1, 2)


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
            columns, inputs = (tensor.movedim(1, -1).flatten(0, 2).t() for tensor in (grad, x))
            if grad.dtype == torch.float32:
                product = torch.ops.mkldnn._linear_pointwise(columns, inputs, None, "none", [], "")
            else:
                product = columns @ inputs.t()
            grad_weight = product.as_strided(weight.shape, weight.stride())  # DistributedDataParallel copies others
        return grad_x, grad_weight


class _StridedDepthwise(torch.autograd.Function):
    """A depthwise convolution in bfloat16 that computes the gradient of its input in float32: oneDNN has a kernel for that, and
    takes 25 times as long in bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Dilation, padding: Dilation, dilation: Dilation) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.place = stride, padding, dilation, False, (0, 0), x.shape[1]
        return torch.conv2d(x, weight, None, stride, padding, dilation, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, *_ = ctx.needs_input_grad
        gradients = torch.ops.aten.convolution_backward
        grad_x = grad_weight = None
        if needs_x:
            exact = (tensor.float() for tensor in (grad, x, weight))
            grad_x = gradients(*exact, None, *ctx.place, [True, False, False])[0].to(x.dtype)
        if needs_weight:
            grad_weight = gradients(grad, x, weight, None, *ctx.place, [False, True, False])[1]
        return grad_x, grad_weight, None, None, None


class DepthwiseConv2d(nn.Conv2d):
    """3x3 convolution of each channel by itself, or of groups of channels. Takes the arguments of nn.Conv2d."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        out: Tensor
        if self.groups == self.in_channels == self.out_channels and self.padding_mode == "zeros":
            atrous = max(self.dilation) > 1 and self.stride == (1, 1) and self.padding == self.dilation
            if atrous and x.device.type == "cuda":
                return _by_phases(x, weight, bias, self.dilation)  # type: ignore[arg-type]
            if _eager_on_cpu(x):
                dtype = _computed_in(x)
                if atrous:
                    out = _AtrousDepthwise.apply(x.to(dtype), weight.to(dtype), self.dilation)
                    return out if bias is None else out + bias.to(out.dtype).view(-1, 1, 1)
                if max(self.stride) > 1 and dtype == torch.bfloat16 and bias is None and torch.is_grad_enabled():
                    place = self.stride, self.padding, self.dilation
                    out = _StridedDepthwise.apply(x.to(dtype), weight.to(dtype), *place)
                    return out
        out = super()._conv_forward(x, weight, bias)
        return out


class PointwiseConv2d(nn.Conv2d):
    """1x1 convolution without bias. Folding batch norm into it gives it one."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__(in_channels, out_channels, 1, stride, bias=False)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        out: Tensor
        trains = weight.requires_grad and torch.is_grad_enabled() and _eager_on_cpu(x)
        if trains and bias is None and self.stride == (1, 1) and _has_onednn():
            dtype = _computed_in(x)
            if x.shape[0] * x.shape[2] * x.shape[3] <= FEW.get(dtype, 0):
                out = _Pointwise.apply(x.to(dtype), weight.to(dtype))
                return out
        out = super()._conv_forward(x, weight, bias)
        return out
