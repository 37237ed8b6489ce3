"""Convolutions, and where their normalization and activation stand."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .ops.convolution import DepthwiseConv, PointwiseConv
from .ops.recompute import norm_relu

# Batch-norm decay 0.9997 of the released training code; PyTorch's momentum is its complement.
BATCH_NORM_MOMENTUM = 0.0003


@dataclass(frozen=True)
class ActivationPlacement:
    """Where a separable convolution has ReLU, and whether batch norm stands between its two convolutions."""

    before: bool = False
    """ReLU on the input."""
    norm_between: bool = True
    """Batch norm after the depthwise convolution."""
    separable_activation: str | None = None
    """Activation between the two convolutions: relu, elu or None."""
    after: bool = False
    """ReLU after the pointwise convolution's batch norm."""


POST = ActivationPlacement(separable_activation="relu", after=True)
"""DeepLab V3+, arXiv 1802.02611 figure 4: batch norm and ReLU after each depthwise and each pointwise convolution."""
PRE = ActivationPlacement(before=True)
"""The released TensorFlow code: ReLU before, batch norm alone after each convolution."""
ORIGINAL = ActivationPlacement(before=True, norm_between=False)
"""Xception, arXiv 1610.02357 figure 5: nothing between depthwise and pointwise."""
ORIGINAL_EXIT = ActivationPlacement(norm_between=False, after=True)
"""The last two separable convolutions of arXiv 1610.02357 figure 5."""


def batch_norm(channels: int, epsilon: float) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=epsilon, momentum=BATCH_NORM_MOMENTUM)


class SinglePixelBatchNorm2d(nn.BatchNorm2d):
    """Batch norm for maps that may be one value a channel, as pooled features of a batch of one image are: the variance of
    one value is no statistic, so it is normalized with the moving statistics, which stay as they are."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, and ReLU unless `activate` is False. Output size ceil(input / stride)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, epsilon: float, stride=1, rate=1, padding=None, activate=True
    ):
        super().__init__()
        if kernel == 1:
            self.conv = PointwiseConv(inputs, outputs, stride)
        else:
            padding = rate * (kernel // 2) if padding is None else padding
            self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, rate, bias=False)
        self.norm = batch_norm(outputs, epsilon)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        return norm_relu(self.norm, self.conv(x), self.activate)


class SeparableConv(nn.Module):
    """3x3 depthwise convolution of stride s or an atrous rate, then 1x1 pointwise: N,C,H,W -> N,C',ceil(H/s),ceil(W/s).

    segments: groups of channels that the spatial convolution keeps apart; None: each channel, which makes it depthwise.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        activation_placement: ActivationPlacement,
        *,
        epsilon: float,
        stride=1,
        rate=1,
        spatial_groups=None,
    ):
        super().__init__()
        self.activation_placement = activation_placement
        self.depthwise = DepthwiseConv(inputs, inputs, 3, stride, rate, rate, groups=spatial_groups or inputs, bias=False)
        self.depthwise_norm = batch_norm(inputs, epsilon) if activation_placement.norm_between else nn.Identity()
        self.pointwise = PointwiseConv(inputs, outputs)
        self.norm = batch_norm(outputs, epsilon)

    def set_stride_and_rate(self, stride: int, rate: int) -> None:
        """Change stride and atrous rate; the padding follows, so that the output stays ceil(input / stride)."""
        self.depthwise.stride = (stride, stride)
        self.depthwise.dilation = self.depthwise.padding = (rate, rate)

    def forward(self, x: Tensor) -> Tensor:
        if self.activation_placement.before:
            x = F.relu(x)
        x = norm_relu(self.depthwise_norm, self.depthwise(x), self.activation_placement.separable_activation == "relu")
        if self.activation_placement.separable_activation == "elu":
            x = F.elu(x)  # not in place: `lean` would compute again what was there before
        return norm_relu(self.norm, self.pointwise(x), self.activation_placement.after)


def resize(x: Tensor, size) -> Tensor:
    """Bilinear resize of N,C,H,W with aligned corners, as everywhere in the released code."""
    return x if x.shape[-2:] == tuple(size) else F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class LogitsModule(nn.Module):
    """`model.logits` as a forward pass: what DistributedDataParallel and torch.compile wrap."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.logits(images)
