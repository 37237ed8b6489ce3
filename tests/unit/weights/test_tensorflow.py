import numpy as np
import pytest
import torch

from seg.config import from_dict
from seg.models.factory import build_model
from seg.weights.loading import read_into
from seg.weights.tensorflow import model_settings, read_checkpoint, variable_name
from tests.helpers.bundles import write_bundle
from tests.helpers.released import checkpoint
from tests.helpers.toy import refused
from tests.oracle.harness import draw, variables

# The released code's own count of variables, moving statistics among them (its graph, printed): Xception 41, 65 and 71.
COUNTS = {("xception_41", "aspp"): 492, ("xception_65", "aspp"): 732, ("xception_71", "aspp"): 802, ("xception_71", "dpc"): 812}


@pytest.mark.parametrize("variant, context", COUNTS)
def test_every_variable_of_the_released_network_maps_to_one_of_ours(variant, context):
    names = [name for name in variables(variant, context) if not name.startswith(f"{variant}/logits/")]
    assert len(names) == len(set(names)) == COUNTS[variant, context]
    ours = [variable_name(name) for name in names]
    settings = {"backbone": variant.replace("_", ""), "activation_placement": "tf", "context": context}
    config = from_dict({"model": settings}, "test")
    with torch.device("meta"):
        state = build_model(config.model, 21).state_dict()
    assert sorted(ours) == sorted(name for name in state if not name.endswith("num_batches_tracked"))


@pytest.mark.parametrize(
    "name",
    [
        "MobilenetV2/Conv/weights",
        "xception_65/entry_flow/conv1_3/weights",
        "aspp0/weights/Momentum",
        "resnet_v1_50/conv1/weights",
    ],
)
def test_unknown_variables_have_no_counterpart(name):
    assert variable_name(name) is None


def network(**model):
    torch.manual_seed(1)
    config = from_dict({"model": {"backbone": "xception41", "activation_placement": "tf", "width": 0.125, **model}}, "test")
    made = build_model(config.model, 21)
    for name, value in made.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            value.copy_(torch.from_numpy(draw("x/" + name + ("/weights" if value.ndim == 4 else "/beta"), value.shape)))
    return made


STRUCTURES = {
    "as published": {},
    "deeper": {"backbone": "xception65"},
    "deepest": {"backbone": "xception71"},
    "no decoder": {"decoder": None},
    "one decoder convolution": {"decoder": {"low_level_channels": 32, "convolutions": [[3, 64]]}},
    "dense": {"aspp": {"separable": False, "channels": 32}, "decoder": {"separable": False}},
    "dense prediction cell": {"backbone": "xception71", "context": "dpc"},
    "dense prediction cell, no decoder": {"context": "dpc", "decoder": None},
    "without image pooling": {"aspp": {"image_pooling": False}},
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_checkpoint_gives_the_structure_of_its_network_and_all_tensors(tmp_path, name):
    model = network(**STRUCTURES[name])
    source = checkpoint(tmp_path, model, extra={"aspp0/weights/Momentum": np.ones(3, np.float32)})
    tensors = read_checkpoint(source.removeprefix("tf:"))
    settings = model_settings(tensors) | {"width": 0.125}
    again = build_model(from_dict({"model": settings}, "test").model, 21)
    report = read_into(again, source)
    assert not report.missing
    assert not report.unexpected
    assert not report.reinitialized
    state = model.state_dict()
    for key, value in again.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_another_number_of_classes_is_reinitialized_by_name(tmp_path):
    source = checkpoint(tmp_path, network())
    config = from_dict({"model": {"backbone": "xception41", "activation_placement": "tf", "width": 0.125}}, "test")
    report = read_into(build_model(config.model, 5), source)
    assert report.reinitialized == ["classifier.weight", "classifier.bias"]


def test_the_paper_placement_is_refused(tmp_path):
    source = checkpoint(tmp_path, network())
    config = from_dict({"model": {"backbone": "xception41", "width": 0.125}}, "test")
    with refused(source, "'tf' placement in a 'paper' network", "model.activation_placement=tf"):
        read_into(build_model(config.model, 21), source)


def test_a_partial_backbone_is_an_error_unless_allowed(tmp_path):
    write_bundle(tmp_path / "part", {"xception_41/entry_flow/conv1_1/weights": np.ones((3, 3, 3, 8), np.float32)})
    model = network()
    with refused("part", "does not fill the backbone", "weights_use=partial"):
        read_into(model, f"tf:{tmp_path / 'part'}")
    report = read_into(model, f"tf:{tmp_path / 'part'}", partial=True)
    assert report.matched == ["backbone.conv1.conv.weight"]
    assert (model.backbone.conv1.conv.weight == 1).all()


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    write_bundle(tmp_path / "other", {"MobilenetV2/Conv/weights": np.ones((3, 3, 3, 8), np.float32)})
    with refused("other", "holds no Xception", "MobilenetV2"):
        read_into(network(), f"tf:{tmp_path / 'other'}")
