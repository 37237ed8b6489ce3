import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from seg.config import Config, from_dict
from seg.errors import UserError
from seg.labels import VOC, LabelSet
from seg.models import deeplab
from seg.models.factory import build_model
from seg.weights.convert import convert
from seg.weights.file import Metadata, write
from seg.weights.loading import open_model, read_into
from tests.helpers.toy import refused

SMALL = {"model": {"backbone": "xception41", "width": 0.125, "aspp": {"channels": 16}}}
PETS = LabelSet(("background", "cat", "dog"), ((0, 0, 0), (9, 9, 9), (200, 0, 0)))


def small(classes=21, **model) -> tuple[Config, torch.nn.Module]:
    config = from_dict({"model": {**SMALL["model"], **model}}, "test")
    return config, build_model(config.model, classes)


@pytest.fixture
def saved(tmp_path):
    config, model = small()
    write(tmp_path / "best.safetensors", model, Metadata(config, VOC, {"miou": 0.5}))
    return tmp_path / "best.safetensors", model


def test_a_saved_model_opens_unchanged(saved):
    path, model = saved
    opened, metadata = open_model(path)
    assert not opened.training
    assert metadata.labels == VOC
    assert metadata.score == {"miou": 0.5}
    assert metadata.config.model.width == 0.125
    for (name, a), (other, b) in zip(model.state_dict().items(), opened.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(a, b)


def test_overrides_change_the_opened_configuration(saved):
    opened, metadata = open_model(saved[0], ["evaluate.flip=true", "model.output_stride=8"])
    assert metadata.config.evaluate.flip
    assert opened.output_stride == 8


def test_metadata_holds_the_input_statistics(saved):
    with safe_open(saved[0], "pt") as file:
        assert json.loads(file.metadata()["input"]) == {"mean": [0.5] * 3, "std": [0.5] * 3}


def test_a_classifier_of_another_size_is_reinitialized_and_named(saved):
    _, model = small(classes=len(PETS))
    before = model.classifier.weight.clone()
    report = read_into(model, saved[0])
    assert report.reinitialized == ["classifier.weight", "classifier.bias"]
    assert "reinitialized: classifier.weight, classifier.bias" in str(report)
    assert torch.equal(model.classifier.weight, before)
    assert torch.equal(model.backbone.conv1.conv.weight, saved[1].backbone.conv1.conv.weight)


def test_weights_of_another_activation_placement_are_refused(saved):
    _, model = small(activation_placement="tf")
    with pytest.raises(UserError, match=r"'paper' placement in a 'tf' network; set model\.activation_placement=paper"):
        read_into(model, saved[0])


def test_weights_of_another_width_are_refused_and_nothing_is_copied(saved):
    _, model = small(width=0.25)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match=r"does not fit this model: backbone\..*and \d+ more.*tensors fit"):
        read_into(model, saved[0])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_partial_backbone_is_refused_with_a_list_of_what_fits(saved, tmp_path):
    _, model = small(backbone="xception65")
    with pytest.raises(UserError, match=r"does not fill the backbone.*tensors fit: backbone \(\d+\), aspp \(\d+\)"):
        read_into(model, saved[0])


@pytest.mark.parametrize("kept", [0, 4, 100, 5000, -1])
def test_a_truncated_file_gives_one_clear_line(saved, kept):
    path, model = saved
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError) as error:
        read_into(model, path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_with_nan_are_refused_and_nothing_is_copied(saved):
    path, model = saved
    name, before = "backbone.conv1.conv.weight", model.classifier.weight.clone()
    with safe_open(path, "pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    for value in (float("nan"), float("inf"), 1j):
        wrong = tensors[name].to(torch.complex64) if value == 1j else tensors[name].clone()
        wrong[0, 0, 0, 0] = value
        save_file({**tensors, name: wrong, "classifier.weight": before + 1}, path, metadata)
        with refused(path, name, "a NaN or an infinite value"):
            read_into(model, path)
    assert torch.equal(model.classifier.weight, before)


@pytest.mark.parametrize(
    "key, value",
    [
        ("config", "[1]"),
        ("config", "[" * 100_000),
        ("labels", "3"),
        ("labels", "{"),
        ("score", "null"),
        ("score", '{"miou": "x"}'),
        ("score", '{"miou": 1, "split": 3}'),
        ("score", '{"iou": {"cat": "x"}}'),
        ("score", '{"iteration": 1.5}'),
        ("score", ""),
    ],
)
def test_metadata_of_other_programs_is_refused(saved, key, value):
    path, _ = saved
    with safe_open(path, "pt") as file:
        metadata = file.metadata() | {key: value}
    save_file({"a": torch.zeros(1)}, path, metadata)
    with refused(path):
        open_model(path)


def test_a_network_of_another_size_than_the_file_is_refused_before_it_takes_memory(saved, monkeypatch):
    path, _ = saved
    with safe_open(path, "pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    config = json.loads(metadata["config"])
    config["model"]["aspp"]["channels"] = 64
    save_file(tensors, path, metadata | {"config": json.dumps(config)})
    made_on = []
    monkeypatch.setattr(deeplab, "initialize", lambda model, how: made_on.append(model.classifier.weight.device.type))
    with refused(path, "does not fit this model"):
        open_model(path)
    with refused(path, "does not fit this model"):
        convert(path, path.with_name("out.safetensors"))
    assert made_on == ["meta", "meta"]


def test_weights_files_of_other_programs_are_refused(tmp_path):
    _, model = small()
    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"not weights of a supported network.*layer\.weight"):
        read_into(model, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no configuration in its metadata"):
        open_model(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no such weights file"):
        read_into(model, tmp_path / "none.safetensors")
