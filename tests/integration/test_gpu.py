"""Training and prediction on a real GPU, against the CPU: `python -m pytest -m gpu`."""

import contextlib
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from seg.config import InferenceConfig, from_dict
from seg.data.loader import Batch
from seg.distributed import all_gather, process_group, rank
from seg.inference.predictor import Predictor
from seg.labels import VOC
from seg.models.factory import build_model
from seg.models.ops.batch_norm import BatchNorm2d
from seg.models.ops.resize import resize
from seg.runtimes.pytorch import fast_model
from seg.training import checkpoint
from seg.training.losses import Loss, cross_entropy
from seg.training.memory import training_memory
from seg.training.step import Step
from seg.training.trainer import Trainer
from tests.helpers.configs import CONFIG
from tests.helpers.toy import picture, randomize_batch_norms, toy_voc

pytestmark = pytest.mark.gpu
CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
SMALL = {"backbone": "xception41", "width": 0.25, "activation_placement": "tf", "aspp": {"dropout": 0.0}}
SIDE = 97


def make_step(device, model=None, side=SIDE, **train):
    torch.manual_seed(0)
    # Deterministic: cuDNN does not measure its algorithms, which takes half a minute for each type.
    settings = {"batch_size": 4, "learning_rate": 0.02, "iterations": 100, "recompute": False, "deterministic": True, **train}
    config = from_dict({"model": SMALL | (model or {}), "train": settings}, "test")
    network = randomize_batch_norms(build_model(config.model, 21)).to(device, memory_format=torch.channels_last)
    return Step(network, Loss(config.train, np.ones((1, 21))).to(device), config.train, device, (side, side))


def batch(images=4, side=SIDE):
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (images, side, side, 3), np.uint8)).permute(0, 3, 1, 2)
    masks = torch.from_numpy(rng.integers(0, 21, (images, side, side), np.uint8))
    masks[:, : side // 8] = 255
    return Batch(pixels, masks, torch.tensor([[side, 0, side]] * images))


def trained(device, steps=5, given=None, **train):
    """Losses of some steps, and the change of each weight, on the CPU."""
    step = make_step(device, **train)
    before = {name: p.detach().cpu().clone() for name, p in step.model.named_parameters()}
    losses = []
    for iteration in range(steps):
        step(iteration, given or batch())
        losses.append(step.mean_loss())
    assert not step.failures()
    return losses, {name: p.detach().cpu() - before[name] for name, p in step.model.named_parameters()}


def cosine(a, b):
    """Similarity of two sets of changes: 1 where they have one direction."""
    a, b = (torch.cat([value.double().flatten() for value in changes.values()]) for changes in (a, b))
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize(
    "precision, similarity", [("float32-exact", 0.999999), ("float32", 0.999), ("bfloat16", 0.999), ("float16", 0.9999)]
)
def test_steps_equal_the_cpus(precision, similarity):
    theirs, wanted = trained(CPU, precision="float32", freeze_batch_norm="all")
    ours, found = trained(CUDA, precision=precision, freeze_batch_norm="all")
    assert ours == pytest.approx(theirs, rel=2e-3)
    assert cosine(found, wanted) > similarity


def test_a_step_that_trains_batch_norm_equals_the_cpus():
    """Of one step: norms of few values amplify rounding from step to step."""
    (theirs,), wanted = trained(CPU, 1, precision="float32")
    (ours,), found = trained(CUDA, 1, precision="float32-exact")
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert cosine(found, wanted) > 0.99


def test_every_precision_learns_as_float32_does():
    images = [picture(SIDE, SIDE, seed) for seed in range(8)]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    masks = (pixels[:, 0] > 128).byte() + 2 * (pixels[:, 1] > 128).byte()
    given = Batch(pixels, masks, torch.tensor([[SIDE, 0, SIDE]] * 8))
    last = {
        precision: np.mean(trained(CUDA, 40, given, precision=precision, batch_size=8)[0][-10:])
        for precision in ("float32-exact", "float32", "bfloat16", "float16")
    }
    assert last["float32-exact"] < 1.5  # of 3.1 at first
    assert last == pytest.approx(dict.fromkeys(last, last["float32-exact"]), rel=0.05)


@pytest.mark.parametrize("precision", ["float32-exact", "bfloat16"])
@pytest.mark.parametrize(
    "change", [{"recompute": True}, {"grad_accumulation": 2}, {"checkpoint_activations": True}, {"compile": True}]
)
def test_ways_to_compute_a_step_give_one_result(change, precision):
    settings = {"precision": precision, "freeze_batch_norm": "all"}
    plain, wanted = trained(CUDA, **settings)
    ours, found = trained(CUDA, **settings, **change)
    assert ours == pytest.approx(plain, rel=1e-4)
    assert cosine(found, wanted) > (0.99999 if precision == "float32-exact" else 0.999)


def test_a_float16_overflow_skips_the_update_and_lowers_the_scale():
    step = make_step(CUDA, precision="float16")
    step.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**60)
    before = [p.detach().clone() for p in step.model.parameters()]
    step(0, batch())
    assert not step.failures() and step.scaler.get_scale() < 2.0**60
    assert all(torch.equal(p, kept) for p, kept in zip(step.model.parameters(), before, strict=True))
    assert step.finite_statistics()


def test_a_resumed_deterministic_training_has_the_same_bits(tmp_path):
    toy_voc(tmp_path / "voc", train=6, val=3)

    def run(name, iterations=6, resume=False):
        settings = {**CONFIG, "name": name, "runs": str(tmp_path / "runs"), "device": "cuda"}
        settings["data"] = CONFIG["data"] | {"root": str(tmp_path / "voc"), "crop_size": SIDE}
        settings["train"] = CONFIG["train"] | {"iterations": 6, "validate_every": 2, "deterministic": True, "log_every": 1}

        class Stop:
            def on_step(self, run, iteration, loss, learning_rate):
                if iteration == iterations:
                    run.stop()

        trainer = Trainer(from_dict(settings, "test"), quiet=True, resume=resume, callbacks=[Stop()])
        trainer.run()
        return checkpoint.read(trainer.training_run.last)["model"]

    whole = run("whole")
    run("parts", iterations=3)
    parts = run("parts", resume=True)
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


@contextlib.contextmanager
def one_process_of_a_group():
    """A group of one process that synchronizes all the same."""
    torch.distributed.init_process_group("nccl", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_synchronized_batch_norm_of_one_process_is_batch_norm(dtype, way):
    x = (100 + 3 * torch.randn(4, 16, 33, 33, device=CUDA)).to(dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn_like(x)
    results = []
    with one_process_of_a_group():
        for synchronized in (True, False):
            norm = BatchNorm2d(16, momentum=0.1).to(CUDA)
            norm.synchronized = synchronized
            given = x.clone().requires_grad_()
            forward = torch.compile(norm) if way == "compiled" and synchronized else norm
            y = forward(given)
            y.backward(weight)
            results.append((y, given.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var))
            assert given.grad.is_contiguous(memory_format=torch.channels_last)
    tolerance = 1e-3 if dtype == torch.float32 else 4e-2
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def two_ranks(number, port, whole):
    os.environ |= {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    with process_group():
        step = make_step(torch.device("cuda", number), precision="float32-exact")
        losses = []
        for iteration in range(3):
            step(iteration, Batch(*(part.chunk(2)[rank()] for part in batch())))
            losses.append(step.mean_loss())
        assert all_gather(losses) == [losses, losses]
        assert losses == pytest.approx(whole, rel=1e-4)


def test_two_gpus_train_as_one_does():
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU here")
    losses, _ = trained(CUDA, precision="float32-exact")
    torch.multiprocessing.spawn(two_ranks, ("29511", losses), nprocs=2)


def test_gradients_of_frozen_norms_and_of_resizing_are_the_operators():
    x = torch.randn(2, 32, 33, 33, device=CUDA).contiguous(memory_format=torch.channels_last)
    ours = randomize_batch_norms(torch.nn.Sequential(BatchNorm2d(32))).to(CUDA).eval()
    theirs = torch.nn.BatchNorm2d(32).to(CUDA).eval()
    theirs.load_state_dict(ours[0].state_dict())
    grads = []
    for norm in (ours, theirs):
        given = x.clone().requires_grad_()
        y = norm(given)
        y.backward(torch.ones_like(y) + y.detach())
        grads.append((given.grad, *(p.grad for p in norm.parameters())))
    assert grads[0][0].is_contiguous(memory_format=torch.channels_last)
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    given = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    grad = torch.randn(2, 32, 129, 129, device=CUDA)
    resize(given[0], (129, 129)).backward(grad)
    torch.nn.functional.interpolate(given[1], (129, 129), mode="bilinear", align_corners=True).backward(grad)
    torch.testing.assert_close(given[0].grad, given[1].grad, rtol=1e-4, atol=1e-4)


def test_the_loss_of_a_batch_equals_the_cpus():
    logits, target = torch.randn(14, 21, 129, 129), torch.randint(0, 21, (14, 513, 513)).byte()
    target[:, :100] = 255
    results = []
    for device in (CPU, CUDA):
        given = logits.detach().clone().to(device).requires_grad_()
        loss = cross_entropy(given, target.to(device), smoothing=0.1)
        loss.backward()
        results.append((loss.detach().cpu(), given.grad.cpu()))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=0)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-3, atol=1e-10)


@pytest.mark.parametrize("precision, share", [("float32", 0.995), ("bfloat16", 0.97)])
@pytest.mark.parametrize("settings", [{}, {"scales": [0.75, 1.25], "flip": True}])
def test_masks_equal_the_cpus(precision, share, settings):
    torch.manual_seed(0)
    model = randomize_batch_norms(build_model(from_dict({"model": SMALL}, "test").model, 21)).eval()
    images = [np.random.default_rng(n).integers(0, 256, (120, 100, 3), np.uint8) for n in range(20)]
    config = replace(InferenceConfig(canvas=129), **settings)
    wanted = Predictor(model, VOC, config).predict(images)
    found = Predictor(fast_model(model).to(CUDA), VOC, config, precision=precision).predict(images)
    assert np.mean([(a == b).mean() for a, b in zip(wanted, found, strict=True)]) > share


@pytest.mark.parametrize(
    "train, model",
    [
        ({"precision": "float32", "recompute": True}, {}),
        ({"precision": "float32", "recompute": False}, {}),
        ({"precision": "bfloat16", "recompute": True}, {}),
        ({"precision": "bfloat16", "recompute": False}, {}),
        ({"precision": "bfloat16", "recompute": True, "freeze_batch_norm": "all"}, {"output_stride": 8}),
    ],
)
def test_the_memory_of_a_training_is_as_estimated(train, model, record_property):
    """Xception-65, batch 16, 513x513."""
    full = {"backbone": "xception65", "width": 1.0, "aspp": {}}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    step = make_step(CUDA, full | model, side=513, batch_size=16, **train)
    for iteration in range(2):
        step(iteration, batch(16, 513))
    step.failures()
    measured = torch.cuda.max_memory_allocated()
    estimate = training_memory(step.model, step.config, 513, 513, step.precision, step.config.recompute, CUDA)
    print(f"\n{train | model}: measured {measured / 2**30:.2f} GiB, estimate {estimate / 2**30:.2f} GiB")
    assert 0.9 < estimate / measured < 1.15
