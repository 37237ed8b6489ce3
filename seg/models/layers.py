"""Building blocks of the networks: convolutions with batch norm and ReLU, and the bilinear resize."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .ops.batch_norm import BatchNorm2d
from .ops.convolution import DepthwiseConv2d, PointwiseConv2d
from .ops.recompute import norm_relu

BATCH_NORM_MOMENTUM = 0.0003
"""Batch-norm decay 0.9997 of the released training code: PyTorch's momentum is 1 minus that."""


@dataclass(frozen=True)
class ActivationPlacement:
    """Where a separable convolution has ReLU and batch norm. Its second batch norm always follows the pointwise convolution."""

    before: bool = False
    """ReLU on the input."""
    norm_between: bool = True
    """Batch norm after the depthwise convolution."""
    separable_activation: str | None = None
    """Activation between the depthwise and the pointwise convolution: relu, elu or None."""
    after: bool = False
    """ReLU after the pointwise convolution's batch norm."""


POST = ActivationPlacement(separable_activation="relu", after=True)
"""DeepLab V3+, arXiv 1802.02611 figure 4: batch norm and ReLU after each depthwise and each pointwise convolution."""
PRE = ActivationPlacement(before=True)
"""The released TensorFlow code: ReLU first, and only batch norm after each convolution."""
ORIGINAL = ActivationPlacement(before=True, norm_between=False)
"""Xception, arXiv 1610.02357 figure 5: nothing between the depthwise and the pointwise convolution."""
ORIGINAL_EXIT = ActivationPlacement(norm_between=False, after=True)
"""The last two separable convolutions of arXiv 1610.02357 figure 5."""


def batch_norm(channels: int, eps: float) -> BatchNorm2d:
    """Batch norm with the momentum of the released training code."""
    return BatchNorm2d(channels, eps=eps, momentum=BATCH_NORM_MOMENTUM)


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm and ReLU: [N, in_channels, H, W] -> [N, out_channels, ceil(H/s), ceil(W/s)].

    Args:
        in_channels, out_channels, kernel_size, stride, dilation: as for nn.Conv2d.
        eps: of the batch norm.
        padding: default: what gives the size above.
        activate: False leaves out the ReLU.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        eps: float,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
        activate: bool = True,
    ):
        super().__init__()
        self.conv: nn.Conv2d
        if kernel_size == 1:
            self.conv = PointwiseConv2d(in_channels, out_channels, stride)
        else:
            padding = dilation * (kernel_size // 2) if padding is None else padding
            self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False)
        self.norm = batch_norm(out_channels, eps)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] -> [N, out_channels, H', W']."""
        return norm_relu(self.norm, self.conv(x), self.activate)


class SeparableConv2d(nn.Module):
    """3x3 depthwise, then 1x1 pointwise convolution: [N, in_channels, H, W] -> [N, out_channels, ceil(H/s), ceil(W/s)].

    Args:
        in_channels, out_channels, stride: as for nn.Conv2d.
        activation_placement: where ReLU and batch norm are.
        eps: of the batch norms.
        dilation: atrous rate of the depthwise convolution.
        spatial_groups: groups of channels that the 3x3 convolution keeps apart; must divide `in_channels`. None: one group
            per channel, which makes it depthwise.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        activation_placement: ActivationPlacement,
        *,
        eps: float,
        stride: int = 1,
        dilation: int = 1,
        spatial_groups: int | None = None,
    ):
        super().__init__()
        self.activation_placement = activation_placement
        groups = spatial_groups or in_channels
        self.depthwise = DepthwiseConv2d(in_channels, in_channels, 3, stride, dilation, dilation, groups=groups, bias=False)
        self.depthwise_norm = batch_norm(in_channels, eps) if activation_placement.norm_between else nn.Identity()
        self.pointwise = PointwiseConv2d(in_channels, out_channels)
        self.norm = batch_norm(out_channels, eps)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation. The padding follows: the output stays ceil(input / stride)."""
        self.depthwise.stride = (stride, stride)
        self.depthwise.dilation = self.depthwise.padding = (dilation, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] -> [N, out_channels, H', W']."""
        if self.activation_placement.before:
            x = F.relu(x)
        x = norm_relu(self.depthwise_norm, self.depthwise(x), self.activation_placement.separable_activation == "relu")
        if self.activation_placement.separable_activation == "elu":
            x = F.elu(x)  # not in place: `recompute` would compute the values before it
        return norm_relu(self.norm, self.pointwise(x), self.activation_placement.after)


class LogitsModule(nn.Module):
    """A network whose forward pass gives `model.logits`: what DistributedDataParallel, torch.compile and exporters wrap."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] -> logits [N, C, H/s, W/s], s being `model.logits_stride`."""
        logits: Tensor = self.model.logits(images)  # type: ignore[operator]
        return logits
