"""The Xception family as data: the original, and the modified (aligned) Xception 41, 65 and 71 of DeepLab V3+.

Original: Xception, arXiv 1610.02357, figure 5. Aligned: arXiv 1802.02611, figure 4, and the released TensorFlow code:
a deeper middle flow, max-pools replaced by strided separable convolutions, batch norm after each depthwise convolution.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ORIGINAL, ORIGINAL_EXIT, POST, PRE, ActivationPlacement, ConvNorm, SeparableConv

EPSILON = 1e-3
"""Batch-norm epsilon of the whole family."""


@dataclass(frozen=True)
class BlockSpec:
    """A row of the tables: depths of the separable convolutions, kind of shortcut (conv, sum, none), nominal stride."""

    name: str
    depths: tuple[int, ...]
    shortcut: str = "conv"
    stride: int = 1


def middle(units: int) -> tuple[BlockSpec, ...]:
    return tuple(BlockSpec(f"middle{i}", (728, 728, 728), "sum") for i in range(1, units + 1))


ALIGNED_EXIT = (BlockSpec("exit1", (728, 1024, 1024), stride=2), BlockSpec("exit2", (1536, 1536, 2048), "none"))
ALIGNED_ENTRY = (
    BlockSpec("entry1", (128, 128, 128), stride=2),
    BlockSpec("entry2", (256, 256, 256), stride=2),
    BlockSpec("entry3", (728, 728, 728), stride=2),
)
ALIGNED_ENTRY_71 = (
    BlockSpec("entry1", (128, 128, 128), stride=2),
    BlockSpec("entry2", (256, 256, 256), stride=1),
    BlockSpec("entry3", (256, 256, 256), stride=2),
    BlockSpec("entry4", (728, 728, 728), stride=1),
    BlockSpec("entry5", (728, 728, 728), stride=2),
)
ORIGINAL_MODULES = (
    BlockSpec("entry1", (128, 128), stride=2),
    BlockSpec("entry2", (256, 256), stride=2),
    BlockSpec("entry3", (728, 728), stride=2),
    *middle(8),
    BlockSpec("exit1", (728, 1024), stride=2),
    BlockSpec("exit2", (1536, 2048), "none"),
)
# Low-level features: the last stride-4 map that a separable convolution makes, the second of this module.
FAMILY = {
    "xception": (ORIGINAL_MODULES, "entry2"),
    "xception41": ((*ALIGNED_ENTRY, *middle(8), *ALIGNED_EXIT), "entry2"),
    "xception65": ((*ALIGNED_ENTRY, *middle(16), *ALIGNED_EXIT), "entry2"),
    "xception71": ((*ALIGNED_ENTRY_71, *middle(16), *ALIGNED_EXIT), "entry3"),
}


def scaled(channels: int, width: float) -> int:
    """`channels * width` rounded to a multiple of 8, at least 8."""
    return max(8, int(channels * width / 8 + 0.5) * 8)


def max_pool(x: Tensor, stride: int, rate: int, same: bool) -> Tensor:
    """3x3 max-pool, padded by `rate` on each side; with `same`, even sizes only at the end, as TensorFlow's stride 2 does."""
    top, left = (0 if same and stride == 2 and size % 2 == 0 else rate for size in x.shape[-2:])
    x = F.pad(x, (left, rate, top, rate), value=float("-inf"))
    return F.max_pool2d(x, 3, stride, dilation=rate)


class XceptionBlock(nn.Module):
    """Separable convolutions, an optional final max-pool, and the sum with the shortcut."""

    def __init__(
        self,
        inputs: int,
        row: BlockSpec,
        depths: tuple[int, ...],
        activation_placement: ActivationPlacement,
        *,
        tapped: bool,
        pool: bool,
        same: bool,
        residual: bool,
        spatial_groups: int | None,
    ):
        super().__init__()
        self.nominal_stride = row.stride
        self.pool = pool and row.stride > 1
        self.same = same
        last = len(depths) - 1
        self.convs = nn.ModuleList()
        for index, (a, b) in enumerate(pairwise((inputs, *depths))):
            here = activation_placement
            if activation_placement.before:
                # The ReLU before a convolution follows the batch norm before it, where nothing else wants what that gives.
                wanted = {-1, last} | ({1} if tapped else set())
                here = replace(activation_placement, before=index - 1 in wanted, after=index not in wanted)
            self.convs.append(SeparableConv(a, b, here, epsilon=EPSILON, spatial_groups=spatial_groups))
        self.shortcut = None
        if residual and row.shortcut == "conv":
            self.shortcut = ConvNorm(inputs, depths[-1], 1, epsilon=EPSILON, activate=False)
        elif residual and row.shortcut == "sum":
            self.shortcut = nn.Identity()
        self.set_stride_and_rate(row.stride, 1)

    def set_stride_and_rate(self, stride: int, rate: int) -> None:
        self.stride, self.rate = stride, rate
        for conv in self.convs:
            conv.set_stride_and_rate(1, rate)
        if not self.pool:
            self.convs[-1].set_stride_and_rate(stride, rate)
        if isinstance(self.shortcut, ConvNorm):
            self.shortcut.conv.stride = (stride, stride)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The module's output, and that of its second separable convolution: before the third's ReLU, if tapped."""
        y = x
        for index, conv in enumerate(self.convs):
            y = conv(y)
            if index == 1:
                second = y
        if self.pool:
            y = max_pool(y, self.stride, self.rate, self.same)
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return y, second


class Xception(nn.Module):
    """Backbone: images N,3,H,W in [-1, 1] -> low-level features at stride 4 and features at `output_stride`; with `conv3`,
    between them those at stride 8.

    name: `xception` (the original), `xception41`, `xception65` or `xception71`.
    placement: of batch norm and ReLU in the aligned networks: `paper` (after each convolution) or `tf` (the released code).
    width: multiplies all channels, rounded to multiples of 8.
    output_stride: 8, 16 or 32; settable on a live network. Strides past it become atrous rates.
    padding: of the original's two stem convolutions and of its max-pools: `symmetric` (sizes ceil(n / 2), the others' rule),
        `keras` (stem unpadded, max-pools as TensorFlow's 'same') or `timm` (stem unpadded, max-pools symmetric).
    residual, between, segments: the experiments of arXiv 1610.02357: without shortcuts (section 4.7), an activation between
        depthwise and pointwise convolution (`relu`, `elu`, `none`; section 4.8; None: the placement's), spatial convolutions
        over so many groups of channels, from 1, a dense one, to None, one each (section 2). Segments must divide all channels
        (ValueError).
    """

    def __init__(
        self,
        name="xception65",
        *,
        activation_placement="paper",
        width=1.0,
        output_stride=16,
        padding="symmetric",
        residual=True,
        separable_activation=None,
        spatial_groups=None,
        conv3=False,
    ):
        super().__init__()
        rows, low_level = FAMILY[name]
        # Likewise the last stride-8 map that a separable convolution makes stands in the last module of the entry flow.
        last_entry = [row.name for row in rows if row.name.startswith("entry")][-1]
        self.taps = (low_level, last_entry) if conv3 else (low_level,)
        self.name, self.activation_placement = name, activation_placement
        self.aligned = name != "xception"
        inner, last = (
            {"paper": (POST, POST), "tf": (PRE, POST)}[activation_placement] if self.aligned else (ORIGINAL, ORIGINAL_EXIT)
        )
        if separable_activation is not None:
            inner, last = (
                replace(p, separable_activation=None if separable_activation == "none" else separable_activation)
                for p in (inner, last)
            )
        stem_padding = 1 if padding == "symmetric" else 0
        channels = scaled(32, width)
        self.conv1 = ConvNorm(3, channels, 3, epsilon=EPSILON, stride=2, padding=stem_padding)
        self.conv2 = ConvNorm(channels, scaled(64, width), 3, epsilon=EPSILON, padding=stem_padding)
        channels = scaled(64, width)
        self.flow = nn.ModuleDict()
        for row in rows:
            depths = tuple(scaled(depth, width) for depth in row.depths)
            chosen = last if row.shortcut == "none" else inner
            self.flow[row.name] = XceptionBlock(
                channels,
                row,
                depths,
                chosen,
                tapped=row.name in self.taps,
                pool=not self.aligned,
                same=padding == "keras",
                residual=residual,
                spatial_groups=spatial_groups,
            )
            channels = depths[-1]
            if row.name == low_level:
                self.low_level_channels = depths[1]
            if row.name == last_entry:
                self.conv3_channels = depths[1]
        self.channels = channels
        self.output_stride = output_stride

    @property
    def output_stride(self) -> int:
        return self._output_stride

    @output_stride.setter
    def output_stride(self, value: int) -> None:
        if value not in (8, 16, 32):
            raise ValueError(f"output stride {value}: must be 8, 16 or 32")
        self._output_stride = value
        stride, rate = 2, 1  # conv1 has halved the image
        for module in self.flow.values():
            if stride < value:
                module.set_stride_and_rate(module.nominal_stride, 1)
                stride *= module.nominal_stride
            else:
                # A stride not taken becomes the rate of all that follows, not of this module.
                module.set_stride_and_rate(1, rate)
                rate *= module.nominal_stride

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.conv2(self.conv1(x))
        tapped = []
        for name, module in self.flow.items():
            x, second = module(x)
            if name in self.taps:
                tapped.append(second)
        return *tapped, x
