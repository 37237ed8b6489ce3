"""The decoder of DeepLab V3+: arXiv 1802.02611, section 3.1 and tables 1 and 2."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .aspp import EPS, atrous_conv
from .layers import ConvNorm
from .ops.resize import resize


class Decoder(nn.Module):
    """Refines the ASPP's output with low-level features: [N, in_channels, h, w] -> [N, out_channels, H/4, W/4].

    Args:
        in_channels: channels of the ASPP's output.
        low_level_in_channels: channels of the backbone's low-level features.
        low_level_channels: channels to which a 1x1 convolution reduces them (the paper's best: 48).
        convolutions: kernel size (1 or 3) and channels of each convolution after the concatenation (the paper's best: two of
            3x3, 256). `out_channels` is the last one's.
        separable: whether the 3x3 convolutions are separable.
        conv3_in_channels: channels of features at stride 8, which are joined first in the same way (the paper's "Conv3" in
            table 2, no better). None: not used.
    """

    def __init__(
        self,
        in_channels: int,
        low_level_in_channels: int,
        *,
        low_level_channels: int = 48,
        convolutions: Sequence[Sequence[int]] = ((3, 256), (3, 256)),
        separable: bool = True,
        conv3_in_channels: int | None = None,
    ):
        super().__init__()

        def stage(features: int) -> tuple[ConvNorm, nn.Sequential, int]:
            reduce, convs = ConvNorm(features, low_level_channels, 1, eps=EPS), nn.Sequential()
            channels = in_channels + low_level_channels
            for kernel_size, out_channels in convolutions:
                convs.append(atrous_conv(channels, out_channels, separable=separable, kernel_size=kernel_size))
                channels = out_channels
            return reduce, convs, channels

        if conv3_in_channels is not None:
            self.reduce3, self.convs3, in_channels = stage(conv3_in_channels)
        self.reduce, self.convs, self.out_channels = stage(low_level_in_channels)

    def forward(self, x: Tensor, low_level: Tensor, conv3: Tensor | None = None) -> Tensor:
        """ASPP output, features at stride 4 and, if used, at stride 8 -> [N, out_channels, H/4, W/4]."""
        if conv3 is not None:
            x = self.convs3(torch.cat([resize(x, conv3.shape[-2:]), self.reduce3(conv3)], 1))
        x = resize(x, low_level.shape[-2:])
        out: Tensor = self.convs(torch.cat([x, self.reduce(low_level)], 1))
        return out
