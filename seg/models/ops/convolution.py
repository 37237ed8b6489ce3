"""Depthwise and pointwise convolutions, whose gradients PyTorch computes slowly on processors."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEW = 2048
"""Positions of a batch's maps, up to which a pointwise convolution's gradient of the weights is faster as a matrix product by
oneDNN than as oneDNN's convolution: at 882 positions by a third, at 3362 by nothing (two cores of an EPYC)."""


def _eager_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def _taps(height: int, width: int, rate: int):
    """(row, column, output window, input window) of each of the 3x3 taps that falls on the map, the middle one first."""

    def overlap(side: int, offset: int) -> tuple[slice, slice]:
        return slice(max(0, -offset), side - max(0, offset)), slice(max(0, offset), side - max(0, -offset))

    for row, column in ((1, 1), (0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        if max(abs(row - 1) * rate - height, abs(column - 1) * rate - width) < 0:
            (to_y, from_y), (to_x, from_x) = overlap(height, (row - 1) * rate), overlap(width, (column - 1) * rate)
            yield row, column, (..., to_y, to_x), (..., from_y, from_x)


def _shifted_sum(x: Tensor, weight: Tensor, rate: int, turned: bool) -> Tensor:
    """Each tap times the map moved to it, added up. `turned`: moved the other way, which gives the gradient of x."""
    total = None
    for row, column, to, source in _taps(*x.shape[2:], rate):
        if turned:
            to, source = source, to
        tap = weight[:, 0, row, column].view(1, -1, 1, 1)
        if total is None:  # the middle tap, which covers the map
            total = x * tap
        else:
            total[to].addcmul_(x[source], tap)
    return total


def _convolved(x: Tensor, weight: Tensor, rate: int, turned: bool = False) -> Tensor:
    """The convolution, or turned the gradient of its input, which is a convolution too: PyTorch's own backward pass takes ten
    times as long. At a large rate most taps fall off most of the map, and PyTorch computes them all the same."""
    if 3 * rate > min(x.shape[2:]):
        return _shifted_sum(x, weight, rate, turned)
    return torch.conv2d(x, weight.flip(2, 3) if turned else weight, None, 1, rate, rate, x.shape[1])


class _AtrousDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, rate):
        ctx.save_for_backward(x, weight)
        ctx.rate = rate
        return _convolved(x, weight, rate)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        wanted_x, wanted_weight, _ = ctx.needs_input_grad
        of_x = _convolved(grad, weight, ctx.rate, turned=True) if wanted_x else None
        of_weight = None
        if wanted_weight:
            of_weight = torch.zeros_like(weight)
            for row, column, to, source in _taps(*x.shape[2:], ctx.rate):
                of_weight[:, 0, row, column] = (grad[to] * x[source]).sum((0, 2, 3))
        return of_x, of_weight, None


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return torch.conv2d(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        wanted_x, wanted_weight = ctx.needs_input_grad
        of_x = of_weight = None
        if wanted_x:
            plain = [1, 1], [0, 0], [1, 1], False, [0, 0], 1
            of_x, _, _ = torch.ops.aten.convolution_backward(grad, x, weight, None, *plain, [True, False, False])
        if wanted_weight:
            # [N * H * W, C], in the memory of channels-last maps.
            rows = (tensor.movedim(1, -1).flatten(0, 2).t() for tensor in (grad, x))
            of_weight = torch.ops.mkldnn._linear_pointwise(*rows, None, "none", [], "").view(weight.shape)
        return of_x, of_weight


class DepthwiseConv(nn.Conv2d):
    """3x3 convolution of each channel by itself, or of `groups` of channels; stride, rate and padding as nn.Conv2d's."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rate = self.dilation[0]
        ours = rate > 1 and self.stride == (1, 1)
        if ours and self.groups == self.in_channels == self.out_channels and _eager_on_cpu(x):
            if torch.is_autocast_enabled("cpu"):
                x, weight = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (x, weight))
            out = _AtrousDepthwise.apply(x, weight, rate)
            return out if bias is None else out + bias.to(out.dtype).view(-1, 1, 1)
        return super()._conv_forward(x, weight, bias)


class PointwiseConv(nn.Conv2d):
    """1x1 convolution, made without bias; folding batch norm gives it one."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        trains = weight.requires_grad and torch.is_grad_enabled() and _eager_on_cpu(x)
        if trains and bias is None and self.stride == (1, 1) and x.dtype == weight.dtype == torch.float32:
            few = x.shape[0] * x.shape[2] * x.shape[3] <= FEW
            if few and not torch.is_autocast_enabled("cpu") and torch.backends.mkldnn.is_available():
                return _Pointwise.apply(x, weight)
        return super()._conv_forward(x, weight, bias)
