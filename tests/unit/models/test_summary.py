import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from seg.config import ASPPConfig, DecoderConfig, ModelConfig
from seg.models.factory import build_model
from seg.models.summary import summary, trainable_parameters


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 2, 2, groups=8)
        self.grouped = nn.Conv2d(8, 12, (1, 3), groups=4)
        self.twice = nn.Conv2d(12, 12, 1)
        self.unused = nn.Conv2d(12, 1, 1)

    def forward(self, x):
        return self.twice(self.twice(self.grouped(self.depthwise(self.stem(x)))))


STEM, DEPTHWISE, GROUPED, TWICE, UNUSED = 3 * 8 * 9 + 2 * 8, 8 * 9 + 8, 2 * 12 * 3 + 12, 12 * 12 + 12, 12 + 1


def rows(model, height, width):
    return {row.name: (row.size, row.parameters, row.multiply_adds) for row in summary(model, height, width)}


def test_multiply_adds_are_pixels_times_kernel_times_channels():
    # 33 x 18 halves to 17 x 9; the grouped convolution's unpadded kernel is 3 wide.
    macs = [17 * 9 * 9 * 3 * 8, 17 * 9 * 9 * 8, 17 * 7 * 3 * (8 // 4) * 12, 2 * 17 * 7 * 12 * 12]
    assert rows(Tiny(), 33, 18) == {
        "stem": ([8, 17, 9], STEM, macs[0]),
        "depthwise": ([8, 17, 9], DEPTHWISE, macs[1]),
        "grouped": ([12, 17, 7], GROUPED, macs[2]),
        "twice": ([12, 17, 7], TWICE, macs[3]),
        "total": ([12, 17, 7], STEM + DEPTHWISE + GROUPED + TWICE + UNUSED, sum(macs)),
    }


def test_counting_does_not_change_the_model():
    model = Tiny().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert summary(model, 33, 33) == summary(model, 33, 33)
    for module in model.modules():
        assert module.training
        assert not module._forward_hooks
    assert all(p.device.type == "cpu" and p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_frozen_parameters_are_not_counted_as_trainable():
    model = Tiny()
    assert trainable_parameters(model) == STEM + DEPTHWISE + GROUPED + TWICE + UNUSED
    model.twice.requires_grad_(False)
    model.stem[1].bias.requires_grad_(False)
    assert trainable_parameters(model) == STEM - 8 + DEPTHWISE + GROUPED + UNUSED
    found = rows(model, 33, 33)
    assert (found["stem"][1], found["twice"][1], found["total"][1]) == (STEM - 8, 0, trainable_parameters(model))


def test_a_summary_lists_the_parts_in_order_with_their_output_sizes():
    with torch.device("meta"):
        model = build_model(ModelConfig(backbone="xception41"), 21)
    found = summary(model, 513, 385)
    modules = ["entry1", "entry2", "entry3", *(f"middle{i}" for i in range(1, 9)), "exit1", "exit2"]
    names = ["backbone.conv1", "backbone.conv2", *(f"backbone.flow.{name}" for name in modules)]
    assert [row.name for row in found] == [*names, "aspp", "decoder", "classifier", "total"]
    sizes = {row.name: row.size for row in found}
    assert sizes["backbone.conv1"] == [32, 257, 193] and sizes["backbone.flow.entry2"] == [256, 65, 49]
    assert sizes["backbone.flow.exit2"] == [2048, 33, 25] and sizes["aspp"] == [256, 33, 25]
    assert sizes["decoder"] == [256, 129, 97] and sizes["classifier"] == [21, 129, 97] and sizes["total"] == [21, 513, 385]
    assert sum(row.parameters for row in found[:-1]) == found[-1].parameters == 28_108_661


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(backbone="xception", width=0.25, output_stride=8),
        ModelConfig(backbone="xception71", width=0.25, decoder=None),
        ModelConfig(smp="Unet", backbone="resnet18"),
    ],
    ids=["original", "xception71", "smp"],
)
def test_totals_equal_those_of_torchs_flop_counter(config):
    with torch.device("meta"):
        model = build_model(config, 7).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, 96, 130, device="meta"))
    total = summary(model, 96, 130)[-1]
    assert total.size == [7, 96, 130]
    assert 2 * total.multiply_adds == counter.get_total_flops()


def billions(stride, **options):
    with torch.device("meta"):
        model = build_model(ModelConfig(output_stride=stride, **options), 21)
    return summary(model, 513, 513)[-1].multiply_adds / 1e9


def space_to_batch(stride):
    """Multiply-adds, in billions, of the pixels that TensorFlow adds to compute atrous convolutions.

    It cuts a map of n pixels a side into r x r maps for a rate r, padding it to a multiple of r first: its three dense
    3x3 convolutions of 2048 to 256 channels are counted on that larger map.
    """
    n = math.ceil(513 / stride)
    pixels = sum((math.ceil(n / rate) * rate) ** 2 - n**2 for rate in (96 // stride, 192 // stride, 288 // stride))
    return pixels * 9 * 2048 * 256 / 1e9


SEPARABLE = {}
DENSE = {"aspp": ASPPConfig(separable=False), "decoder": DecoderConfig(separable=False)}
DENSE_WITHOUT_DECODER = {"aspp": ASPPConfig(separable=False), "decoder": None}


# arXiv 1802.02611, table 5, in billions.
@pytest.mark.parametrize("stride, paper", [(16, 54.17), (8, 177.10)])
def test_multiply_adds_of_the_separable_network_are_the_papers(stride, paper):
    assert billions(stride, **SEPARABLE) == pytest.approx(paper, rel=0.01)


@pytest.mark.parametrize(
    "stride, options, paper",
    [
        (16, DENSE, 89.76),
        (8, DENSE, 262.59),
        (16, DENSE_WITHOUT_DECODER, 68.00),
        (8, DENSE_WITHOUT_DECODER, 240.85),
    ],
)
def test_multiply_adds_of_dense_networks_are_the_papers_with_tensorflow_padding(stride, options, paper):
    count = billions(stride, **options)
    assert count < paper
    assert count + space_to_batch(stride) == pytest.approx(paper, rel=0.003)
