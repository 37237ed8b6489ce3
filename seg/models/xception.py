"""The Xception family as data: the original, and the modified (aligned) Xception-41, 65 and 71 of DeepLab V3+.

Original: Xception, arXiv 1610.02357, figure 5. Aligned: arXiv 1802.02611, figure 4, and the released TensorFlow code:
a deeper middle flow, max-pools replaced by strided separable convolutions, batch norm after each depthwise convolution.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ORIGINAL, ORIGINAL_EXIT, POST, PRE, ActivationPlacement, ConvNorm, SeparableConv2d

EPS = 1e-3
"""Batch-norm epsilon of the whole family."""


@dataclass(frozen=True)
class BlockSpec:
    """A row of the papers' figures: one block of separable convolutions."""

    name: str
    depths: tuple[int, ...]
    """Output channels of each separable convolution."""
    shortcut: str = "conv"
    """conv, sum (identity) or none."""
    stride: int = 1
    """At output stride 32; a smaller output stride replaces it by dilation."""


def middle_flow(count: int) -> tuple[BlockSpec, ...]:
    """`count` equal blocks: middle1, middle2, ..."""
    return tuple(BlockSpec(f"middle{i}", (728, 728, 728), "sum") for i in range(1, count + 1))


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
ORIGINAL_BLOCKS = (
    BlockSpec("entry1", (128, 128), stride=2),
    BlockSpec("entry2", (256, 256), stride=2),
    BlockSpec("entry3", (728, 728), stride=2),
    *middle_flow(8),
    BlockSpec("exit1", (728, 1024), stride=2),
    BlockSpec("exit2", (1536, 2048), "none"),
)
FAMILY = {
    "xception": (ORIGINAL_BLOCKS, "entry2"),
    "xception41": ((*ALIGNED_ENTRY, *middle_flow(8), *ALIGNED_EXIT), "entry2"),
    "xception65": ((*ALIGNED_ENTRY, *middle_flow(16), *ALIGNED_EXIT), "entry2"),
    "xception71": ((*ALIGNED_ENTRY_71, *middle_flow(16), *ALIGNED_EXIT), "entry3"),
}
"""Blocks of each network, and the block of its low-level features: the last stride-4 map that a separable convolution makes is
the output of this block's second one."""


def scaled(channels: int, width: float) -> int:
    """`channels * width` rounded to a multiple of 8, at least 8."""
    return max(8, int(channels * width / 8 + 0.5) * 8)


def max_pool(x: Tensor, stride: int, dilation: int, tensorflow_padding: bool) -> Tensor:
    """3x3 max-pool, padded by `dilation` on each side. `tensorflow_padding`: at stride 2, even sizes only at the end."""
    top, left = (0 if tensorflow_padding and stride == 2 and size % 2 == 0 else dilation for size in x.shape[-2:])
    x = F.pad(x, (left, dilation, top, dilation), value=float("-inf"))
    return F.max_pool2d(x, 3, stride, dilation=dilation)


class XceptionBlock(nn.Module):
    """Separable convolutions, an optional final max-pool, and the sum with the shortcut.

    Args:
        in_channels: channels of the input.
        spec: shortcut and stride.
        depths: output channels of each separable convolution: those of `spec` times the width.
        activation_placement: where ReLU and batch norm are.
        gives_features: the second convolution's output is also used elsewhere, so the third one's ReLU stays out of it.
        pool: whether a max-pool makes the stride, as in the original; else the last convolution.
        tensorflow_padding: of the max-pool; see `max_pool`.
        residual: False leaves out the shortcut.
        spatial_groups: see SeparableConv2d.
    """

    def __init__(
        self,
        in_channels: int,
        spec: BlockSpec,
        depths: tuple[int, ...],
        activation_placement: ActivationPlacement,
        *,
        gives_features: bool,
        pool: bool,
        tensorflow_padding: bool,
        residual: bool,
        spatial_groups: int | None,
    ):
        super().__init__()
        self.nominal_stride = spec.stride
        self.pool = pool and spec.stride > 1
        self.tensorflow_padding = tensorflow_padding
        last = len(depths) - 1
        self.convs = nn.ModuleList()
        for index, (channels, depth) in enumerate(pairwise((in_channels, *depths))):
            here = activation_placement
            if activation_placement.before:
                # A ReLU before a convolution moves to the end of the one before it, where only this convolution reads that.
                unchanged = {-1, last} | ({1} if gives_features else set())
                here = replace(activation_placement, before=index - 1 in unchanged, after=index not in unchanged)
            self.convs.append(SeparableConv2d(channels, depth, here, eps=EPS, spatial_groups=spatial_groups))
        self.shortcut: nn.Module | None = None
        if residual and spec.shortcut == "conv":
            self.shortcut = ConvNorm(in_channels, depths[-1], 1, eps=EPS, activate=False)
        elif residual and spec.shortcut == "sum":
            self.shortcut = nn.Identity()
        self.set_stride_and_dilation(spec.stride, 1)

    def separable_convs(self) -> Iterator[SeparableConv2d]:
        """The separable convolutions, in order."""
        for conv in self.convs:
            assert isinstance(conv, SeparableConv2d)
            yield conv

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change the block's stride and the dilation of its convolutions."""
        self.stride, self.dilation = stride, dilation
        for conv in self.separable_convs():
            conv.set_stride_and_dilation(1, dilation)
        if not self.pool:
            conv.set_stride_and_dilation(stride, dilation)
        if isinstance(self.shortcut, ConvNorm):
            self.shortcut.conv.stride = (stride, stride)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and the second separable convolution's: before the third's ReLU, if `gives_features`."""
        y = x
        for index, conv in enumerate(self.convs):
            y = conv(y)
            if index == 1:
                second = y
        if self.pool:
            y = max_pool(y, self.stride, self.dilation, self.tensorflow_padding)
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return y, second


class Xception(nn.Module):
    """A backbone of the Xception family: images -> low-level features at stride 4, and features at `output_stride`.

    Attributes: `channels` of the features and `low_level_channels` of the low-level features (2048 and 256 at width 1),
    `low_level_stride` (4), `output_stride` (settable on a live network), and `mean` and `std` that normalize its input.

    Args:
        name: xception (the original), xception41, xception65 or xception71.
        activation_placement: of batch norm and ReLU in the aligned networks: paper (after each convolution) or tf (as the
            released code).
        width: multiplies all channels, rounded to multiples of 8.
        output_stride: 8, 16 or 32. Strides beyond it become dilations (arXiv 1706.05587, section 3.1).
        padding: of the original's two stem convolutions and of its max-pools: symmetric (sizes ceil(n / 2), as everywhere
            else), keras (stem unpadded, max-pools as TensorFlow's "same") or timm (stem unpadded, max-pools symmetric).
        residual: False leaves out the shortcuts (arXiv 1610.02357, section 4.7).
        separable_activation: between depthwise and pointwise convolutions: relu, elu or none (arXiv 1610.02357, section
            4.8). None: as the placement has it.
        spatial_groups: groups of channels of the 3x3 convolutions (arXiv 1610.02357, section 2): 1 is dense, None is one per
            channel. Must divide the channels of all layers.
        conv3: also return the features at stride 8, between the other two.

    Raises:
        ValueError: `output_stride` is not 8, 16 or 32, or `spatial_groups` does not divide a layer's channels.
    """

    mean = std = (0.5, 0.5, 0.5)
    """Of the input, for images in [0, 1], as timm states them: the network sees [-1, 1]."""
    low_level_stride = 4

    def __init__(
        self,
        name: str = "xception65",
        *,
        activation_placement: str = "paper",
        width: float = 1.0,
        output_stride: int = 16,
        padding: str = "symmetric",
        residual: bool = True,
        separable_activation: str | None = None,
        spatial_groups: int | None = None,
        conv3: bool = False,
    ):
        super().__init__()
        specs, low_level = FAMILY[name]
        # Likewise, the last stride-8 map that a separable convolution makes is in the last block of the entry flow.
        last_entry = [spec.name for spec in specs if spec.name.startswith("entry")][-1]
        self.feature_blocks = (low_level, last_entry) if conv3 else (low_level,)
        self.name, self.activation_placement = name, activation_placement
        self.width, self.residual = width, residual
        self.separable_activation, self.spatial_groups = separable_activation, spatial_groups
        self.aligned = name != "xception"
        inner, last = _placements(self.aligned, activation_placement, separable_activation)
        stem_padding = 1 if padding == "symmetric" else 0
        channels = scaled(32, width)
        self.conv1 = ConvNorm(3, channels, 3, eps=EPS, stride=2, padding=stem_padding)
        self.conv2 = ConvNorm(channels, scaled(64, width), 3, eps=EPS, padding=stem_padding)
        channels = scaled(64, width)
        self.flow = nn.ModuleDict()
        for spec in specs:
            depths = tuple(scaled(depth, width) for depth in spec.depths)
            self.flow[spec.name] = XceptionBlock(
                channels,
                spec,
                depths,
                last if spec.shortcut == "none" else inner,
                gives_features=spec.name in self.feature_blocks,
                pool=not self.aligned,
                tensorflow_padding=padding == "keras",
                residual=residual,
                spatial_groups=spatial_groups,
            )
            channels = depths[-1]
            if spec.name == low_level:
                self.low_level_channels = depths[1]
            if spec.name == last_entry:
                self.conv3_channels = depths[1]
        self.channels = channels
        self.output_stride = output_stride

    def blocks(self) -> Iterator[XceptionBlock]:
        """The blocks, in order."""
        for block in self.flow.values():
            assert isinstance(block, XceptionBlock)
            yield block

    @property
    def output_stride(self) -> int:
        """Stride of the features: 8, 16 or 32. Setting it keeps the weights: strides become dilations, or back."""
        return self._output_stride

    @output_stride.setter
    def output_stride(self, value: int) -> None:
        if value not in (8, 16, 32):
            raise ValueError(f"output stride {value}: must be 8, 16 or 32")
        self._output_stride = value
        stride, dilation = 2, 1  # conv1 has halved the image
        for block in self.blocks():
            if stride < value:
                block.set_stride_and_dilation(block.nominal_stride, 1)
                stride *= block.nominal_stride
            else:
                # A stride left out dilates the blocks after this one, not this one.
                block.set_stride_and_dilation(1, dilation)
                dilation *= block.nominal_stride

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalized images [N, 3, H, W] -> low-level features [N, low_level_channels, ceil(H/4), ceil(W/4)] and features
        [N, channels, ceil(H/s), ceil(W/s)], s being the output stride; with `conv3`, those at stride 8 between them."""
        x = self.conv2(self.conv1(images))
        features = []
        for name, block in self.flow.items():
            x, second = block(x)
            if name in self.feature_blocks:
                features.append(second)
        return *features, x


def _placements(
    aligned: bool, activation_placement: str, separable_activation: str | None
) -> tuple[ActivationPlacement, ActivationPlacement]:
    """Where ReLU and batch norm are in all blocks but the last, and in the last."""
    inner, last = ORIGINAL, ORIGINAL_EXIT
    if aligned:
        inner, last = {"paper": (POST, POST), "tf": (PRE, POST)}[activation_placement]
    if separable_activation is None:
        return inner, last
    activation = None if separable_activation == "none" else separable_activation
    return replace(inner, separable_activation=activation), replace(last, separable_activation=activation)
