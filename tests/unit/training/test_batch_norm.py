import pytest
import torch
from torch import nn

from seg.config import ModelConfig
from seg.models.factory import build_model
from seg.training.batch_norm import (
    all_synchronized,
    freeze_backbone,
    freeze_batch_norm,
    set_batch_norm_momentum,
    synchronize_batch_norm,
)


@pytest.fixture
def network():
    return build_model(ModelConfig(backbone="xception41", width=0.05), 5).train()


def norms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)]


def test_every_batch_norm_takes_the_momentum(network):
    set_batch_norm_momentum(network, 0.125)
    assert {norm.momentum for norm in norms(network)} == {0.125} and len(norms(network)) > 80


def test_our_norms_are_synchronized_in_place_on_every_device(network):
    assert not all_synchronized(network)
    assert synchronize_batch_norm(network, torch.device("cpu")) is network
    assert all(norm.synchronized for norm in norms(network)) and all_synchronized(network)


def test_norms_of_other_libraries_are_synchronized_on_gpus_only():
    from timm.layers import BatchNormAct2d, SyncBatchNormAct

    def library():
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), BatchNormAct2d(4)).train()

    assert not all_synchronized(synchronize_batch_norm(library(), torch.device("cpu")))
    converted = synchronize_batch_norm(library(), torch.device("cuda"))
    assert [type(module) for module in converted] == [nn.Conv2d, nn.SyncBatchNorm, SyncBatchNormAct]
    assert isinstance(converted[2].act, nn.ReLU) and all_synchronized(converted)


def test_only_norms_that_train_need_synchronizing(network):
    freeze_batch_norm(network, "all")
    assert all_synchronized(network)


@pytest.mark.parametrize("where, frozen", [("none", (False, False)), ("backbone", (True, False)), ("all", (True, True))])
def test_only_the_chosen_batch_norms_are_frozen(network, where, frozen):
    freeze_batch_norm(network, where)
    for part, expected in ((network.backbone, frozen[0]), (network.aspp, frozen[1]), (network.decoder, frozen[1])):
        assert {norm.training for norm in norms(part)} == {not expected}
    others = [m for m in network.modules() if not isinstance(m, nn.BatchNorm2d)]
    assert all(module.training for module in others)


@pytest.mark.parametrize("where", ["none", "backbone", "all"])
def test_frozen_norms_keep_their_statistics_and_their_weights_train(network, where):
    freeze_batch_norm(network, where)
    before = {name: value.clone() for name, value in network.named_buffers() if "running" in name}
    network.logits(torch.randn(2, 3, 49, 49)).sum().backward()
    kept = {name for name, value in before.items() if torch.equal(network.get_buffer(name), value)}
    wanted = {name for name in before if where == "all" or (where == "backbone" and name.startswith("backbone."))}
    assert kept == wanted
    assert network.backbone.conv1.norm.weight.grad.abs().sum() > 0


def test_a_frozen_backbone_has_no_gradients(network):
    freeze_backbone(network)
    network.logits(torch.randn(2, 3, 49, 49)).sum().backward()
    assert all(p.grad is None for p in network.backbone.parameters())
    assert network.classifier.weight.grad is not None
