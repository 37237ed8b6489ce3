import os
import subprocess
import sys

import pytest
import torch

from seg.models.ops.batch_norm import BatchNorm2d, SinglePixelBatchNorm2d
from tests.helpers.paths import ROOT

EPS = 1e-3


def same_state(a, b):
    """Return whether parameters and moving statistics are equal, without PyTorch's counter of batches."""
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    return all(torch.equal(value, b[name]) for name, value in a.items() if name != "num_batches_tracked")


def by_formula(x, layer):
    """Batch norm with moving statistics."""
    mean, variance, scale, offset = (
        t[:, None, None] for t in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    return (x - mean) / torch.sqrt(variance + EPS) * scale + offset


@pytest.mark.parametrize("kind", [BatchNorm2d, SinglePixelBatchNorm2d])
@pytest.mark.parametrize("momentum", [0.0003, 0.1])
@pytest.mark.parametrize("training", [True, False])
def test_values_gradients_and_statistics_equal_pytorchs(kind, momentum, training, randomize):
    ours, theirs = (randomize(cls(4, eps=EPS, momentum=momentum)).train(training) for cls in (kind, torch.nn.BatchNorm2d))
    for seed in range(3):
        torch.manual_seed(seed)
        x = torch.randn(2, 4, 5, 6)
        results = []
        for norm in (ours, theirs):
            norm.zero_grad()
            image = x.clone().requires_grad_()
            y = norm(image)
            (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
            results.append((y, image.grad, norm.weight.grad, norm.bias.grad))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert same_state(ours, theirs)
    assert int(ours.num_batches_tracked) == 0 and int(theirs.num_batches_tracked) == 3 * training


def test_without_a_momentum_statistics_are_pytorchs_cumulative_average():
    ours, theirs = BatchNorm2d(4, momentum=None), torch.nn.BatchNorm2d(4, momentum=None)
    for _ in range(3):
        x = torch.randn(2, 4, 5, 6)
        assert torch.equal(ours(x), theirs(x))
    assert same_state(ours, theirs) and int(ours.num_batches_tracked) == 3


def test_batch_norm_of_a_single_pixel_uses_moving_statistics(randomize):
    torch.manual_seed(0)
    lone, plain = randomize(SinglePixelBatchNorm2d(4, eps=EPS)), randomize(torch.nn.BatchNorm2d(4, eps=EPS))
    for shape in ((2, 4, 1, 1), (1, 4, 2, 1), (1, 4, 1, 3)):
        x = torch.randn(shape)
        torch.testing.assert_close(lone(x), plain(x))
    before = {name: value.clone() for name, value in lone.state_dict().items()}
    assert same_state(lone, plain)
    x = torch.randn(1, 4, 1, 1)
    torch.testing.assert_close(lone(x), by_formula(x, lone))
    assert all(torch.equal(value, before[name]) for name, value in lone.state_dict().items())


# Each of two processes takes half of a batch, with every way of computing.
TWO_PROCESSES = """
import sys
import torch
import torch.distributed as dist
from seg.models.layers import norm_relu
from seg.models.ops.batch_norm import BatchNorm2d, SinglePixelBatchNorm2d
from seg.models.ops.recompute import recompute
from tests.helpers.forks import finish, fork

folder = sys.argv[1]

def net(kind, synchronized):
    torch.manual_seed(0)
    norm = kind(4, eps=1e-3, momentum=0.1)
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    torch.nn.init.uniform_(norm.bias, -1, 1)
    torch.nn.init.uniform_(norm.running_mean, 50, 100)
    norm.synchronized = synchronized
    return norm

def outcome(way, part, synchronized, kind=BatchNorm2d):
    norm, conv = net(kind, synchronized), torch.nn.Conv2d(4, 4, 1, bias=False)
    torch.nn.init.eye_(conv.weight.data[:, :, 0, 0])
    # Far from zero, as images in 0..255 are: the square of the mean must not cancel the variance.
    x = (100 + 3 * torch.randn(4, 4, 5, 6, generator=torch.Generator().manual_seed(1)))
    if kind is SinglePixelBatchNorm2d:
        x = x[:2, :, :1, :1]
    x = x.chunk(2)[part] if part is not None else x
    x = x.clone().requires_grad_()
    with recompute() if way == "recompute" else torch.enable_grad():
        forward = lambda x: conv(norm_relu(norm, x, True))
        y = (torch.compile(forward) if way == "compile" else forward)(x)
    weight = torch.linspace(-1, 1, 4 * y[0].numel()).view(4, *y[0].shape)[: len(y) if part is None else 2 * len(y)]
    weight = weight if part is None else weight.chunk(2)[part]
    (y * weight).sum().backward()
    return [t.detach() for t in (y, x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)]

def job(rank):
    dist.init_process_group("gloo", store=dist.FileStore(folder + "/store", 2), rank=rank, world_size=2)
    found = {way: outcome(way, rank, True) for way in ("eager", "recompute", "compile")}
    found["single"] = outcome("eager", rank, True, SinglePixelBatchNorm2d)
    torch.save(found, f"{folder}/{rank}.pt")

ranks = [fork(lambda n=n: job(n)) for n in range(2)]
assert not any([finish(pid) for pid in ranks])
whole = {way: outcome("eager", None, False) for way in ("eager", "recompute", "compile")}
whole["single"] = outcome("eager", None, False, SinglePixelBatchNorm2d)
torch.save(whole, f"{folder}/whole.pt")
"""


def test_synchronized_by_two_processes_it_is_the_norm_of_the_whole_batch(tmp_path):
    """Values, gradients and moving statistics, also when recomputed, when compiled, and with one value a process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TWO_PROCESSES, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    first, second, whole = (torch.load(tmp_path / f"{name}.pt") for name in ("0", "1", "whole"))
    for way, expected in whole.items():
        for index, name in enumerate(("y", "grad_x", "grad_weight", "grad_bias", "running_mean", "running_var")):
            a, b = first[way][index], second[way][index]
            if name in ("y", "grad_x"):
                ours = torch.cat([a, b])
            elif name.startswith("grad"):
                ours = a + b  # DistributedDataParallel averages them; the loss is divided accordingly
            else:
                assert torch.equal(a, b)
                ours = a
            torch.testing.assert_close(ours, expected[index], rtol=2e-4, atol=2e-4, msg=f"{way} {name}")
