"""Who am I among the processes that torchrun started; one process alone is a group of one."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from .errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch


def restarts() -> int:
    """How often torchrun has restarted the processes after one failed (`--max-restarts`)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _joined():
    """torch.distributed where this process is one of a group, else None. Who has not imported it is in none."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist and dist.is_initialized() else None


def rank() -> int:
    dist = _joined()
    return dist.get_rank() if dist else 0


def world_size() -> int:
    dist = _joined()
    return dist.get_world_size() if dist else 1


def is_main() -> bool:
    return rank() == 0


def device() -> torch.device:
    """This process's GPU, or the CPU where there is none."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextlib.contextmanager
def process_group():
    """Join the processes that torchrun started, with NCCL on GPUs and gloo without, and yield the rank; one alone: None.

    Raises UserError where a node has more processes than GPUs.
    """
    if int(os.environ["WORLD_SIZE"]) == 1:
        yield None
        return
    import torch
    import torch.distributed as dist

    here = device()
    if here.type == "cuda":
        if here.index >= torch.cuda.device_count():
            raise UserError(f"--nproc-per-node: {torch.cuda.device_count()} GPUs here; start one process a GPU")
        torch.cuda.set_device(here)
    store, number, count = next(dist.rendezvous("env://"))
    # torchrun keeps the store over restarts: the addresses that the dead left there must not be found by the living.
    store = dist.PrefixStore(f"restart{restarts()}", store)
    dist.init_process_group("nccl" if here.type == "cuda" else "gloo", store=store, rank=number, world_size=count)
    try:
        yield rank()
    finally:
        dist.destroy_process_group()


def all_reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """The sum of `value` over the processes, on each."""
    if dist := _joined():
        dist.all_reduce(value)
    return value


def all_reduce_sum_array(value: np.ndarray) -> np.ndarray:
    """The same for an integer array."""
    if not _joined():
        return value
    import torch

    return all_reduce_sum(torch.from_numpy(value).to(device())).cpu().numpy()


def all_gather(value) -> list:
    """What each process has, in order of rank, on all: plain values."""
    dist = _joined()
    if not dist:
        return [value]
    box = [None] * world_size()
    dist.all_gather_object(box, value)
    return box


@contextlib.contextmanager
def raise_on_all_ranks():
    """A mistake inside, on any process, ends all: rank 0 says the first, the others end without a word."""
    found = None
    try:
        yield
    except UserError as error:
        found = error
    messages = all_gather(found and str(found))
    wrong = [(number, message) for number, message in enumerate(messages) if message]
    if wrong and not is_main():
        raise SystemExit(2)
    if found:
        raise found
    if wrong:
        raise UserError(f"rank {wrong[0][0]}: {wrong[0][1]}")
