"""Fold batch norm into the convolution before it: in evaluation mode, both together are one convolution."""

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .layers import ConvNorm, SeparableConv2d
from .ops.batch_norm import BatchNorm2d, SinglePixelBatchNorm2d
from .ops.convolution import DepthwiseConv2d, PointwiseConv2d

CONVOLUTIONS = nn.Conv2d, DepthwiseConv2d, PointwiseConv2d
NORMS = nn.BatchNorm2d, BatchNorm2d, SinglePixelBatchNorm2d


def folded(model: nn.Module) -> nn.Module:
    """A copy of the model in evaluation mode with batch norms folded into convolutions. Its outputs differ by rounding only.

    In other libraries' networks, only neighbors in a plain nn.Sequential are folded: their order is certain.

    Args:
        model: any network; it stays as it is.
    """
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, SeparableConv2d):
            _fuse(module, "depthwise", "depthwise_norm")
            _fuse(module, "pointwise", "norm")
        elif isinstance(module, ConvNorm):
            _fuse(module, "conv", "norm")
        elif isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            names = [name for name, _ in module.named_children()]
            for conv, norm in pairwise(names):
                _fuse(module, conv, norm)
    return model


def _fuse(parent: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = getattr(parent, conv_name), getattr(parent, norm_name)
    # Exactly these classes: a library's subclass may do more than its name says, such as an activation.
    if type(conv) in CONVOLUTIONS and type(norm) in NORMS:
        setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
        setattr(parent, norm_name, nn.Identity())
