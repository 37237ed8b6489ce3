"""The batch of a training: whether it can be split, and what `train.batch_size=auto` becomes."""

import os
from dataclasses import replace

import torch
from torch import nn

from .. import distributed
from ..config import Config, TrainConfig
from ..data.loader import check_shared_memory
from ..errors import UserError
from ..memory import available_memory
from ..models.factory import build_meta_model
from .batch_norm import freeze_backbone
from .memory import BYTES_PER_PIXEL, SHARE, choose_precision, images_at_a_time, training_memory
from .step import prepare_mode


def least_memory(device: torch.device) -> int | None:
    """Return the bytes that every process can still allocate on its device; None: unknown. All processes must call this.

    Processes on the CPUs of one machine share its memory.
    """
    free = available_memory(device)
    if free is not None and device.type == "cpu":
        free //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    found = distributed.all_gather(free)
    known = [each for each in found if each is not None]
    return min(known) if len(known) == len(found) else None


def choose_batch(
    model: nn.Module, config: TrainConfig, height: int, width: int, device: torch.device, free: int | None
) -> TrainConfig:
    """Choose the batch of `train.batch_size=auto`: `target_batch_size` images, in as few parts as fit into the memory.

    Args:
        model: in the modes of the training; not changed.
        config: the settings of the training.
        height, width: of a crop.
        device: of the training.
        free: bytes that each process can allocate; None: unknown, and the batch is one part.

    Returns:
        The settings with batch_size and grad_accumulation as numbers. Where not even single images fit, each part is one image.

    Raises:
        UserError: the processes cannot share the target evenly.
    """
    if config.batch_size != "auto":
        return config
    target, world = config.target_batch_size, distributed.world_size()
    if target % world:
        raise UserError(
            f"train.target_batch_size={target}: cannot be split evenly over {world} processes; use a multiple of {world}"
        )
    share = target // world
    ways = [replace(config, batch_size=target, grad_accumulation=parts) for parts in range(1, share + 1) if share % parts == 0]
    if free is None:
        return ways[0]
    return next((way for way in ways if _fits(model, way, height, width, device, free)), ways[-1])


def _fits(model: nn.Module, config: TrainConfig, height: int, width: int, device: torch.device, free: int) -> bool:
    """Whether a step fits into the memory. Batch norm's outputs are recomputed if the settings allow it."""
    room = SHARE * free
    if images_at_a_time(config) * height * width * BYTES_PER_PIXEL <= room:
        return True
    recompute = config.recompute is not False and not (config.compile or config.checkpoint_activations)
    return training_memory(model, config, height, width, choose_precision(config, device), recompute, device) <= room


def settle_batch(config: Config, classes: int, device: torch.device, free: int | None) -> str | None:
    """Resolve `train.batch_size=auto`, and check that the batch can be split and fits into shared memory.

    Args:
        config: every setting; changed in place.
        classes: their number.
        device: of the training.
        free: bytes that each process can take; None: unknown.

    Returns:
        A line that says what auto became; None if the settings are numbers.

    Raises:
        UserError: the batch cannot be split evenly, or the shared memory is too small for it.
    """
    line = None
    if config.train.batch_size == "auto":
        model = build_meta_model(config.model, classes)
        prepare_mode(model, config.train)
        if config.train.freeze_backbone:
            freeze_backbone(model)
        config.train = choose_batch(model, config.train, *config.data.crop, device, free)
        line = describe_batch(config.train, free)
    check_batch_size(config.train)
    check_shared_memory(config.data, config.train.batch_size // distributed.world_size())
    return line


def describe_batch(config: TrainConfig, free: int | None) -> str:
    """What `train.batch_size=auto` became, in one line.

    Args:
        config: with numbers.
        free: bytes that each process can allocate; None: unknown.
    """
    images, parts = images_at_a_time(config), config.grad_accumulation
    split = f"in {parts} parts: {images} image{'s' * (images != 1)} at a time" if parts > 1 else "in one part"
    each = " in each process" * (distributed.world_size() > 1)
    memory = "the free memory is unknown" if free is None else f"{free / 2**30:.1f} GiB of memory are free"
    return f"train.batch_size=auto: batches of {config.batch_size} images, {split}{each}; {memory}"


def check_batch_size(config: TrainConfig) -> None:
    """Raises UserError if the batch cannot be split evenly over processes and accumulated parts."""
    parts = distributed.world_size() * config.grad_accumulation
    if config.batch_size % parts:
        raise UserError(
            f"train.batch_size={config.batch_size}: cannot be split evenly over {distributed.world_size()} processes with "
            f"train.grad_accumulation={config.grad_accumulation}; use a multiple of {parts}"
        )
