"""The device, and a thin wrapper over torch.distributed that also works in a single process, without torchrun."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import UserError
from .synonyms import choice_meant

if TYPE_CHECKING:  # `seg --help` does not wait for torch
    import numpy as np
    import torch

T = TypeVar("T")

DEVICES = re.compile(r"auto|cpu|mps|(cuda|xpu)(:\d+)?")
"""Names of devices: auto, or as torch writes them."""
BUILDS = {
    "cuda": "an NVIDIA or AMD GPU, its driver, and a build of PyTorch for it",
    "mps": "a Mac with an Apple GPU",
    "xpu": "an Intel GPU and PyTorch's build for it",
}
"""Requirements of each kind of device. `auto` takes the first available one, in this order; else the CPU."""


def restarts() -> int:
    """The number of times torchrun has restarted the processes after a failure (`--max-restarts`)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _initialized() -> Any:
    """torch.distributed if this process has joined a group, else None. A process that has not imported it has joined none."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist and dist.is_initialized() else None


def rank() -> int:
    """The number of this process in its group, from 0; 0 in a single process."""
    dist = _initialized()
    return int(dist.get_rank()) if dist else 0


def world_size() -> int:
    """The number of processes in the group; 1 in a single process."""
    dist = _initialized()
    return int(dist.get_world_size()) if dist else 1


def is_main() -> bool:
    """Whether this process is the one that prints and writes files: rank 0."""
    return rank() == 0


def check_device_name(name: str) -> None:
    """Raise a UserError unless this is the name of a device: auto, cpu, cuda, cuda:1, mps, xpu. It may be absent here."""
    if not DEVICES.fullmatch(name):
        meant = f"cuda:{name}" if name.isdigit() else choice_meant(name, ("auto", "cpu", *BUILDS))
        hint = f"; did you mean '{meant}'?" if meant else ""
        raise UserError(f"device={name}: must be auto, cpu, cuda, a certain GPU such as cuda:1, mps or xpu{hint}")


def device(name: str | torch.device = "auto") -> torch.device:
    """Find the device to compute on.

    Args:
        name: auto takes CUDA, then MPS, then XPU, then the CPU. cuda and xpu are torch's current GPU: `process_group` gives
            each process its own. cuda:1 is the second GPU.

    Raises:
        UserError: the name is unknown, the device is absent, or several processes would share one GPU.
    """
    import torch

    name = str(name)
    check_device_name(name)
    if name == "auto":
        name = next((kind for kind in BUILDS if _count(kind)), "cpu")
    kind, _, index = name.partition(":")
    if kind == "cpu":
        return torch.device("cpu")
    count = _count(kind)
    if not count:
        raise UserError(
            f"device={name}: PyTorch finds none here; it needs {BUILDS[kind]}. device=auto takes an available device"
        )
    if index and world_size() > 1:
        raise UserError(f"device={name}: each of the {world_size()} processes takes its own GPU; give device={kind}")
    if index and int(index) >= count:
        numbers = f"{kind}:0" + (f" to {kind}:{count - 1}" if count > 1 else "")
        raise UserError(f"device={name}: this machine has {numbers}; choose one of these, or device=auto")
    if kind == "mps":
        return torch.device("mps")
    # Not LOCAL_RANK: a scheduler may set it without torchrun, and torch's own buffers would be on another GPU.
    return torch.device(kind, int(index) if index else getattr(torch, kind).current_device())


def _count(kind: str) -> int:
    """The number of devices of a kind that PyTorch can use here."""
    import torch

    if kind == "mps":
        return int(torch.backends.mps.is_available())
    backend = getattr(torch, kind)
    return int(backend.device_count()) if backend.is_available() else 0


def describe_device(device: torch.device) -> str:
    """The device in words, such as `cuda:0 (NVIDIA H100)`."""
    import torch

    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"the CPU ({threads} thread{'s' * (threads != 1)})"
    if device.type == "mps":
        fallback = os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK") == "1"
        return "mps (the Apple GPU; operators that it lacks " + (
            "run on the CPU)" if fallback else "fail: set PYTORCH_ENABLE_MPS_FALLBACK=1 before torch is imported)"
        )
    return f"{device} ({getattr(torch, device.type).get_device_name(device)})"


def slurm_ranks() -> dict[str, str]:
    """torchrun's variables for a process that Slurm's `srun` started beside others; empty for any other process.

    The batch script and an interactive shell have steps of their own, with one process: the numbers of these steps are the
    largest of 32 bits.
    """
    given = os.environ
    step, world = given.get("SLURM_STEP_ID", ""), given.get("SLURM_STEP_NUM_TASKS", given.get("SLURM_NTASKS", "1"))
    if "WORLD_SIZE" in given or "SLURM_PROCID" not in given or not step.isdecimal() or int(step) >= 2**32 - 16 or world == "1":
        return {}
    if given.get("SLURM_STEP_NUM_NODES", given.get("SLURM_NNODES", "1")) == "1":
        host = "127.0.0.1"
    else:
        nodes = given.get("SLURM_STEP_NODELIST", given.get("SLURM_JOB_NODELIST", ""))
        host = first_node(nodes) or given.get("SLURM_LAUNCH_NODE_IPADDR", "")
    # Several jobs may share a node: the port follows from the numbers of the job and the step.
    port = 20000 + (int(given.get("SLURM_JOB_ID", "0")) * 16 + int(step)) % 12000
    tasks = re.match(r"\d+", given.get("SLURM_STEP_TASKS_PER_NODE", given.get("SLURM_TASKS_PER_NODE", "1")))
    return {
        "RANK": given["SLURM_PROCID"],
        "LOCAL_RANK": given.get("SLURM_LOCALID", "0"),
        "WORLD_SIZE": world,
        "LOCAL_WORLD_SIZE": tasks[0] if tasks else "1",
        "MASTER_ADDR": given.get("MASTER_ADDR", host),
        "MASTER_PORT": given.get("MASTER_PORT", str(port)),
    }


def first_node(nodes: str) -> str:
    """The first host of a Slurm node list: `gpu[01-03,07],login` begins with gpu01."""
    found = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", found[0]) if found else ""


def is_started_with_others() -> bool:
    """Whether torchrun, or Slurm's `srun`, has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ or bool(slurm_ranks())


@contextlib.contextmanager
def process_group() -> Iterator[int | None]:
    """Join the processes that torchrun or Slurm's `srun` started, and leave them at the end of the block.

    Tensors on GPUs travel by NCCL, those on the CPU by gloo.

    Yields:
        The rank; None in a single process.

    Raises:
        UserError: if a machine has more processes than GPUs.
    """
    ranks = slurm_ranks()
    os.environ.update(ranks)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield None
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus:
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if ranks and gpus == 1:
            local_rank = 0  # srun --gpus-per-task=1 shows each process its own GPU
        if local_rank >= gpus:
            flag = "srun --ntasks-per-node" if ranks else "--nproc-per-node"
            raise UserError(f"{flag}: this machine has {gpus} GPU{'s' * (gpus != 1)}; start one process per GPU")
        torch.cuda.set_device(local_rank)
    store, number, count = next(rendezvous("env://"))
    # torchrun keeps the store over restarts: a restarted process must not find the addresses that a dead one left there.
    store = PrefixStore(f"restart{restarts()}", store)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", store=store, rank=number, world_size=count)
    try:
        yield rank()
    finally:
        dist.destroy_process_group()


def all_reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all processes, in place; each gets the sum."""
    if dist := _initialized():
        dist.all_reduce(value)
    return value


def all_reduce_sum_array(value: np.ndarray) -> np.ndarray:
    """The sum of an integer array over all processes; each gets it."""
    if not _initialized():
        return value
    import torch

    return all_reduce_sum(torch.from_numpy(value).to(device())).cpu().numpy()


def all_gather(value: T) -> list[T]:
    """The values of all processes, in order of rank; each process gets them. The values are plain Python objects."""
    dist = _initialized()
    if not dist:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


@contextlib.contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """End all processes if one of them raises a UserError inside the block.

    Rank 0 raises the error of the lowest rank; the others exit with code 2 and print nothing. The block must not communicate
    with the other processes: one that has failed would not answer.

    Raises:
        UserError: on rank 0. SystemExit: on the others.
    """
    found = None
    try:
        yield
    except UserError as error:
        found = error
    messages = all_gather(str(found) if found else None)
    failed = [(number, message) for number, message in enumerate(messages) if message]
    if failed and not is_main():
        raise SystemExit(2)
    if found:
        raise found
    if failed:
        raise UserError(f"{failed[0][1]} (on rank {failed[0][0]})")
