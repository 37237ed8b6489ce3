import hashlib
import json
import math
import zlib

import pytest
import torch
from torch import nn

from seg.config import ModelConfig, TrainConfig, from_dict
from seg.models import deeplabv3plus_xception71
from seg.models.dpc import DensePredictionCell
from seg.models.factory import build_model
from seg.models.fold import folded
from seg.models.summary import summary
from seg.training.optimizer import parameter_groups
from seg.weights.tensorflow import variable_name
from tests.helpers.paths import FIXTURES
from tests.helpers.toy import refused
from tests.oracle.harness import draw, variables

RATES = [(1, 6), (18, 15), (6, 3), (1, 1), (6, 21)]
SOURCES = [None, 0, 1, 0, 0]
FACTS = json.loads((FIXTURES / "oracle_dpc" / "counts.json").read_text())


def dilated(x, weight, rates):
    """A depthwise 3x3 convolution as a sum over the nine shifts, with zeros outside of the map."""
    (down, right), (height, width) = rates, x.shape[2:]
    padded = torch.zeros(*x.shape[:2], height + 2 * down, width + 2 * right, dtype=x.dtype)
    padded[:, :, down : down + height, right : right + width] = x
    return sum(
        weight[:, 0, i, j].view(1, -1, 1, 1) * padded[:, :, i * down : i * down + height, j * right : j * right + width]
        for i in range(3)
        for j in range(3)
    )


def normed(x, norm):
    mean, var, scale, shift = (
        value.view(1, -1, 1, 1) for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)


@pytest.mark.parametrize("stride", [16, 8])
@torch.no_grad()
def test_the_dense_prediction_cell_equals_its_formula(stride, randomize, apart):
    torch.manual_seed(0)
    cell = randomize(DensePredictionCell(7, 5)).double().eval()
    cell.set_output_stride(stride)
    x, outputs = torch.randn(2, 7, 41, 47, dtype=torch.float64), []
    for conv, source, rates in zip(cell.branches, SOURCES, RATES, strict=True):
        y = dilated(x if source is None else outputs[source], conv.depthwise.weight, [r * 16 // stride for r in rates])
        y = torch.einsum("oc,nchw->nohw", conv.pointwise.weight[:, :, 0, 0], normed(y, conv.depthwise_norm))
        outputs.append(normed(y, conv.norm))
    y = torch.einsum("oc,nchw->nohw", cell.project.conv.weight[:, :, 0, 0], torch.cat(outputs, 1))
    assert apart(cell(x), normed(y, cell.project.norm)) < 1e-12


def test_dropout_precedes_the_projection():
    cell, seen = DensePredictionCell(4, 8, dropout=0.5).train(), []
    cell.dropout.register_forward_hook(lambda module, inputs, output: seen.append(output))
    cell.project.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    cell(torch.randn(2, 4, 9, 9).relu())
    assert torch.equal(*seen) and seen[0].shape == (2, 40, 9, 9)
    assert DensePredictionCell(4).dropout.p == 0.1


@pytest.fixture(scope="module")
def published():
    """Xception-71 with the dense prediction cell for Cityscapes, without memory for its weights."""
    with torch.device("meta"):
        return build_model(ModelConfig(backbone="xception71", activation_placement="tf", context="dpc"), 19)


def test_the_variables_of_the_cell_are_the_released_ones(published):
    state = {name: value for name, value in published.state_dict().items() if not name.endswith("num_batches_tracked")}
    lines = []
    for name in variables("xception_71", "dpc"):
        if (ours := variable_name(name)) not in state:
            assert name.startswith("xception_71/logits/")  # of the ImageNet form
            continue
        shape = list(state[ours].shape)
        if len(shape) == 4:
            shape = [shape[i] for i in ((2, 3, 0, 1) if name.endswith("depthwise_weights") else (2, 3, 1, 0))]
        lines.append(f"{name} {shape} {zlib.crc32(draw(name, shape).tobytes())}")
    assert len(lines) == len(state) == FACTS["variables"]
    assert hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest() == FACTS["sha256"]


def test_parameters_and_multiply_adds_are_as_many_as_the_released_network_s(published):
    parts = {"backbone": "backbone", "meta_architecture": "dpc", "decoder": "decoder", "logits": "classifier"}
    for theirs, ours in parts.items():
        count = sum(p.numel() for p in published.get_submodule(ours).parameters())
        assert count == FACTS["trainable_by_part"][theirs]
    assert sum(p.numel() for p in published.parameters()) == FACTS["trainable"] == 41_608_523
    assert len(list(published.parameters())) == FACTS["n_trainable_variables"]
    for key, wanted in FACTS["multiply_adds"].items():
        stride, size = key.removeprefix("os").split("_")
        published.output_stride = int(stride)
        *rows, total = summary(published, *map(int, size.split("x")))
        assert total.multiply_adds == wanted["total"]
        for theirs, ours in parts.items():
            assert sum(row.multiply_adds for row in rows if row.name.startswith(ours)) == wanted[theirs]


def test_decay_and_multipliers_are_those_of_the_released_code(published):
    groups = parameter_groups(published, TrainConfig(weight_decay=4e-5, head_lr_multiplier=10.0))
    decayed = [p for group in groups if group["weight_decay"] for p in group["params"]]
    inside = {id(p): name for name, p in published.dpc.named_parameters()}
    assert len(decayed) == 87
    names = {inside[id(p)] for p in decayed if id(p) in inside}
    assert names == {f"branches.{i}.pointwise.weight" for i in range(5)} | {"project.conv.weight"}
    multipliers = {id(p): group["multiplier"] for group in groups for p in group["params"]}
    assert [multipliers[key] for key in inside] == [10.0] * 33


def test_weights_start_as_in_the_released_code():
    torch.manual_seed(0)
    cell = build_model(ModelConfig(backbone="xception41", width=0.25, context="dpc"), 5).dpc
    for part, std in (("depthwise", 0.33), ("pointwise", 0.06)):
        values = torch.cat([getattr(conv, part).weight.flatten() for conv in cell.branches])
        assert 1.9 * std < values.abs().max() <= 2 * std * 1.0001
        assert abs(values.std() / (0.8796 * std) - 1) < 0.03  # of a normal distribution cut at two standard deviations
    weight = cell.project.conv.weight
    assert 0.0624 < weight.abs().max() <= 0.0625 and abs(weight.std() * math.sqrt(3) / 0.0625 - 1) < 0.01


def test_the_dense_prediction_cell_follows_the_output_stride():
    model = build_model(ModelConfig(backbone="xception41", width=0.05, context="dpc"), 5).eval()
    for stride, factor in ((8, 2), (16, 1)):
        model.output_stride = stride
        assert [conv.depthwise.dilation for conv in model.dpc.branches] == [(a * factor, b * factor) for a, b in RATES]
        assert model(torch.zeros(1, 3, 40, 57)).shape == (1, 5, 40, 57)
    with refused("output stride 32", "8 and 16 only"):
        model.output_stride = 32
    assert model.output_stride == 16 and model.dpc.branches[1].depthwise.dilation == (18, 15)
    with pytest.raises(ValueError, match="8, 16 or 32"):
        model.output_stride = 12
    assert model.output_stride == 16 and model.dpc.branches[1].depthwise.dilation == (18, 15)


def test_settings_that_do_not_fit_are_refused():
    with refused("model.output_stride=32", "8 or 16 with model.context=dpc"):
        from_dict({"model": {"context": "dpc", "output_stride": 32}}, "test")
    with refused("model.aspp", "no effect with model.context=dpc"):
        from_dict({"model": {"context": "dpc"}}, "test", ["model.aspp.channels=64"])
    with refused("model.context=dcp", "aspp, dpc"):
        from_dict({"model": {"context": "dcp"}}, "test")


def test_a_constructor_accepts_the_dense_prediction_cell():
    net = deeplabv3plus_xception71(19, context="dpc", width=0.05)
    assert isinstance(net.context, DensePredictionCell) and net.aspp is None and net.num_classes == 19


@torch.no_grad()
def test_batch_norm_folds_into_it(randomize, apart):
    model = randomize(build_model(ModelConfig(backbone="xception41", width=0.05, context="dpc"), 5)).eval()
    images = torch.randn(1, 3, 97, 129)
    assert apart(folded(model)(images), model(images)) < 1e-4
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded(model).dpc.modules())
