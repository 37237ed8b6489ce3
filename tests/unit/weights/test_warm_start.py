import pytest
import torch
from torch import nn

from seg.config import from_dict
from seg.models.factory import build_model
from seg.models.layers import SeparableConv2d
from seg.models.xception import Xception
from seg.weights.fitting import Weights
from seg.weights.warm_start import counterparts, warm_start
from tests.helpers.toy import refused


@pytest.fixture(scope="module")
def original():
    """An original Xception whose activations neither vanish nor explode, and whose statistics are those of noise."""
    torch.manual_seed(0)
    net = Xception("xception", output_stride=16)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in")
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, 0, 0.2)
    with torch.no_grad():
        net.train()(noise(4))
    return net.eval()


def noise(count, size=97):
    return nn.functional.interpolate(torch.rand(count, 3, 13, 13) * 2 - 1, size=(size, size), mode="bilinear")


def weights(net):
    tensors = {f"backbone.{name}": value for name, value in net.state_dict().items()}
    return Weights("original.safetensors", tensors, {"backbone": "xception"})


def aligned(name, **model):
    torch.manual_seed(1)
    config = from_dict({"model": {"backbone": name, "activation_placement": "tf", "aspp": {"channels": 8}, **model}}, "test")
    return build_model(config.model, 3)


def test_extra_modules_continue_those_of_the_original_in_order():
    assert counterparts("xception41")["middle8"] == "middle8"
    assert counterparts("xception65")["middle9"] is None
    entry = {name: theirs for name, theirs in counterparts("xception71").items() if name.startswith("entry")}
    assert entry == {"entry1": "entry1", "entry2": "entry2", "entry3": None, "entry4": "entry3", "entry5": None}


def correlation(a, b):
    a, b = (x - x.mean((2, 3), keepdim=True) for x in (a, b))
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize("name, least", [("xception41", 0.5), ("xception65", 0.5), ("xception71", 0.35)])
@torch.no_grad()
def test_a_warm_start_keeps_features_similar_to_the_original_xception(original, name, least):
    images, others = noise(4), noise(2)
    wanted = original(others)[1]
    model = aligned(name)
    scratch = correlation(model.backbone.eval()(others)[1], wanted)
    warm_start(model, weights(original), images)
    warm = correlation(model.backbone.eval()(others)[1], wanted)
    assert warm > least > 0.2 > abs(scratch)


@torch.no_grad()
def test_an_inserted_batch_norm_changes_nothing_for_the_images_it_was_measured_on(original):
    images = noise(4)
    model = aligned("xception41")
    warm_start(model, weights(original), images)
    backbone, seen = model.backbone.eval(), {}
    for name, module in backbone.named_modules():
        if isinstance(module, SeparableConv2d) and name.startswith("flow.middle"):
            module.depthwise_norm.register_forward_hook(lambda m, i, o, name=name: seen.update({name: (i[0], o)}))
    backbone(images)
    assert len(seen) == 24
    for before, after in seen.values():
        assert (before - after).abs().max() < 1e-3 * before.abs().max()


@torch.no_grad()
def test_modules_added_by_a_warm_start_change_nothing(original):
    model = aligned("xception65")
    warm_start(model, weights(original), noise(2))
    x = torch.randn(1, 728, 7, 7)
    for index in range(9, 17):
        assert torch.equal(model.backbone.eval().flow[f"middle{index}"](x)[0], x)
    y = model.backbone.flow["middle3"](x)[0]
    assert not torch.equal(y, x)


@torch.no_grad()
def test_the_replacement_of_a_pool_also_fits_other_images(original):
    images, others = noise(8, 161), noise(4, 161)
    wanted, got, plain = {}, {}, {}
    names = ("entry1", "entry2", "entry3", "exit1")

    def record(net, into):
        hooks = [net.flow[n].register_forward_hook(lambda m, i, o, n=n: into.update({n: o[0]})) for n in names]
        net(others)
        for hook in hooks:
            hook.remove()

    record(original, wanted)
    model = aligned("xception41")
    warm_start(model, weights(original), images)
    record(model.backbone.eval(), got)
    for name in names:  # each channel from itself alone
        pointwise = model.backbone.flow[name].convs[2].pointwise.weight
        pointwise.mul_(torch.eye(len(pointwise))[:, :, None, None])
    record(model.backbone, plain)
    for name in ("entry1", "entry2"):  # the deeper maps of small images have fewer pixels than channels
        assert correlation(got[name], wanted[name]) > correlation(plain[name], wanted[name]) + 0.01, name
    assert correlation(got["entry1"], wanted["entry1"]) > 0.9


def test_the_report_names_every_layer_and_what_was_copied(original):
    model = aligned("xception71")
    report = warm_start(model, weights(original), noise(2))
    told = str(report).splitlines()
    for name in ("conv1, conv2", *model.backbone.flow):
        assert any(line.startswith(f"  {name}:") for line in told), name
    copied = {"original": set(original.state_dict()), "ours": set(report.matched)}
    assert len(copied["ours"]) == len([n for n in copied["original"] if not n.endswith("num_batches_tracked")])
    assert not set(report.matched) & set(report.missing)


def test_impossible_warm_starts_are_refused(original):
    options = ({"activation_placement": "paper"}, {"width": 0.5}, {"residual": False}, {"spatial_groups": 8})
    for model in (*(aligned("xception41", **option) for option in options), aligned("xception")):
        with refused("weights_use=warm_start", "placement=tf"):
            warm_start(model, weights(original), noise(1))
    others = Weights("other.safetensors", {}, {"backbone": "xception65"})
    with refused("other.safetensors", "needs weights of the original"):
        warm_start(aligned("xception41"), others, noise(1))
    part = weights(original)
    part.tensors = dict(list(part.tensors.items())[:9])
    with refused("original.safetensors", "not all of the original Xception"):
        warm_start(aligned("xception41"), part, noise(1))
