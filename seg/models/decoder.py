"""The decoder of DeepLab V3+, arXiv 1802.02611 section 3.1 and tables 1 and 2."""

import torch
from torch import Tensor, nn

from .aspp import EPSILON, atrous_conv
from .layers import ConvNorm, resize


class Decoder(nn.Module):
    """Encoder output N,C,h,w and low-level features N,L,H/4,W/4 -> N,C',H/4,W/4.

    low_level_channels: to which a 1x1 convolution reduces the low-level features (the paper's best: 48).
    convolutions: kernel (1 or 3) and channels of each convolution after the concatenation (the paper's best: twice 3, 256).
    """

    def __init__(
        self, inputs: int, low_level: int, *, low_level_channels=48, convolutions=((3, 256), (3, 256)), separable=True
    ):
        super().__init__()
        self.reduce = ConvNorm(low_level, low_level_channels, 1, epsilon=EPSILON)
        self.convs = nn.Sequential()
        channels = inputs + low_level_channels
        for kernel, outputs in convolutions:
            self.convs.append(atrous_conv(channels, outputs, separable=separable, kernel=kernel))
            channels = outputs
        self.channels = channels

    def forward(self, x: Tensor, low_level: Tensor) -> Tensor:
        x = resize(x, low_level.shape[-2:])
        return self.convs(torch.cat([x, self.reduce(low_level)], 1))
