import math

import numpy as np
import pytest
import torch
from torch import nn

import seg.training.step
from seg.config import from_dict
from seg.data.loader import Batch
from seg.labels import VOID
from seg.models.factory import build_model
from seg.models.layers import LogitsModule
from seg.training.losses import Loss
from seg.training.step import Step, prepare_mode
from tests.helpers.configs import MODEL
from tests.helpers.toy import refused

WITHOUT_DROPOUT = {**MODEL, "aspp": {"channels": 16, "dropout": 0.0}}


def make(double=True, model=None, **train):
    torch.manual_seed(0)
    settings = {"batch_size": 8, "learning_rate": 0.05, "iterations": 100, "precision": "float32", **train}
    config = from_dict({"model": {**WITHOUT_DROPOUT, **(model or {})}, "train": settings}, "test")
    network = build_model(config.model, 5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    network.double() if double else network.float()
    return Step(network, Loss(config.train, np.ones((1, 5))), config.train, torch.device("cpu"), (65, 65))


def batch(count=8, double=True):
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.uniform(0, 255, (count, 3, 49, 49)))
    masks = torch.from_numpy(rng.integers(0, 5, (count, 49, 49)))
    for index in range(count):  # each image with another number of labeled pixels
        masks[index, : 5 * index] = VOID
    return Batch(images.to(torch.float64 if double else torch.float32), masks.byte(), torch.tensor([[49, 0, 49]] * count))


def gradients(step):
    return {name: p.grad.clone() for name, p in step.model.named_parameters()}


@pytest.mark.parametrize("loss", [{"cross_entropy": 1.0}])
def test_accumulated_parts_equal_the_whole_batch_if_batch_norm_is_frozen(loss):
    given = batch()
    whole, parts = (make(freeze_batch_norm="all", loss=loss, grad_accumulation=count) for count in (1, 4))
    for step in (whole, parts):
        step(0, given)
    assert parts.mean_loss() == pytest.approx(whole.mean_loss(), rel=1e-5)
    a, b = gradients(whole), gradients(parts)
    for name in a:
        assert (a[name] - b[name]).abs().max() <= 1e-5 * a[name].abs().max() + 1e-12, name
    for p, q in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-8)


def test_the_loss_is_the_mean_over_labelled_pixels_not_a_mean_of_means():
    given = batch()
    step = make(freeze_batch_norm="all", grad_accumulation=8)
    logits = step.model.eval()(given.images * 2 / 255 - 1)
    wanted = nn.functional.cross_entropy(logits, given.masks.long(), ignore_index=VOID)
    wanted.backward()
    slopes = gradients(step)
    step(0, given)
    assert step.mean_loss() == pytest.approx(float(wanted.detach()), rel=1e-5)
    for name, gradient in gradients(step).items():
        assert (gradient - slopes[name]).abs().max() <= 1e-5 * slopes[name].abs().max() + 1e-12, name


@pytest.mark.parametrize("name, activation_placement", [("xception41", "tf"), ("xception41", "paper"), ("xception", "paper")])
def test_checkpointed_activations_give_the_same_gradients_and_statistics(name, activation_placement):
    given = batch(4)
    model = {"backbone": name, "activation_placement": activation_placement}
    plain, lean = (make(model=model, batch_size=4, checkpoint_activations=on) for on in (False, True))
    for step in (plain, lean):
        step(0, given)
        step(1, given)
    a, b = gradients(plain), gradients(lean)
    for key in a:
        assert (a[key] - b[key]).abs().max() <= 1e-6 * a[key].abs().max() + 1e-12, key
    for key, value in plain.model.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(lean.model.state_dict()[key], value, rtol=1e-6, atol=1e-9)


def kept_bytes(step, images):
    """Bytes of the distinct tensors that autograd keeps for the backward pass."""
    seen = {}

    def pack(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    prepare_mode(step.model, step.config)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step.model(images)
    return sum(seen.values())


def test_activation_checkpointing_stores_less():
    given = batch(4)
    plain, lean = (kept_bytes(make(batch_size=4, checkpoint_activations=on), given.images) for on in (False, True))
    assert lean < 0.5 * plain


def test_activation_checkpointing_is_refused_for_smp_networks():
    with refused("train.checkpoint_activations", "segmentation-models-pytorch; leave it out"):
        make(model={"smp": "Unet", "backbone": "resnet18"}, checkpoint_activations=True)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_trains_like_float32(precision):
    given = batch(double=False)
    losses = {}
    for how in ("float32", precision):
        step = make(double=False, precision=how)
        losses[how] = []
        for iteration in range(6):
            step(iteration, given)
            losses[how].append(step.mean_loss())
    assert step.model.classifier.weight.dtype == torch.float32
    assert losses[precision][0] == pytest.approx(losses["float32"][0], rel=0.02)
    assert losses[precision][0] != losses["float32"][0]
    assert losses[precision][-1] < losses[precision][0]
    assert step.scaler.is_enabled() == (precision == "float16")


def test_the_training_mode_is_set_only_if_it_changed(monkeypatch):
    calls, step, given = [], make(batch_size=2, freeze_batch_norm="backbone", batch_norm_momentum=0.2), batch(2)
    monkeypatch.setattr(seg.training.step, "prepare_mode", lambda *a: calls.append(1) or prepare_mode(*a))
    step(0, given)
    step(1, given)
    assert len(calls) == 1
    norms = [(name, m) for name, m in step.model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    for change in (step.model.eval, step.model.train, step.model.aspp.eval):
        change()
        step(2, given)
        assert all(m.training != name.startswith("backbone.") and m.momentum == 0.2 for name, m in norms)
        assert step.model.aspp.training and step.model.aspp.dropout.training
    assert len(calls) == 4


def test_clipping_limits_the_norm_of_the_whole_gradient():
    given = batch()
    free, clipped = make(), make(grad_clip_norm=0.1)
    for step in (free, clipped):
        step(0, given)
    a, b = ([p.grad for p in step.model.parameters()] for step in (free, clipped))
    assert nn.utils.get_total_norm(a) > 0.2
    assert float(nn.utils.get_total_norm(b)) == pytest.approx(0.1, rel=1e-4)
    assert torch.allclose(a[0] / a[0].norm(), b[0] / b[0].norm())


def test_a_frozen_backbone_does_not_change():
    given = batch()
    step = make(freeze_backbone=True, freeze_batch_norm="backbone")
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    step(0, given)
    for name, value in step.model.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(value, before[name]), name
    assert not torch.equal(step.model.classifier.weight, before["classifier.weight"])


def test_a_compiled_network_trains_the_same():
    given = batch(2)
    plain, compiled = make(batch_size=2), make(batch_size=2, compile=True)
    compiled.parallel = torch.compile(LogitsModule(compiled.model), backend="eager")
    for step in (plain, compiled):
        step(0, given)
    assert compiled.mean_loss() == pytest.approx(plain.mean_loss(), rel=1e-6)


@pytest.mark.parametrize("first", [True, False])
def test_a_nan_or_infinite_gradient_never_reaches_the_weights(first):
    given, bad = batch(), batch()
    bad.images[3, 0, 7, 7] = float("nan")
    step, plain = make(freeze_batch_norm="all"), make(freeze_batch_norm="all")
    for iteration, crops in ((0, bad), (0, given)) if first else ((0, given), (1, bad)):
        step(iteration, crops)
    plain(0, given)
    ((iteration, loss),) = step.failures()
    assert iteration == (0 if first else 1) and math.isnan(loss)
    assert step.failures() == []
    for name, value in plain.model.state_dict().items():
        assert torch.equal(step.model.state_dict()[name], value), name


def test_an_overflow_of_float16_skips_a_step_and_is_not_a_failure():
    given = batch(double=False)
    step = make(double=False, precision="float16")
    step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = step.model.classifier.weight.clone()
    step(0, given)
    assert torch.equal(step.model.classifier.weight, before) and step.scaler.get_scale() == 2.0**39
    assert all(not state["momentum_buffer"].any() for state in step.optimizer.state.values())
    assert step.failures() == []


def test_the_result_of_the_last_step_may_be_read_later():
    given = batch()
    step = make(freeze_batch_norm="all")
    given.images[3, 0, 7, 7] = float("nan")
    step(0, given)
    assert step.failures(under_way=1) == []
    step(1, given)
    assert [iteration for iteration, _ in step.failures(under_way=1)] == [0]
    assert [iteration for iteration, _ in step.failures()] == [1]
