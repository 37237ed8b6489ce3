import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seg.models.aspp import ASPP

INPUTS, CHANNELS = 24, 16


def make(**options):
    torch.manual_seed(0)
    return ASPP(INPUTS, CHANNELS, **options)


def concatenated(aspp, x):
    """The input of the projection."""
    seen = []
    handle = aspp.project.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    aspp(x)
    handle.remove()
    return seen[0]


@torch.no_grad()
@pytest.mark.parametrize("separable", [True, False])
def test_the_order_of_the_branches_is_pooling_1x1_and_the_rates(separable, randomize):
    aspp = randomize(make(separable=separable)).eval()
    x = torch.randn(2, INPUTS, 20, 23)
    pooled = aspp.pooling(x.mean((2, 3), keepdim=True)).expand(-1, -1, 20, 23)
    branches = [pooled, aspp.conv1x1(x), *(conv(x) for conv in aspp.atrous)]
    torch.testing.assert_close(concatenated(aspp, x), torch.cat(branches, 1))
    torch.testing.assert_close(aspp(x), aspp.project(torch.cat(branches, 1)))
    assert aspp(x).shape == (2, CHANNELS, 20, 23)


@torch.no_grad()
@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("stride, rates", [(16, (6, 12, 18)), (8, (12, 24, 36)), (32, (3, 6, 9))])
def test_the_reach_of_atrous_branches_follows_their_rates(separable, stride, rates):
    aspp = make(separable=separable)
    aspp.set_output_stride(8)
    aspp.set_output_stride(stride)
    impulse = torch.zeros(1, INPUTS, 81, 81)
    impulse[..., 40, 40] = 1
    for branch, rate in zip(aspp.atrous, rates, strict=True):
        conv = branch.depthwise if separable else branch.conv
        nn.init.ones_(conv.weight)
        response = conv(impulse)
        assert response.shape[-2:] == (81, 81)
        reached = {tuple(place) for place in response[0, 0].nonzero().tolist()}
        assert reached == {(40 + i * rate, 40 + j * rate) for i in (-1, 0, 1) for j in (-1, 0, 1)}


def test_a_scaled_atrous_rate_is_at_least_1():
    aspp = make(atrous_rates=(1, 3))
    aspp.set_output_stride(32)
    assert [conv.depthwise.dilation for conv in aspp.atrous] == [(1, 1), (1, 1)]


def norm_parameters(channels):
    return 2 * channels


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("image_pooling", [True, False])
@pytest.mark.parametrize("rates", [(6, 12, 18), (6,)])
def test_parameters_are_as_many_as_the_formula_says(separable, image_pooling, rates):
    one = INPUTS * CHANNELS + norm_parameters(CHANNELS)
    atrous = 9 * INPUTS + norm_parameters(INPUTS) + one if separable else 9 * INPUTS * CHANNELS + norm_parameters(CHANNELS)
    branches = 1 + len(rates) + image_pooling
    project = branches * CHANNELS * CHANNELS + norm_parameters(CHANNELS)
    aspp = make(separable=separable, image_pooling=image_pooling, atrous_rates=rates)
    assert sum(p.numel() for p in aspp.parameters()) == one * (1 + image_pooling) + atrous * len(rates) + project


@torch.no_grad()
def test_without_image_pooling_the_other_branches_stay():
    aspp = make(image_pooling=False).eval()
    x = torch.randn(1, INPUTS, 9, 9)
    assert torch.equal(concatenated(aspp, x), torch.cat([aspp.conv1x1(x), *(conv(x) for conv in aspp.atrous)], 1))


@torch.no_grad()
def test_the_pooled_branch_is_the_global_mean_convolved_normalized_and_activated(randomize):
    aspp = randomize(make()).eval()
    x = torch.randn(2, INPUTS, 7, 11)
    norm = aspp.pooling.norm
    y = x.sum((2, 3)) / 77 @ aspp.pooling.conv.weight[:, :, 0, 0].T
    y = (y - norm.running_mean) / torch.sqrt(norm.running_var + 1e-5) * norm.weight + norm.bias
    pooled = concatenated(aspp, x)[:, :CHANNELS]
    torch.testing.assert_close(pooled, y.relu()[:, :, None, None].expand(-1, -1, 7, 11))


def test_one_image_in_training_uses_moving_statistics_in_the_pooled_branch(randomize):
    aspp = randomize(make(dropout=0)).train()
    x = torch.randn(1, INPUTS, 9, 9)
    before = {name: value.clone() for name, value in aspp.state_dict().items()}
    pooled = concatenated(aspp, x)[:, :CHANNELS]
    aspp(x).sum().backward()
    after = aspp.state_dict()
    same = [name for name in after if torch.equal(after[name], before[name])]
    assert {name for name in same if "running" in name} == {"pooling.norm.running_mean", "pooling.norm.running_var"}
    assert torch.equal(pooled, concatenated(aspp.eval(), x)[:, :CHANNELS])
    assert aspp.pooling.conv.weight.grad.any() and aspp.pooling.norm.weight.grad.any()


def test_two_images_in_training_give_the_pooled_branch_its_statistics():
    aspp = make().train()
    x = torch.randn(2, INPUTS, 9, 9)
    y = F.conv2d(x.mean((2, 3), keepdim=True), aspp.pooling.conv.weight)[:, :, 0, 0]
    pooled = concatenated(aspp, x)[:, :CHANNELS, 0, 0]
    wanted = (y - y.mean(0)) / torch.sqrt(y.var(0, unbiased=False) + 1e-5)
    torch.testing.assert_close(pooled, wanted.relu().detach(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(aspp.pooling.norm.running_mean, 0.0003 * y.mean(0))


@torch.no_grad()
def test_dropout_zeroes_its_share_of_values_only_in_training():
    aspp = make(dropout=0.1).train()
    seen = []
    aspp.project.register_forward_hook(lambda module, inputs, output: seen.append(output))
    x = torch.randn(4, INPUTS, 33, 33)
    y = aspp(x)
    active = seen[0] > 0
    kept = y[active] != 0
    assert abs(1 - kept.float().mean() - 0.1) < 0.01
    torch.testing.assert_close(y[active][kept], seen[0][active][kept] / 0.9)
    assert torch.equal(aspp.eval()(x), seen[1])
