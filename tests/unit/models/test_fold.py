import pytest
import torch
from torch import nn

from seg.config import ModelConfig
from seg.models.factory import build_model
from seg.models.fold import folded
from seg.models.ops.batch_norm import BatchNorm2d, SinglePixelBatchNorm2d
from tests.helpers.toy import random_model, randomize_batch_norms

CONFIGS = {
    "paper": ModelConfig(backbone="xception41", width=0.125),
    "tf": ModelConfig(backbone="xception41", width=0.125, activation_placement="tf"),
    "original": ModelConfig(backbone="xception", width=0.125, output_stride=8),
}


def norms(model) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def relative(got, wanted) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_all_batch_norms_of_our_networks_are_folded_and_the_logits_are_equal(name):
    model, images = random_model(CONFIGS[name]), torch.randn(2, 3, 65, 49)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    plain = folded(model)
    assert norms(model) > 30 and norms(plain) == 0
    assert relative(plain.logits(images), model.logits(images)) < 1e-5
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@torch.inference_mode()
def test_a_folded_copy_changes_its_output_stride_independently():
    model, images = random_model(CONFIGS["paper"]), torch.randn(1, 3, 65, 65)
    plain = folded(model)
    plain.output_stride = 8
    assert model.output_stride == 16
    model.output_stride = 8
    assert relative(plain.logits(images), model.logits(images)) < 1e-5


@torch.inference_mode()
def test_a_model_in_training_mode_is_folded_by_its_moving_statistics():
    model, images = random_model(CONFIGS["paper"]), torch.randn(1, 3, 33, 33)
    wanted = model.logits(images)
    plain = folded(model.train())
    assert not plain.training and model.training
    assert relative(plain.logits(images), wanted) < 1e-5


@torch.inference_mode()
def test_only_sure_neighbors_of_an_smp_network_are_folded():
    model = randomize_batch_norms(build_model(ModelConfig(smp="DeepLabV3Plus", backbone="resnet18"), 5)).eval()
    plain, images = folded(model), torch.randn(1, 3, 65, 65)
    assert 0 < norms(plain) < norms(model)
    assert relative(plain.logits(images), model.logits(images)) < 1e-5


class Activated(nn.BatchNorm2d):
    """Batch norm by its class, with an activation, as timm has it."""

    def forward(self, x):
        return super().forward(x).relu()


class Odd(nn.Sequential):
    def forward(self, x):
        return super().forward(x.relu())


@torch.inference_mode()
def test_subclasses_of_convolution_and_batch_norm_are_not_folded():
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 1), Activated(4)),
        Odd(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), SinglePixelBatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), BatchNorm2d(4)),
    ).eval()
    images = torch.randn(2, 3, 5, 5)
    assert norms(folded(model)) == 4
    assert torch.equal(folded(model)(images), model(images))
