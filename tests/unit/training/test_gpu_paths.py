"""The paths of GPUs, on fake CUDA tensors: a training step, validation and prediction, operation by operation.

Nothing waits for the device: fake tensors have no values, so that reading one on the host raises.
"""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from seg.config import InferenceConfig, from_dict
from seg.data.loader import Batch
from seg.inference.predictor import Predictor
from seg.labels import VOC
from seg.models.factory import build_meta_model
from seg.models.profile import make_fake
from seg.runtimes.pytorch import fast_model
from seg.training.ema import ExponentialMovingAverage
from seg.training.losses import Loss
from seg.training.step import Step
from tests.helpers.fake_cuda import CUDA, Operations, fake_cuda

SIDE, IMAGES = 129, 4


def network(backbone="xception41", **model):
    config = from_dict({"model": {"backbone": backbone, "activation_placement": "tf", **model}}, "test")
    return build_meta_model(config.model, 21).to(memory_format=torch.channels_last)


@functools.cache
def recorded_step(**train):
    """The operations of a training step of a network with all parts."""
    config = from_dict({"train": {"batch_size": IMAGES, "ema_decay": 0.9, **train}}, "test").train
    model = network()
    with fake_cuda():
        make_fake(model, CUDA)
        step = Step(model, Loss(config, np.ones((1, 21))), config, CUDA, (SIDE, SIDE))
        images = torch.empty(IMAGES, 3, SIDE, SIDE, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
        batch = Batch(images, torch.empty(IMAGES, SIDE, SIDE, dtype=torch.uint8), torch.empty(IMAGES, 3, dtype=torch.int64))
        average = ExponentialMovingAverage(step.model, config.ema_decay)
        with Operations() as operations:
            step(0, batch)
            average.update()
    assert not operations.mixed and not operations.relayouts
    assert operations.uploads["uint8"] == 2  # images and masks
    return operations, step


@pytest.mark.parametrize(
    "precision, recompute", [("float32", True), ("bfloat16", True), ("bfloat16", False), ("float16", False)]
)
def test_a_step_stays_on_the_device_in_one_layout(precision, recompute):
    operations, step = recorded_step(precision=precision, recompute=recompute)
    assert set(operations.dtypes) == {getattr(torch, precision)}
    assert step.scaler.is_enabled() == (precision == "float16")
    norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in step.model.modules())
    applied = sum(n for name, n in operations.launches.items() if "batch_norm" in name and "backward" not in name)
    assert applied > 1.5 * norms if recompute else applied == norms


def test_atrous_convolutions_run_without_dilation():
    operations, step = recorded_step(precision="bfloat16", recompute=False)
    atrous = [module for module in step.model.modules() if isinstance(module, torch.nn.Conv2d) and max(module.dilation) > 1]
    assert len(atrous) == 6 and operations.dilated == 0
    assert operations.launches["constant_pad_nd.default"] >= 6


def test_frozen_batch_norm_gives_channels_last_gradients():
    """Some of the norms train; PyTorch's operator gives contiguous gradients for the others."""
    operations, _ = recorded_step(precision="bfloat16", recompute=False, freeze_batch_norm="backbone")
    assert operations.launches["mul.out"] > 80


def test_accumulated_parts_update_the_weights_once():
    whole, _ = recorded_step(precision="bfloat16", recompute=False)
    parts, _ = recorded_step(precision="bfloat16", recompute=False, grad_accumulation=2)
    assert parts.launches["convolution.default"] == 2 * whole.launches["convolution.default"]
    assert parts.launches["_fused_sgd_.default"] == whole.launches["_fused_sgd_.default"]


def test_launches_and_bytes_of_a_step_are_bounded():
    """A convolution, a norm and an activation a layer, forward and backward, and in bfloat16 two casts of the weights."""
    lower, step = recorded_step(precision="bfloat16", recompute=False)
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in step.model.modules())
    # On a GPU, the norms of all gradients are a few launches; fake tensors take one each.
    assert lower.launches.total() - lower.launches["linalg_vector_norm.default"] < 8 * convolutions + 120
    assert lower.launches["exp2_.default"] == 1  # the loss of all images at once
    recomputing, _ = recorded_step(precision="bfloat16", recompute=True)
    assert recomputing.bytes > 1.05 * lower.bytes  # the reason why a GPU recomputes only where memory is short
    full, _ = recorded_step(precision="float32", recompute=True)
    assert 1.3 < full.bytes / recomputing.bytes < 2.1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("settings", [{}, {"scales": [0.5, 1.0], "flip": True}, {"canvas": None}])
def test_validation_runs_on_the_device(monkeypatch, precision, settings):
    """Folded, in the precision of the training, in batches, with one wait per batch: for the masks."""
    model = fast_model(network())
    with fake_cuda():
        make_fake(model, CUDA)
        predictor = Predictor(model, VOC, replace(InferenceConfig(canvas=SIDE), **settings), precision=precision)
        masks = []  # as they come to the host
        monkeypatch.setattr(torch.Tensor, "numpy", lambda mask: masks.append(mask) or np.zeros(mask.shape, np.uint8))
        with Operations() as operations:
            list(predictor.stream((None, np.zeros((100, 120, 3), np.uint8)) for _ in range(3)))
    assert not operations.mixed
    assert set(operations.dtypes) == {getattr(torch, precision)}
    assert not any("batch_norm" in name for name in operations.launches)
    assert [list(mask.shape) for mask in masks] == [[3, 100, 120]]


def test_the_device_predicts_the_next_images_while_the_host_uses_masks(monkeypatch):
    pulled, when = [], []

    def images():
        for number in range(24):
            pulled.append(number)
            yield None, np.zeros((100, 120, 3), np.uint8)

    monkeypatch.setattr(torch.Tensor, "numpy", lambda mask: when.append(len(pulled)) or np.zeros(mask.shape, np.uint8))
    model = fast_model(network())
    with fake_cuda():
        make_fake(model, CUDA)
        assert len(list(Predictor(model, VOC, InferenceConfig(canvas=SIDE)).stream(images()))) == 24
    assert when == [16, 24, 24]  # two blocks of images are started before the masks of the first are read
