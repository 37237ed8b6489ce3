import math

import numpy as np
import pytest
import timm
import torch
from torch import nn

from seg.models.xception import Xception, max_pool, scaled

ALIGNED = ("xception41", "xception65", "xception71")
MEMBERS = [
    ("xception", "paper"),
    *((name, activation_placement) for name in ALIGNED for activation_placement in ("paper", "tf")),
]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


# The released network's trainable variables; the original's with a classifier of 1000 classes are 22,855,952.
@pytest.mark.parametrize(
    "name, count",
    [
        ("xception41", 24_920_560),
        ("xception65", 37_867_312),
        ("xception71", 40_289_736),
        ("xception", 22_855_952 - (2048 * 1000 + 1000)),
    ],
)
def test_parameters_are_as_many_as_published(name, count):
    with torch.device("meta"):
        assert parameters(Xception(name, activation_placement="tf")) == count


@pytest.mark.parametrize("name", ALIGNED)
def test_both_activation_placements_have_the_same_state_dict(name):
    with torch.device("meta"):
        paper, tf = (
            Xception(name, activation_placement=activation_placement).state_dict() for activation_placement in ("paper", "tf")
        )
    assert {k: v.shape for k, v in paper.items()} == {k: v.shape for k, v in tf.items()}


@pytest.mark.parametrize("name, activation_placement", MEMBERS)
@torch.no_grad()
def test_features_at_a_smaller_output_stride_contain_those_at_a_larger_one(name, activation_placement, randomize, apart):
    torch.manual_seed(0)
    net = randomize(Xception(name, activation_placement=activation_placement, width=0.125)).eval()
    image = torch.rand(1, 3, 225, 225) * 2 - 1
    low_level, features = {}, {}
    for stride in (8, 16, 32):
        net.output_stride = stride
        low_level[stride], features[stride] = net(image)
        assert features[stride].shape == (1, net.channels, math.ceil(225 / stride), math.ceil(225 / stride))
    assert apart(features[8][..., ::2, ::2], features[16]) < 1e-4
    assert apart(features[16][..., ::2, ::2], features[32]) < 1e-4
    assert torch.equal(low_level[8], low_level[32])


# Effective stride and rate of each module, in the released network: exit1's stride, not taken, dilates exit2.
MIDDLE_65 = [f"middle{i}" for i in range(1, 17)]
ENTRY_65 = {"entry1": (2, 1), "entry2": (2, 1), "entry3": (2, 1)}
ENTRY_71 = {"entry1": (2, 1), "entry2": (1, 1), "entry3": (2, 1), "entry4": (1, 1), "entry5": (2, 1)}
REST = {
    32: {**dict.fromkeys(MIDDLE_65, (1, 1)), "exit1": (2, 1), "exit2": (1, 1)},
    16: {**dict.fromkeys(MIDDLE_65, (1, 1)), "exit1": (1, 1), "exit2": (1, 2)},
    8: {**dict.fromkeys(MIDDLE_65, (1, 2)), "exit1": (1, 2), "exit2": (1, 4)},
}


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("name", ALIGNED)
def test_strides_and_rates_equal_those_of_the_released_networks(name, stride):
    with torch.device("meta"):
        net = Xception(name, output_stride=stride)
    wanted = {**(ENTRY_71 if name == "xception71" else ENTRY_65), **REST[stride]}
    if name == "xception41":
        wanted = {k: v for k, v in wanted.items() if k not in MIDDLE_65[8:]}
    if stride == 8:
        wanted["entry5" if name == "xception71" else "entry3"] = (1, 1)
    assert list(net.flow) == list(wanted)
    for module, (module_stride, rate) in wanted.items():
        convs = [conv.depthwise for conv in net.flow[module].convs]
        assert [conv.stride for conv in convs] == [(1, 1), (1, 1), (module_stride,) * 2], module
        assert {conv.dilation for conv in convs} == {conv.padding for conv in convs} == {(rate, rate)}, module
        shortcut = net.flow[module].shortcut
        if isinstance(shortcut, nn.Sequential):
            assert shortcut.conv.stride == (module_stride,) * 2 and shortcut.conv.dilation == (1, 1), module


@pytest.mark.parametrize("name", ["xception", *ALIGNED])
def test_output_stride_set_on_a_live_network_is_that_of_one_built_with_it(name):
    torch.manual_seed(0)
    built = Xception(name, width=0.125, output_stride=8).eval()
    live = Xception(name, width=0.125, output_stride=32).eval()
    live.load_state_dict(built.state_dict())
    before = {k: v.clone() for k, v in live.state_dict().items()}
    live.output_stride = 16
    live.output_stride = 8
    after = live.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[k], before[k]) for k in before)
    image = torch.randn(1, 3, 49, 66)
    with torch.no_grad():
        for got, wanted in zip(live(image), built(image), strict=True):
            assert torch.equal(got, wanted)


@pytest.mark.parametrize("stride", [0, 4, 24, 64, None])
def test_an_unknown_output_stride_is_an_error_and_changes_nothing(stride):
    with torch.device("meta"):
        net = Xception("xception41", width=0.125)
        with pytest.raises(ValueError, match="8, 16 or 32"):
            net.output_stride = stride
        with pytest.raises(ValueError, match="8, 16 or 32"):
            Xception("xception41", width=0.125, output_stride=stride)
    assert net.output_stride == 16


@pytest.mark.parametrize("name", ["xception", *ALIGNED])
@pytest.mark.parametrize("size", [(65, 97), (66, 33)])
def test_low_level_features_have_256_channels_at_stride_4_and_features_2048(name, size):
    with torch.device("meta"):
        net = Xception(name)
        low_level, features = net(torch.empty(1, 3, *size))
    assert net.low_level_channels == 256 and net.channels == 2048
    assert low_level.shape == (1, 256, *(math.ceil(n / 4) for n in size))
    assert features.shape == (1, 2048, *(math.ceil(n / 16) for n in size))


@pytest.mark.parametrize("name, activation_placement", MEMBERS)
@torch.no_grad()
def test_low_level_features_are_the_second_separable_convolution_of_the_module_that_leaves_stride_4(
    name, activation_placement, randomize
):
    torch.manual_seed(0)
    net = randomize(Xception(name, activation_placement=activation_placement, width=0.125)).eval()
    module = net.flow["entry3" if name == "xception71" else "entry2"]
    seen = []
    module.convs[1].register_forward_hook(lambda conv, inputs, output: seen.append(output.clone()))
    low_level, _ = net(torch.randn(1, 3, 65, 65))
    assert torch.equal(low_level, seen[0])  # nor changed by what comes after
    # Batch norm is its last step, but for the paper's placement, where ReLU is.
    assert (low_level.min() >= 0) == (activation_placement == "paper" and name != "xception")


@torch.no_grad()
def test_aligned_features_end_in_relu_and_modules_have_none_after_their_sum(randomize):
    torch.manual_seed(0)
    net = randomize(Xception("xception41", activation_placement="tf", width=0.125)).eval()
    sums = []
    net.flow["middle4"].register_forward_hook(lambda module, inputs, output: sums.append((inputs[0], output[0])))
    _, features = net(torch.randn(1, 3, 65, 65))
    assert features.min() == 0
    given, result = sums[0]
    branch = given
    for conv in net.flow["middle4"].convs:
        branch = conv(branch)
    assert torch.equal(result, given + branch)
    assert result.min() < 0


@pytest.mark.parametrize("width", [0.01, 0.125, 0.25, 0.3, 0.5, 0.75, 1.0, 1.5])
def test_width_rounds_every_depth_to_the_nearest_multiple_of_8(width):
    for channels in (32, 64, 128, 256, 728, 1024, 1536, 2048):
        result = scaled(channels, width)
        assert result % 8 == 0 and result >= 8
        assert abs(result - channels * width) <= 4 or result == 8
    with torch.device("meta"):
        net = Xception("xception71", width=width)
    assert net.conv1.conv.out_channels == scaled(32, width)
    assert net.conv2.conv.out_channels == scaled(64, width)
    assert net.low_level_channels == scaled(256, width) and net.channels == scaled(2048, width)
    depths = [conv.pointwise.out_channels for conv in net.flow["exit1"].convs]
    assert depths == [scaled(728, width), scaled(1024, width), scaled(1024, width)]


def from_timm(name: str) -> str:
    """Our name of a tensor of timm's `legacy_xception`."""
    part, rest = name.split(".", 1)
    if part in ("conv1", "conv2"):
        return f"{part}.conv.{rest}"
    if part in ("bn1", "bn2"):
        return f"conv{part[-1]}.norm.{rest}"
    names = [*(f"entry{i}" for i in range(1, 4)), *(f"middle{i}" for i in range(1, 9)), "exit1"]
    if part in ("conv3", "bn3", "conv4", "bn4"):
        module, index = "exit2", int(part[-1]) - 3
        kind = "norm" if part.startswith("bn") else {"conv1": "depthwise", "pointwise": "pointwise"}[rest.split(".")[0]]
        return f"flow.{module}.convs.{index}.{kind}.{rest.split('.')[-1]}"
    number = int(part.removeprefix("block"))
    module = f"flow.{names[number - 1]}"
    kind, rest = rest.split(".", 1)
    if kind in ("skip", "skipbn"):
        return f"{module}.shortcut.{'conv' if kind == 'skip' else 'norm'}.{rest}"
    position, rest = rest.split(".", 1)
    position = int(position) + (1 if number == 1 else 0)  # the first block has no leading ReLU
    index, step = divmod(position, 3)
    kind = {"conv1": "depthwise", "pointwise": "pointwise"}[rest.split(".")[0]] if step == 1 else "norm"
    return f"{module}.convs.{index if step else index - 1}.{kind}.{rest.split('.')[-1]}"


@torch.no_grad()
def test_the_original_xception_equals_timms_with_its_weights(randomize, apart):
    torch.manual_seed(0)
    theirs = randomize(timm.create_model("legacy_xception", pretrained=False, num_classes=0)).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    ours = Xception("xception", output_stride=32, padding="timm").eval()
    ours.load_state_dict({from_timm(name): value for name, value in theirs.state_dict().items()})
    for size in ((97, 97), (90, 119)):
        image = torch.rand(1, 3, *size) * 2 - 1
        assert apart(ours(image)[1], theirs.forward_features(image)) < 1e-5


def naive_max_pool(x, stride, rate, before, outputs):
    """3x3 maximum over the pixels that exist, `before` rows above and columns to the left of the first one."""
    result = np.full((*x.shape[:2], *outputs), -np.inf)
    for i in range(outputs[0]):
        for j in range(outputs[1]):
            rows = [i * stride - before[0] + k * rate for k in range(3)]
            columns = [j * stride - before[1] + k * rate for k in range(3)]
            window = [x[:, :, r, c] for r in rows for c in columns if 0 <= r < x.shape[2] and 0 <= c < x.shape[3]]
            result[:, :, i, j] = np.max(window, axis=0)
    return result


@pytest.mark.parametrize("size", [(9, 9), (10, 10), (9, 12), (8, 7), (1, 2)])
@pytest.mark.parametrize("stride", [1, 2])
def test_max_pool_same_pads_as_tensorflow_does(size, stride):
    x = np.random.default_rng(0).normal(size=(2, 3, *size)) - 5  # negative: padding with zeros would show
    outputs = [math.ceil(n / stride) for n in size]
    totals = [max((m - 1) * stride + 3 - n, 0) for n, m in zip(size, outputs, strict=True)]
    wanted = naive_max_pool(x, stride, 1, [total // 2 for total in totals], outputs)
    np.testing.assert_array_equal(max_pool(torch.from_numpy(x), stride, 1, True).numpy(), wanted)


@pytest.mark.parametrize("size", [(9, 9), (10, 10), (9, 12)])
@pytest.mark.parametrize("stride, rate", [(1, 1), (2, 1), (1, 2)])
def test_max_pool_pads_both_sides_equally_otherwise(size, stride, rate):
    x = np.random.default_rng(0).normal(size=(2, 3, *size)) - 5
    outputs = [math.ceil(n / stride) for n in size]
    wanted = naive_max_pool(x, stride, rate, (rate, rate), outputs)
    np.testing.assert_array_equal(max_pool(torch.from_numpy(x), stride, rate, False).numpy(), wanted)


@pytest.mark.parametrize("name", ["xception", "xception41"])
def test_without_residuals_a_module_is_only_its_branch(name, randomize):
    net = randomize(Xception(name, activation_placement="tf", width=0.125, residual=False)).eval()
    assert not [key for key in net.state_dict() if "shortcut" in key]
    x = torch.rand(1, 3, 97, 65) * 2 - 1
    with torch.no_grad():
        assert net(x)[1].shape == (1, net.channels, 7, 5)
        module, y = net.flow["middle2"], torch.randn(1, net.flow["middle2"].convs[0].depthwise.in_channels, 5, 5)
        branch = y
        for conv in module.convs:
            branch = conv(branch)
        assert torch.equal(module(y)[0], branch)


@pytest.mark.parametrize(
    "separable_activation, function", [("none", lambda x: x), ("relu", torch.relu), ("elu", torch.nn.functional.elu)]
)
@pytest.mark.parametrize("name, activation_placement", MEMBERS)
def test_the_separable_activation_follows_every_depthwise_convolution(
    name, activation_placement, separable_activation, function, randomize
):
    net = randomize(
        Xception(name, activation_placement=activation_placement, width=0.125, separable_activation=separable_activation)
    ).eval()
    convs = [conv for module in net.flow.values() for conv in module.convs]
    assert {conv.activation_placement.separable_activation for conv in convs} == {
        None if separable_activation == "none" else separable_activation
    }
    conv = convs[4]
    x = torch.randn(1, conv.depthwise.in_channels, 6, 7)
    with torch.no_grad():
        y = conv.depthwise_norm(conv.depthwise(torch.relu(x) if conv.activation_placement.before else x))
        y = conv.norm(conv.pointwise(function(y)))
        torch.testing.assert_close(conv(x), torch.relu(y) if conv.activation_placement.after else y)


@pytest.mark.parametrize("spatial_groups", [1, 2, 4, 8])
def test_spatial_groups_do_not_mix_channels(spatial_groups):
    with torch.device("meta"):
        net = Xception("xception", spatial_groups=spatial_groups)
    spatial = [module for name, module in net.named_modules() if name.endswith("depthwise")]
    assert len(spatial) == 34
    assert {conv.groups for conv in spatial} == {spatial_groups}
    # A dense spatial convolution has 9 C^2 weights; in s segments it has one s-th of them.
    assert all(conv.weight.numel() == 9 * conv.in_channels**2 // spatial_groups for conv in spatial)


def test_spatial_groups_that_divide_no_layer_are_an_error():
    with pytest.raises(ValueError, match="divisible"):
        Xception("xception", spatial_groups=3)
