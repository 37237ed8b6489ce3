"""Atrous spatial pyramid pooling, arXiv 1706.05587 section 3.3, with the separable convolutions of arXiv 1802.02611."""

import torch
from torch import Tensor, nn

from .layers import BATCH_NORM_MOMENTUM, POST, ConvNorm, SeparableConv, SinglePixelBatchNorm2d

EPSILON = 1e-5
"""Batch-norm epsilon of ASPP and decoder."""


def atrous_conv(inputs: int, outputs: int, *, separable: bool, rate: int = 1, kernel: int = 3) -> nn.Module:
    """Separable or dense convolution of ASPP and decoder, each with batch norm and ReLU; a 1x1 is always dense."""
    if separable and kernel == 3:
        return SeparableConv(inputs, outputs, POST, epsilon=EPSILON, rate=rate)
    return ConvNorm(inputs, outputs, kernel, epsilon=EPSILON, rate=rate)


class ASPP(nn.Module):
    """N,C,h,w -> N,channels,h,w: image-level pooling, 1x1, three atrous 3x3; concatenated in this order, projected, dropout.

    rates: of the atrous convolutions at output stride 16; doubled at 8, halved at 32 (see `output_stride`).
    """

    def __init__(self, inputs: int, *, channels=256, rates=(6, 12, 18), separable=True, image_pooling=True, dropout=0.1):
        super().__init__()
        self.rates = tuple(rates)
        self.pooling = None
        if image_pooling:
            self.pooling = ConvNorm(inputs, channels, 1, epsilon=EPSILON)
            self.pooling.norm = SinglePixelBatchNorm2d(channels, eps=EPSILON, momentum=BATCH_NORM_MOMENTUM)
        self.conv1x1 = ConvNorm(inputs, channels, 1, epsilon=EPSILON)
        self.atrous = nn.ModuleList(atrous_conv(inputs, channels, separable=separable, rate=rate) for rate in self.rates)
        branches = 1 + len(self.rates) + (1 if image_pooling else 0)
        self.project = ConvNorm(branches * channels, channels, 1, epsilon=EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.channels = channels

    def set_output_stride(self, output_stride: int) -> None:
        for rate, conv in zip(self.rates, self.atrous, strict=True):
            rate = max(1, rate * 16 // output_stride)
            if isinstance(conv, SeparableConv):
                conv.set_stride_and_rate(1, rate)
            else:
                conv.conv.dilation = conv.conv.padding = (rate, rate)

    def forward(self, x: Tensor) -> Tensor:
        branches = []
        if self.pooling is not None:
            # First, so that in the backward pass its gradient comes last: that of a mean is not channels-last, and all others
            # would be added to it.
            pooled = self.pooling(x.mean((2, 3), keepdim=True))
            # An expanded map has no layout: with it the concatenation would not be channels-last.
            branches.append(pooled.expand(-1, -1, *x.shape[-2:]).contiguous(memory_format=torch.channels_last))
        branches += [self.conv1x1(x), *(conv(x) for conv in self.atrous)]
        return self.dropout(self.project(torch.cat(branches, 1)))
