import json

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file

from seg.cli.main import main
from seg.config import from_dict
from seg.labels import VOC, LabelSet
from seg.models.factory import build_model
from seg.weights.convert import convert
from seg.weights.loading import open_model, read_into
from tests.helpers.released import checkpoint
from tests.helpers.toy import refused
from tests.oracle.harness import build

PETS = LabelSet(("background", "cat", "dog"), ((0, 0, 0), (9, 9, 9), (200, 0, 0)))
IMAGES = torch.linspace(-1, 1, 3 * 65 * 97).view(1, 3, 65, 97)


@pytest.fixture
def full_width():
    """A released network of full width; the file does not store a width."""
    return build({"variant": "xception_41", "output_stride": 16})[0]


def test_a_released_checkpoint_becomes_a_model_with_the_same_logits(tmp_path, full_width, capsys):
    source = checkpoint(tmp_path, full_width)
    assert main(["convert", source, "--out", str(tmp_path / "model.safetensors")]) == 0
    assert "a complete model" in capsys.readouterr().out
    model, metadata = open_model(tmp_path / "model.safetensors")
    assert metadata.labels == VOC
    assert metadata.config.model.activation_placement == "tf"
    with torch.no_grad():
        assert torch.equal(model(IMAGES), full_width(IMAGES))


def test_a_backbone_is_written_alone_and_starts_a_training_not_a_prediction(tmp_path, capsys):
    theirs = timm.create_model("xception41", pretrained=False)
    save_file(theirs.state_dict(), tmp_path / "timm.safetensors")
    out = tmp_path / "backbone.safetensors"
    report = tmp_path / "report.json"
    assert main(["convert", str(tmp_path / "timm.safetensors"), "--out", str(out), "--json", str(report)]) == 0
    assert "backbone weights: pass them to seg train as model.weights" in capsys.readouterr().out
    found = json.loads(report.read_text())
    assert "backbone.conv1.conv.weight" in found["matched"] and "classifier.weight" in found["missing"]
    with refused(out, "holds a backbone only", "without segmentation classes", f"model.weights={out}"):
        open_model(out)
    model = build_model(from_dict({"model": {"backbone": "xception41", "activation_placement": "tf"}}, "test").model, 5)
    report = read_into(model, out)
    assert not report.unexpected
    assert torch.equal(model.backbone.conv1.conv.weight, theirs.state_dict()["stem.0.conv.weight"])


def test_the_classes_must_be_named_unless_they_are_vocs(tmp_path):
    config = from_dict({"model": {"backbone": "xception41", "activation_placement": "tf"}}, "test")
    source = checkpoint(tmp_path, build_model(config.model, 3))
    with refused(source, "has 3 classes, the label set 21", "--labels"):
        convert(source, tmp_path / "out.safetensors")
    convert(source, tmp_path / "out.safetensors", PETS)
    assert open_model(tmp_path / "out.safetensors")[1].labels == PETS


@pytest.fixture
def library(tmp_path):
    torch.manual_seed(0)
    model = smp.DeepLabV3Plus("resnet18", encoder_weights=None, classes=3, encoder_output_stride=8).eval()
    model.save_pretrained(tmp_path / "pets")
    return tmp_path / "pets", model


def test_a_saved_smp_model_gives_the_same_logits(library, tmp_path):
    folder, theirs = library
    report = convert(folder, tmp_path / "out.safetensors", PETS)
    assert not report.missing
    model, metadata = open_model(tmp_path / "out.safetensors")
    assert (metadata.config.model.smp, metadata.config.model.backbone, model.output_stride) == ("DeepLabV3Plus", "resnet18", 8)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(model(images), theirs(images))


def test_a_saved_smp_model_initializes_a_training_with_other_classes(library):
    folder, theirs = library
    settings = {"smp": "DeepLabV3Plus", "backbone": "resnet18", "weights": str(folder)}
    config = from_dict({"model": settings}, "test")
    model = build_model(config.model, 21)
    report = read_into(model, config.model.weights)
    assert report.reinitialized == ["network.segmentation_head.0.weight", "network.segmentation_head.0.bias"]
    assert torch.equal(model.backbone.conv1.weight, theirs.encoder.conv1.weight)


def test_a_folder_with_options_that_are_not_ours_is_refused(library):
    folder, _ = library
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"decoder_channels": 64}))
    with refused(folder, "decoder_channels=64", "256"):
        convert(folder, folder / "out.safetensors", PETS)
    for text in ("{", "[" * 100_000):
        (folder / "config.json").write_text(text)
        with refused(folder, "not a folder that segmentation-models-pytorch saved"):
            convert(folder, folder / "out.safetensors", PETS)


def test_an_unknown_source_gives_one_line(tmp_path, capsys):
    for source in ("none.safetensors", "tf:none", "timm:resnet50", str(tmp_path)):
        assert main(["convert", source, "--out", str(tmp_path / "out.safetensors")]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()
