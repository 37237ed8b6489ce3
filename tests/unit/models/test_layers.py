import math

import pytest
import torch
import torch.nn.functional as F

from seg.models.layers import (
    ORIGINAL,
    ORIGINAL_EXIT,
    POST,
    PRE,
    ConvNorm,
    SeparableConv2d,
)

EPS = 1e-3


@pytest.mark.parametrize("size", [33, 34, 57, 64])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 6, 18])
def test_output_size_is_input_over_stride_rounded_up(size, stride, dilation):
    image = torch.zeros(1, 3, size, size + 1)
    wanted = (1, 4, math.ceil(size / stride), math.ceil((size + 1) / stride))
    assert ConvNorm(3, 4, 3, eps=EPS, stride=stride, dilation=dilation).eval()(image).shape == wanted
    assert ConvNorm(3, 4, 1, eps=EPS, stride=stride).eval()(image).shape == wanted
    separable = SeparableConv2d(3, 4, POST, eps=EPS, stride=stride, dilation=dilation).eval()
    assert separable(image).shape == wanted


def norm(x, layer):
    """Batch norm with moving statistics, by its formula."""
    mean, variance, scale, offset = (
        t[:, None, None] for t in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    return (x - mean) / torch.sqrt(variance + EPS) * scale + offset


def post(x, depthwise, pointwise, conv):
    return norm(pointwise(norm(depthwise(x), conv.depthwise_norm).relu()), conv.norm).relu()


def pre(x, depthwise, pointwise, conv):
    return norm(pointwise(norm(depthwise(x.relu()), conv.depthwise_norm)), conv.norm)


def original(x, depthwise, pointwise, conv):
    return norm(pointwise(depthwise(x.relu())), conv.norm)


def original_exit(x, depthwise, pointwise, conv):
    return norm(pointwise(depthwise(x)), conv.norm).relu()


@pytest.mark.parametrize(
    "activation_placement, naive", [(POST, post), (PRE, pre), (ORIGINAL, original), (ORIGINAL_EXIT, original_exit)]
)
@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 3)])
def test_a_separable_convolution_has_relu_and_norm_where_the_placement_says(
    activation_placement, naive, stride, dilation, randomize
):
    torch.manual_seed(0)
    conv = randomize(SeparableConv2d(6, 10, activation_placement, eps=EPS, stride=stride, dilation=dilation)).eval()
    x = torch.randn(2, 6, 20, 17)

    def depthwise(x):
        channels = [
            F.conv2d(x[:, i : i + 1], conv.depthwise.weight[i : i + 1], None, stride, dilation, dilation) for i in range(6)
        ]
        return torch.cat(channels, 1)

    def pointwise(x):
        return torch.einsum("nihw,oi->nohw", x, conv.pointwise.weight[:, :, 0, 0])

    before = x.clone()
    torch.testing.assert_close(conv(x), naive(x, depthwise, pointwise, conv), rtol=1e-4, atol=1e-5)
    assert torch.equal(x, before), "the input is changed in place"


def test_convolution_without_activation_keeps_negative_values(randomize):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 9)
    linear = randomize(ConvNorm(3, 8, 3, eps=EPS, activate=False)).eval()
    active = ConvNorm(3, 8, 3, eps=EPS).eval()
    active.load_state_dict(linear.state_dict())
    wanted = norm(F.conv2d(x, linear.conv.weight, None, 1, 1), linear.norm)
    assert wanted.min() < 0
    torch.testing.assert_close(linear(x), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(active(x), wanted.clamp(min=0), rtol=1e-4, atol=1e-5)


def test_a_changed_stride_or_dilation_acts_as_if_built_with_it(randomize):
    torch.manual_seed(0)
    x = torch.randn(1, 4, 21, 24)
    built = randomize(SeparableConv2d(4, 8, PRE, eps=EPS, stride=2, dilation=3)).eval()
    changed = SeparableConv2d(4, 8, PRE, eps=EPS).eval()
    changed.load_state_dict(built.state_dict())
    changed.set_stride_and_dilation(2, 3)
    assert torch.equal(changed(x), built(x))


def test_moving_statistics_keep_0_9997_of_themselves_and_take_the_unbiased_variance():
    torch.manual_seed(0)
    layer = ConvNorm(3, 5, 1, eps=EPS).train()
    x = torch.randn(2, 3, 7, 7) * 30 + 50
    y = F.conv2d(x, layer.conv.weight)
    layer(x)
    torch.testing.assert_close(layer.norm.running_mean, 0.0003 * y.mean((0, 2, 3)))
    torch.testing.assert_close(layer.norm.running_var, 0.9997 + 0.0003 * y.var((0, 2, 3), unbiased=True))
