"""The same numbers from less memory."""

import contextlib
import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from seg.config import ModelConfig
from seg.models.factory import build_model
from seg.models.layers import ORIGINAL, POST, PRE, SeparableConv2d
from seg.models.ops.recompute import recompute
from tests.helpers.toy import randomize_batch_norms


def network(**settings):
    torch.manual_seed(0)
    model = randomize_batch_norms(build_model(ModelConfig(backbone="xception41", width=0.125, **settings), 5).double())
    model.aspp.dropout.p = 0.0
    return model


def outcome(model, images, how, frozen=False):
    """Loss, gradients, and the state after a forward and a backward pass."""
    model.train()
    if frozen:
        for module in model.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    with how():
        loss = model(images).square().mean()
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return loss.detach(), gradients, model.state_dict()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("activation_placement", ["paper", "tf"])
def test_recomputing_changes_neither_loss_nor_gradients_nor_statistics(activation_placement, frozen):
    images = torch.randn(2, 3, 65, 49, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    plain = outcome(network(activation_placement=activation_placement), images, contextlib.nullcontext, frozen)
    ours = outcome(network(activation_placement=activation_placement), images, recompute, frozen)
    assert torch.equal(ours[0], plain[0])
    assert ours[1].keys() == plain[1].keys()
    for name, gradient in plain[1].items():
        torch.testing.assert_close(ours[1][name], gradient, rtol=1e-7, atol=1e-12, msg=name)
    for name, value in plain[2].items():
        assert torch.equal(ours[2][name], value), name


def test_recomputed_outputs_replace_stored_ones(monkeypatch):
    """A separable convolution stores only the maps before its norms."""
    import seg.models.ops.recompute as room

    conv = SeparableConv2d(8, 16, POST, eps=1e-3).train()
    packed, pack = [], room._pack
    monkeypatch.setattr(room, "_pack", lambda tensor: packed.append(pack(tensor)) or packed[-1])
    with recompute():
        conv(torch.randn(2, 8, 9, 9, requires_grad=True)).sum()
    outputs = {id(item): item for item in packed if isinstance(item, room.RecomputedOutput)}
    assert [tuple(output.layout[0]) for output in outputs.values()] == [(2, 8, 9, 9), (2, 16, 9, 9)]
    maps = {item.data_ptr() for item in packed if isinstance(item, torch.Tensor) and item.shape[2:] == (9, 9)}
    assert len(maps) == 3  # the input, and what goes into each norm


def test_the_backward_pass_frees_recomputed_outputs():
    model, alive = network(), []
    with recompute():
        import seg.models.ops.recompute as room

        loss = model(torch.randn(2, 3, 65, 65, dtype=torch.float64)).sum()
        alive = [weakref.ref(output) for _, output in room._recorded.values()]
    assert sum(ref() is not None for ref in alive) > 50
    loss.backward()
    gc.collect()
    assert all(ref() is None for ref in alive)


@pytest.mark.parametrize(
    "settings", [{"activation_placement": "paper"}, {"activation_placement": "tf"}, {"separable_activation": "elu"}]
)
def test_without_a_backward_pass_the_whole_graph_is_freed_with_its_output(monkeypatch, settings):
    import seg.models.ops.recompute as room

    model, kept, pack = network(**settings), [], room._pack
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}

    def watch(tensor):
        if (storage := tensor.untyped_storage())._cdata not in own:
            kept.append(StorageWeakRef(storage))
        return pack(tensor)

    monkeypatch.setattr(room, "_pack", watch)
    for _ in range(2):
        with recompute():
            loss = model(torch.randn(2, 3, 65, 65, dtype=torch.float64)).sum()
        assert sum(not storage.expired() for storage in kept) > 100
        del loss
        gc.collect()
        assert all(storage.expired() for storage in kept)


@pytest.mark.parametrize("activation_placement", [POST, PRE, ORIGINAL, replace(PRE, separable_activation="elu")])
def test_gradients_equal_finite_differences(activation_placement):
    torch.manual_seed(0)
    conv = SeparableConv2d(3, 4, activation_placement, eps=1e-3).double().train()

    def through(x):
        with recompute():
            return conv(x)

    assert torch.autograd.gradcheck(through, torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True))


def test_recomputing_does_not_change_a_prediction():
    model, images = network().eval(), torch.randn(1, 3, 65, 65, dtype=torch.float64)
    with torch.no_grad(), recompute():
        inside = model(images)
    with torch.no_grad():
        assert torch.equal(inside, model(images))


def test_recomputing_works_with_lower_precision():
    model, images = network().float(), torch.randn(2, 3, 65, 65)
    losses = []
    for how in (contextlib.nullcontext, recompute):
        model.zero_grad()
        with how(), torch.autocast("cpu", torch.bfloat16):
            loss = model(images).float().square().mean()
        loss.backward()
        losses.append((float(loss.detach()), float(model.classifier.weight.grad.norm())))
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
