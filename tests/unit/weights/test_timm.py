import pytest
import timm
import torch
from safetensors.torch import save_file

from seg.config import ModelConfig
from seg.models.factory import build_model
from seg.models.xception import Xception
from seg.weights.loading import read_into
from seg.weights.timm import backbone_of, download, to_ours
from tests.helpers.toy import refused

ALIGNED = ("xception41", "xception65", "xception71")


def theirs_with_statistics(name, **options):
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=0, **options).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.0)
    return model


def ours_from(theirs, name, **options):
    backbone = Xception(name, **options).eval()
    tensors = to_ours(theirs.state_dict())
    backbone.load_state_dict({key.removeprefix("backbone."): value for key, value in tensors.items()})
    return backbone


def apart(a, b):
    return float((a - b).abs().max() / b.abs().max())


# At output stride 8 timm builds its Xception-71 without the shortcut convolution of the fifth module, so weights do not fit.
@pytest.mark.parametrize(
    "name, stride", [(name, stride) for name in ALIGNED for stride in (32, 16, 8) if (name, stride) != ("xception71", 8)]
)
@torch.no_grad()
def test_features_of_the_aligned_ones_equal_timms(name, stride):
    theirs = theirs_with_statistics(name, output_stride=stride)
    ours = ours_from(theirs, name, activation_placement="tf", output_stride=stride)
    images = torch.rand(1, 3, 97, 129) * 2 - 1
    low_level, features = ours(images)
    assert apart(features, theirs.forward_features(images)) < 1e-5
    # timm taps after the next ReLU.
    (tap,) = theirs.forward_intermediates(images, indices=[1], intermediates_only=True)
    assert apart(low_level.relu(), tap) < 1e-5


@pytest.mark.parametrize("size", [(97, 130), (150, 150)])
@torch.no_grad()
def test_features_of_the_original_equal_timms(size):
    theirs = theirs_with_statistics("legacy_xception")
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-3  # as it was trained: timm's class has 1e-5
    ours = ours_from(theirs, "xception", output_stride=32, padding="timm")
    images = torch.rand(1, 3, *size) * 2 - 1
    assert apart(ours(images)[1], theirs.forward_features(images)) < 1e-5


@pytest.mark.parametrize("name", ["legacy_xception", *ALIGNED])
def test_a_file_of_timm_fills_every_tensor_of_the_backbone(tmp_path, name):
    theirs = timm.create_model(name, pretrained=False).state_dict()
    save_file(theirs, tmp_path / "model.safetensors")
    ours = "xception" if name == "legacy_xception" else name
    assert backbone_of(theirs) == ours
    model = build_model(ModelConfig(backbone=ours, activation_placement="tf"), 21)
    report = read_into(model, tmp_path / "model.safetensors")
    assert {key for key in model.state_dict() if key.startswith("backbone.")} == {
        key for key in to_ours(theirs) if key.startswith("backbone.")
    }
    assert {key.split(".")[0] for key in report.missing} == {"aspp", "decoder", "classifier"}
    assert set(report.unexpected) == {"image_classifier.weight", "image_classifier.bias"}


def test_epsilon_and_input_statistics_are_those_of_timm():
    for name in ALIGNED:
        theirs = timm.create_model(name, pretrained=False)
        model = build_model(ModelConfig(backbone=name, activation_placement="tf"), 21)
        assert {m.eps for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {model.backbone.conv1.norm.eps}
        assert (theirs.default_cfg["mean"], theirs.default_cfg["std"]) == (model.mean, model.std)


def test_the_image_classifier_is_timms(tmp_path):
    theirs = timm.create_model("xception41", pretrained=False).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    model = build_model(
        ModelConfig(backbone="xception41", activation_placement="tf", output_stride=32, image_classes=1000), 21
    ).eval()
    report = read_into(model, tmp_path / "model.safetensors")
    assert not report.missing
    assert not report.unexpected
    images = torch.rand(2, 3, 65, 97) * 2 - 1
    with torch.no_grad():
        assert apart(model(images), theirs(images)) < 1e-5


@pytest.mark.parametrize("name", ["xception65p", "resnet18"])
def test_networks_that_are_not_ours_are_refused(tmp_path, name):
    save_file(timm.create_model(name, pretrained=False).state_dict(), tmp_path / "model.safetensors")
    with refused(tmp_path / "model.safetensors", "not weights of a supported network"):
        read_into(
            build_model(ModelConfig(backbone="xception65", activation_placement="tf"), 21), tmp_path / "model.safetensors"
        )
    with refused(f"timm:{name}", "not a supported network"):
        download(name)
