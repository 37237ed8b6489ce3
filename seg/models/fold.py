"""Batch norm folded into the convolution before it: in evaluation both are one affine map."""

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .layers import ConvNorm, SeparableConv, SinglePixelBatchNorm2d
from .ops.convolution import DepthwiseConv, PointwiseConv


def folded(model: nn.Module) -> nn.Module:
    """A copy of the model in evaluation mode, equal to rounding, without the batch norms that follow a convolution.

    In networks that are not ours only those whose order is certain are folded: neighbors in a plain nn.Sequential.
    """
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, SeparableConv):
            _fuse(module, "depthwise", "depthwise_norm")
            _fuse(module, "pointwise", "norm")
        elif isinstance(module, ConvNorm):
            _fuse(module, "conv", "norm")
        elif isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            names = [name for name, _ in module.named_children()]
            for conv, norm in pairwise(names):
                _fuse(module, conv, norm)
    return model


def _fuse(parent: nn.Module, conv: str, norm: str) -> None:
    pair = getattr(parent, conv), getattr(parent, norm)
    # Not their subclasses: a library's may do more than their names say, such as an activation.
    if type(pair[0]) in (nn.Conv2d, DepthwiseConv, PointwiseConv) and type(pair[1]) in (nn.BatchNorm2d, SinglePixelBatchNorm2d):
        setattr(parent, conv, fuse_conv_bn_eval(*pair))
        setattr(parent, norm, nn.Identity())
