import pytest
import torch
from torch import nn

from seg.config import ModelConfig
from seg.models.factory import build_model
from seg.models.ops.recompute import recompute
from seg.models.profile import activations, group_of, profile
from seg.models.summary import summary

FLOWS = ["entry flow", "middle flow", "exit flow"]


def test_the_profile_groups_the_parts_of_the_network():
    parts = [
        "backbone.conv2",
        "backbone.flow.entry3",
        "backbone.flow.middle16",
        "backbone.flow.exit1",
        "aspp",
        "network.encoder",
    ]
    assert [group_of(part) for part in parts] == ["entry flow", *FLOWS, "aspp", "encoder"]


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (ModelConfig(backbone="xception71", width=0.125), [*FLOWS, "aspp", "decoder", "classifier"]),
        (ModelConfig(backbone="xception41", width=0.125, decoder=None), [*FLOWS, "aspp", "classifier"]),
        (ModelConfig(backbone="xception", width=0.125, image_classes=5), [*FLOWS, "dropout", "image_classifier"]),
        (ModelConfig(smp="Unet", backbone="resnet18"), ["encoder", "decoder", "segmentation_head"]),
    ],
    ids=["xception71", "no decoder", "image classifier", "smp"],
)
def test_the_groups_add_up_to_the_whole_network(config, names):
    model = build_model(config, 7).train()
    *groups, total = found = profile(model, 65, 97, runs=1)
    assert [group.name for group in found] == [*names, "resize and rest", "total"]
    assert sum(group.seconds for group in groups) == pytest.approx(total.seconds)
    assert sum(group.share for group in groups) == pytest.approx(total.share) == 1
    assert sum(group.kept for group in groups) == total.kept > 0
    assert sum(group.multiply_adds for group in groups) == total.multiply_adds == summary(model, 65, 97)[-1].multiply_adds
    assert total.flops == 2 * total.multiply_adds / total.seconds


def test_a_profile_leaves_the_model_as_it_was():
    model = build_model(ModelConfig(backbone="xception41", width=0.125), 3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    profile(model, 33, 33, runs=1)
    for module in model.modules():
        assert module.training
        assert not module._forward_hooks and not module._forward_pre_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1, bias=False)
        self.second = nn.ReLU()
        self.third = nn.Conv2d(8, 4, 1, bias=False)

    def forward(self, x):
        return self.third(self.second(self.first(x))).sigmoid()


def test_activations_are_counted_once_without_weights_and_image():
    # ReLU keeps its output, which the third part reads too; the sigmoid outside of the parts keeps its own.
    assert activations(Chain(), 10, 20) == {"second": 4 * 8 * 200, "resize and rest": 4 * 4 * 200}


def test_the_counted_bytes_are_those_that_a_training_pass_stores():
    """By the account of torch's profiler of what is not freed after the forward pass."""
    torch.manual_seed(0)
    model = build_model(ModelConfig(backbone="xception41", width=0.125, activation_placement="tf"), 3).train()
    image = torch.rand(1, 3, 65, 65)
    with torch.profiler.profile(profile_memory=True) as trace, recompute():
        output = model.logits(image)
    held = sum(event.self_cpu_memory_usage for event in trace.key_averages())
    kept = sum(activations(model, 65, 65).values())
    assert kept == pytest.approx(held - output.nbytes, rel=0.02)
