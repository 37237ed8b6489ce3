import timm
import torch

from seg.config import ModelConfig
from seg.models.factory import build_model
from seg.weights.load import fit
from seg.weights.timm import from_legacy_xception, is_legacy_xception


def test_legacy_xception_fills_the_backbone_to_the_last_tensor():
    theirs = timm.create_model("legacy_xception", pretrained=False).state_dict()
    assert is_legacy_xception(theirs)
    names = from_legacy_xception(theirs)
    ours = build_model(ModelConfig(backbone="xception"), 21)
    assert len(names) == len(theirs) - 2  # its 1000-way classifier
    assert set(names) == {name for name in ours.state_dict() if name.startswith("backbone.")}
    report = fit(ours, names, "timm")
    assert len(report.matched) == len(names)
    assert {name.split(".")[0] for name in report.missing} == {"aspp", "decoder", "classifier"}


def test_loaded_features_equal_timms():
    torch.manual_seed(0)
    theirs = timm.create_model("legacy_xception", pretrained=False, num_classes=0).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-3
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    from seg.models.xception import Xception

    backbone = Xception("xception", output_stride=32, padding="timm").eval()
    converted = {name.removeprefix("backbone."): value for name, value in from_legacy_xception(theirs.state_dict()).items()}
    backbone.load_state_dict(converted)
    images = torch.rand(1, 3, 97, 130) * 2 - 1
    with torch.no_grad():
        wanted = theirs.forward_features(images)
        got = backbone(images)[1]
    assert (got - wanted).abs().max() / wanted.abs().max() < 1e-5
