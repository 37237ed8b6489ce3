"""Atrous spatial pyramid pooling: arXiv 1706.05587, section 3.3, with the separable convolutions of arXiv 1802.02611."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .layers import BATCH_NORM_MOMENTUM, POST, ConvNorm, SeparableConv2d
from .ops.batch_norm import SinglePixelBatchNorm2d

EPS = 1e-5
"""Batch-norm epsilon of ASPP and decoder."""


def atrous_conv(
    in_channels: int, out_channels: int, *, separable: bool, dilation: int = 1, kernel_size: int = 3
) -> ConvNorm | SeparableConv2d:
    """A convolution of ASPP or decoder with batch norm and ReLU: separable or dense. A 1x1 convolution is always dense."""
    if separable and kernel_size == 3:
        return SeparableConv2d(in_channels, out_channels, POST, eps=EPS, dilation=dilation)
    return ConvNorm(in_channels, out_channels, kernel_size, eps=EPS, dilation=dilation)


class ASPP(nn.Module):
    """Context at several scales: [N, in_channels, h, w] -> [N, out_channels, h, w].

    Image-level pooling, a 1x1 and three atrous 3x3 convolutions, concatenated in this order, projected by a 1x1 convolution.

    Args:
        in_channels: channels of the backbone's features.
        out_channels: channels of each branch and of the output.
        atrous_rates: dilations of the 3x3 convolutions at output stride 16; see `set_output_stride`.
        separable: whether the 3x3 convolutions are separable.
        image_pooling: whether there is the image-level branch.
        dropout: probability, on the output.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        *,
        atrous_rates: Sequence[int] = (6, 12, 18),
        separable: bool = True,
        image_pooling: bool = True,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.atrous_rates = tuple(atrous_rates)
        self.pooling = None
        if image_pooling:
            self.pooling = ConvNorm(in_channels, out_channels, 1, eps=EPS)
            self.pooling.norm = SinglePixelBatchNorm2d(out_channels, eps=EPS, momentum=BATCH_NORM_MOMENTUM)
        self.conv1x1 = ConvNorm(in_channels, out_channels, 1, eps=EPS)
        self.atrous = nn.ModuleList(
            atrous_conv(in_channels, out_channels, separable=separable, dilation=rate) for rate in self.atrous_rates
        )
        branches = 1 + len(self.atrous_rates) + (1 if image_pooling else 0)
        self.project = ConvNorm(branches * out_channels, out_channels, 1, eps=EPS)
        self.dropout = nn.Dropout(dropout)
        self.out_channels = out_channels

    def set_output_stride(self, output_stride: int) -> None:
        """Adapt the dilations to the backbone's output stride: twice the rates at 8, half at 32, at least 1."""
        for rate, conv in zip(self.atrous_rates, self.atrous, strict=True):
            dilation = max(1, rate * 16 // output_stride)
            if isinstance(conv, SeparableConv2d):
                conv.set_stride_and_dilation(1, dilation)
            elif isinstance(conv, ConvNorm):
                conv.conv.dilation = conv.conv.padding = (dilation, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, in_channels, h, w] -> [N, out_channels, h, w]."""
        branches = []
        if self.pooling is not None:
            # First, so that its gradient comes last in the backward pass. The gradient of a mean is not channels-last, and the
            # other branches' would be added to it.
            pooled = self.pooling(x.mean((2, 3), keepdim=True))
            # An expanded map has no memory layout: with one, the concatenation would not be channels-last.
            branches.append(pooled.expand(-1, -1, *x.shape[-2:]).contiguous(memory_format=torch.channels_last))
        branches += [self.conv1x1(x), *(conv(x) for conv in self.atrous)]
        out: Tensor = self.dropout(self.project(torch.cat(branches, 1)))
        return out
