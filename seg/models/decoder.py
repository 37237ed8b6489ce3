"""The decoder of DeepLab V3+, arXiv 1802.02611 section 3.1 and tables 1 and 2."""

import torch
from torch import Tensor, nn

from .aspp import EPSILON, atrous_conv
from .layers import ConvNorm, resize


class Decoder(nn.Module):
    """Encoder output N,C,h,w and low-level features N,L,H/4,W/4 -> N,C',H/4,W/4.

    low_level_channels: to which a 1x1 convolution reduces the low-level features (the paper's best: 48).
    convolutions: kernel (1 or 3) and channels of each convolution after the concatenation (the paper's best: twice 3, 256).
    conv3: channels of features at stride 8, with which the encoder output is joined first, in the same way (the paper's row
        "Conv3", no better); None: not used.
    """

    def __init__(
        self,
        inputs: int,
        low_level: int,
        *,
        low_level_channels=48,
        convolutions=((3, 256), (3, 256)),
        separable=True,
        conv3: int | None = None,
    ):
        super().__init__()

        def join(features: int) -> tuple[nn.Module, nn.Module, int]:
            reduce, convs = ConvNorm(features, low_level_channels, 1, epsilon=EPSILON), nn.Sequential()
            channels = inputs + low_level_channels
            for kernel, outputs in convolutions:
                convs.append(atrous_conv(channels, outputs, separable=separable, kernel=kernel))
                channels = outputs
            return reduce, convs, channels

        if conv3 is not None:
            self.reduce3, self.convs3, inputs = join(conv3)
        self.reduce, self.convs, self.channels = join(low_level)

    def forward(self, x: Tensor, low_level: Tensor, conv3: Tensor | None = None) -> Tensor:
        if conv3 is not None:
            x = self.convs3(torch.cat([resize(x, conv3.shape[-2:]), self.reduce3(conv3)], 1))
        x = resize(x, low_level.shape[-2:])
        return self.convs(torch.cat([x, self.reduce(low_level)], 1))
