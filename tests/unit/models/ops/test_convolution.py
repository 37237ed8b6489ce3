import pytest
import torch
import torch.nn.functional as F

from seg.models.ops.convolution import (
    FEW,
    DepthwiseConv2d,
    PointwiseConv2d,
    _AtrousDepthwise,
    _by_phases,
    _Pointwise,
    _StridedDepthwise,
)


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
        lambda x, w: F.conv2d(x, w, None, 1, rates, rates, x.shape[1]),
        lambda x, w: _AtrousDepthwise.apply(x, w, rates),
        lambda x, w: _by_phases(x, w, None, rates),
    ):
        a, b = x.contiguous(memory_format=memory_format).requires_grad_(), weight.clone().requires_grad_()
        y = convolve(a, b)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        found.append((y.detach(), a.grad, b.grad))
    for theirs, *ours in zip(*found, strict=True):
        for values in ours:
            torch.testing.assert_close(values, theirs, rtol=1e-11, atol=1e-11)


def test_phases_are_channels_last_and_add_the_bias():
    x, conv = torch.randn(2, 4, 33, 20), DepthwiseConv2d(4, 4, 3, 1, (6, 3), (6, 3), groups=4)
    found = _by_phases(x.contiguous(memory_format=torch.channels_last), conv.weight, conv.bias, (6, 3))
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, conv(x))


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
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("shape", [(2, 21, 17), (3, 1, 1), (1, 1, 40)])
def test_pointwise_values_and_gradients_are_those_of_pytorch(shape, dtype, tolerance, memory_format):
    images, *size = shape
    torch.manual_seed(0)
    x, weight = torch.randn(images, 24, *size).to(dtype), torch.randn(40, 24, 1, 1).to(dtype)
    turns = torch.randn(images, 40, *size)
    found = []
    for convolve, kind in ((_Pointwise.apply, dtype), (F.conv2d, torch.float64)):
        a = x.to(kind, copy=True).contiguous(memory_format=memory_format).requires_grad_()
        b = weight.to(kind, copy=True).contiguous(memory_format=memory_format).requires_grad_()
        y = convolve(a, b)
        (y * turns).sum().backward()
        assert b.grad.stride() == b.stride()
        found.append((y.detach(), a.grad, b.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=10 * tolerance)


def test_only_pointwise_convolutions_of_few_positions_use_our_kernel(monkeypatch):
    calls = []
    original = _Pointwise.apply
    monkeypatch.setattr(_Pointwise, "apply", lambda *given: calls.append(1) or original(*given))

    def ours(x, stride=1):
        conv = PointwiseConv2d(4, 6, stride).to(x.dtype)
        calls.clear()
        torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, None, stride))
        return len(calls) == 1

    assert not ours(torch.randn(2, 4, 9, 9), stride=2)
    for dtype, few in FEW.items():
        assert ours(torch.randn(2, 4, 9, 9).to(dtype)) and ours(torch.randn(1, 4, 1, few).to(dtype))
        assert not ours(torch.randn(1, 4, 1, few + 1).to(dtype)) and not ours(torch.randn(few + 1, 4, 1, 1).to(dtype))
    assert not ours(torch.randn(2, 4, 9, 9).double())
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(torch.randn(1, 4, 1, FEW[torch.bfloat16]))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not ours(torch.randn(2, 4, 9, 9))


def test_frozen_pointwise_weights_and_inputs_get_no_gradient():
    for of_x, of_weight in ((False, True), (True, False)):
        x, weight = torch.randn(1, 4, 9, 9, requires_grad=of_x), torch.randn(6, 4, 1, 1, requires_grad=of_weight)
        _Pointwise.apply(x, weight).sum().backward()
        assert (x.grad is not None, weight.grad is not None) == (of_x, of_weight)


@pytest.mark.parametrize("stride, padding, dilation", [(2, 1, 1), (2, 2, 2), ((2, 1), 0, 1)])
def test_strided_depthwise_gradients_in_bfloat16_are_those_of_pytorch(stride, padding, dilation, monkeypatch):
    calls = []
    original = _StridedDepthwise.apply
    monkeypatch.setattr(_StridedDepthwise, "apply", lambda *given: calls.append(1) or original(*given))
    torch.manual_seed(0)
    ours = DepthwiseConv2d(8, 8, 3, stride, padding, dilation, groups=8, bias=False)
    theirs = torch.nn.Conv2d(8, 8, 3, stride, padding, dilation, groups=8, bias=False).double()
    x = torch.randn(2, 8, 17, 14).bfloat16()
    ours.weight.data = ours.weight.data.bfloat16().float()
    theirs.weight.data = ours.weight.data.double()
    found = []
    for conv in (ours, theirs):
        given = x.to(conv.weight.dtype, copy=True).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=conv is ours):
            y = conv(given)
        (y * torch.linspace(-1, 1, y.numel()).bfloat16().view_as(y)).sum().backward()
        found.append((y.detach().double(), given.grad.double(), conv.weight.grad.double()))
    assert calls == [1]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2)
    calls.clear()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        ours(x.float())
    ours(x.float())
    assert not calls


@pytest.mark.parametrize(
    "conv",
    [
        lambda: PointwiseConv2d(4, 6),
        lambda: DepthwiseConv2d(4, 4, 3, 1, 6, 6, groups=4, bias=False),
        lambda: DepthwiseConv2d(4, 4, 3, 2, 1, 1, groups=4, bias=False),
    ],
)
def test_autocast_uses_its_own_precision(conv):
    with torch.autocast("cpu", torch.bfloat16):
        assert conv()(torch.randn(1, 4, 9, 9)).dtype == torch.bfloat16
