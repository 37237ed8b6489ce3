import pytest
import torch
from torch import nn

from seg.models.decoder import Decoder
from seg.models.layers import SeparableConv2d

INPUTS, LOW = 32, 24
VARIANTS = {
    "none": [],
    "one 1x1": [[1, 16]],
    "one 3x3": [[3, 16]],
    "two 3x3": [[3, 16], [3, 40]],
    "three 3x3": [[3, 16], [3, 16], [3, 16]],
    "mixed": [[3, 16], [1, 8]],
}


def make(**options):
    torch.manual_seed(0)
    return Decoder(INPUTS, LOW, low_level_channels=12, **options)


@torch.no_grad()
@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_output_has_the_last_convolutions_channels_at_the_low_level_size(variant, separable):
    decoder = make(convolutions=VARIANTS[variant], separable=separable).eval()
    channels = VARIANTS[variant][-1][1] if VARIANTS[variant] else INPUTS + 12
    assert decoder.out_channels == channels
    for size, low in (((5, 7), (17, 25)), ((9, 9), (33, 34)), ((3, 3), (9, 9))):
        assert decoder(torch.randn(2, INPUTS, *size), torch.randn(2, LOW, *low)).shape == (2, channels, *low)


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_are_as_many_as_the_formula_says(variant, separable):
    count, channels = LOW * 12 + 2 * 12, INPUTS + 12
    for kernel, outputs in VARIANTS[variant]:
        if kernel == 3 and separable:
            count += 9 * channels + 2 * channels + channels * outputs + 2 * outputs
        else:
            count += kernel**2 * channels * outputs + 2 * outputs
        channels = outputs
    decoder = make(convolutions=VARIANTS[variant], separable=separable)
    assert sum(p.numel() for p in decoder.parameters()) == count


def test_defaults_are_the_papers_48_channels_and_two_separable_3x3_of_256():
    with torch.device("meta"):
        decoder = Decoder(256, 256)
    assert decoder.reduce.conv.weight.shape == (48, 256, 1, 1)
    assert [type(conv) for conv in decoder.convs] == [SeparableConv2d, SeparableConv2d]
    assert [(conv.depthwise.in_channels, conv.pointwise.out_channels) for conv in decoder.convs] == [(304, 256), (256, 256)]
    assert sum(p.numel() for p in decoder.parameters()) == 162_928  # the released network's


@torch.no_grad()
def test_the_decoder_concatenates_resized_features_then_reduced_low_level_features(randomize):
    decoder = randomize(make()).eval()
    seen = []
    decoder.convs.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x, low_level = torch.randn(2, INPUTS, 5, 9), torch.randn(2, LOW, 17, 33)
    decoder(x, low_level)
    assert seen[0].shape == (2, INPUTS + 12, 17, 33)
    # With aligned corners every 4th pixel of the resized map is one of the small map's.
    torch.testing.assert_close(seen[0][:, :INPUTS, ::4, ::4], x)
    reduced = torch.einsum("nihw,oi->nohw", low_level, decoder.reduce.conv.weight[:, :, 0, 0])
    norm = decoder.reduce.norm
    scale = norm.weight / torch.sqrt(norm.running_var + 1e-5)
    reduced = (reduced - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(seen[0][:, INPUTS:], reduced.relu())


def test_every_batch_norm_has_the_heads_epsilon():
    assert {norm.eps for norm in make().modules() if isinstance(norm, nn.BatchNorm2d)} == {1e-5}
