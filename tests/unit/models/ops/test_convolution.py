import pytest
import torch
import torch.nn.functional as F

from seg.models.ops.convolution import FEW, DepthwiseConv2d, PointwiseConv2d, _AtrousDepthwise, _Pointwise


def inputs(height, width, channels=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, channels, height, width, dtype=torch.float64, generator=generator)
    return x, torch.randn(channels, 1, 3, 3, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(21, 21), (9, 30), (4, 5), (1, 12), (33, 17)])
@pytest.mark.parametrize("rates", [*((r, r) for r in (2, 3, 6, 12, 18, 36)), (1, 6), (18, 15), (6, 3), (12, 42)])
def test_values_and_gradients_are_those_of_pytorch(size, rates, memory_format):
    x, weight = inputs(*size)
    found = []
    for convolve in (
        lambda x, w: _AtrousDepthwise.apply(x, w, rates),
        lambda x, w: F.conv2d(x, w, None, 1, rates, rates, x.shape[1]),
    ):
        a, b = x.contiguous(memory_format=memory_format).requires_grad_(), weight.clone().requires_grad_()
        y = convolve(a, b)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        found.append((y.detach(), a.grad, b.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_only_atrous_depthwise_convolutions_use_our_kernel(monkeypatch):
    calls = []
    original = _AtrousDepthwise.apply
    monkeypatch.setattr(_AtrousDepthwise, "apply", lambda *given: calls.append(given[2]) or original(*given))
    x = torch.randn(1, 4, 9, 9)
    for groups, rate, stride, ours in ((4, 6, 1, True), (4, 2, 1, True), (4, 1, 1, False), (4, 6, 2, False), (2, 6, 1, False)):
        conv = DepthwiseConv2d(4, 4, 3, stride, rate, rate, groups=groups, bias=False)
        calls.clear()
        torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, None, stride, rate, rate, groups))
        assert calls == [(rate, rate)] * ours


def test_dilations_of_both_directions_use_our_kernel():
    x, conv = torch.randn(1, 4, 40, 40), DepthwiseConv2d(4, 4, 3, 1, (1, 6), (1, 6), groups=4, bias=False)
    for dilation in ((1, 6), (18, 15), (6, 1)):
        conv.dilation = conv.padding = dilation
        torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, None, 1, dilation, dilation, 4))


def test_a_bias_is_added():
    x, conv = torch.randn(1, 4, 9, 9), DepthwiseConv2d(4, 4, 3, 1, 6, 6, groups=4)
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, conv.bias, 1, 6, 6, 4))


def test_frozen_weights_and_inputs_get_no_gradient():
    x, weight = inputs(9, 9)
    y = _AtrousDepthwise.apply(x, weight.requires_grad_(), (4, 4))
    y.sum().backward()
    assert x.grad is None and weight.grad is not None
    x, weight = inputs(9, 9)
    _AtrousDepthwise.apply(x.requires_grad_(), weight, (4, 4)).sum().backward()
    assert x.grad is not None and weight.grad is None


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 21, 17), (3, 1, 1), (1, 1, 40)])
def test_pointwise_values_and_gradients_are_those_of_pytorch(shape, memory_format):
    images, *size = shape
    torch.manual_seed(0)
    x, weight = torch.randn(images, 24, *size), torch.randn(40, 24, 1, 1)
    turns = torch.randn(images, 40, *size)
    found = []
    for convolve, kind in ((_Pointwise.apply, torch.float32), (F.conv2d, torch.float64)):
        a = x.to(kind, copy=True).contiguous(memory_format=memory_format).requires_grad_()
        b = weight.to(kind, copy=True).requires_grad_()
        y = convolve(a, b)
        (y * turns).sum().backward()
        assert b.grad.stride() == b.stride()
        found.append((y.detach(), a.grad, b.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-4)


def test_only_pointwise_convolutions_of_few_positions_use_our_kernel(monkeypatch):
    calls = []
    original = _Pointwise.apply
    monkeypatch.setattr(_Pointwise, "apply", lambda *given: calls.append(1) or original(*given))

    def ours(x, stride=1):
        conv = PointwiseConv2d(4, 6, stride).to(x.dtype)
        calls.clear()
        torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, None, stride))
        return len(calls) == 1

    assert ours(torch.randn(2, 4, 9, 9)) and ours(torch.randn(1, 4, 1, FEW))
    assert not ours(torch.randn(2, 4, 9, 9), stride=2)
    assert not ours(torch.randn(1, 4, 1, FEW + 1)) and not ours(torch.randn(FEW + 1, 4, 1, 1))
    assert not ours(torch.randn(2, 4, 9, 9).double())
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not ours(torch.randn(2, 4, 9, 9))


def test_frozen_pointwise_weights_and_inputs_get_no_gradient():
    for of_x, of_weight in ((False, True), (True, False)):
        x, weight = torch.randn(1, 4, 9, 9, requires_grad=of_x), torch.randn(6, 4, 1, 1, requires_grad=of_weight)
        _Pointwise.apply(x, weight).sum().backward()
        assert (x.grad is not None, weight.grad is not None) == (of_x, of_weight)


@pytest.mark.parametrize(
    "conv", [lambda: PointwiseConv2d(4, 6), lambda: DepthwiseConv2d(4, 4, 3, 1, 6, 6, groups=4, bias=False)]
)
def test_autocast_uses_its_own_precision(conv):
    with torch.autocast("cpu", torch.bfloat16):
        assert conv()(torch.randn(1, 4, 9, 9)).dtype == torch.bfloat16
