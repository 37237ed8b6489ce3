"""Estimates the memory of a training before its first step, and decides whether to recompute batch norm's outputs."""

import torch
from torch import nn

from .. import distributed
from ..config import TrainConfig
from ..errors import UserError
from ..memory import available_memory
from ..models.profile import activations
from ..precision import Precision, best_precision
from ..progress import print_stderr
from .tiled_cross_entropy import TILE

BYTES_PER_PIXEL = 2**15
"""Upper bound of what a network stores of a pixel for the backward pass: aligned Xception-65 in float32, without recomputing,
stores 6,400 bytes at output stride 16 and 15,400 at 8. If this bound fits, nothing is estimated."""
MAX_OVERCOMMIT = 4
"""On a CPU, a training is refused if the estimate is more than this many times the free memory. A GPU reports that it is
full; a process that fills the main memory is killed without a message."""
SHARE = 0.9
"""Share of the free memory that the estimate may fill: allocators lose some to fragmentation."""


def training_memory(
    model: nn.Module,
    config: TrainConfig,
    height: int,
    width: int,
    precision: Precision,
    recompute: bool,
    device: torch.device | str = "cpu",
) -> int:
    """Estimate the largest number of bytes that a training step of one process has in use.

    It adds weights, gradients, momentum, moving average, crops, stored activations, the loss, and three of the largest feature
    maps for the backward pass.

    Args:
        model: in the modes of the training.
        config: batch size, accumulation and moving average.
        height, width: of a crop.
        precision: not auto.
        recompute: whether batch norm's outputs are recomputed.
        device: of the training.
    """
    images = images_at_a_time(config)
    kept = activations(model, height, width, images, precision=precision, recomputing=recompute, device=device).total()
    parameters = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    buffers = 2 if config.optimizer == "adamw" else 1 if config.momentum else 0
    state = 4 * (parameters * (2 if config.ema_decay else 1) + trained * (1 + buffers))
    mixed = precision in ("bfloat16", "float16")
    # The first layers' maps are the largest: 128 channels at stride 2.
    largest = images * 128 * -(-height // 2) * -(-width // 2) * (2 if mixed else 4)
    crops = images * height * width * (4 + 12)
    classes = 4 * TILE["cpu" if torch.device(device).type == "cpu" else "gpu"]
    return state + kept + 3 * largest + crops + 3 * classes


def images_at_a_time(config: TrainConfig) -> int:
    """Number of images in one forward pass of one process."""
    images: int = config.batch_size // distributed.world_size() // config.grad_accumulation
    return images


def choose_precision(config: TrainConfig, device: torch.device) -> Precision:
    """Return the precision of the training: the configured one, or the best of the device."""
    return best_precision(device) if config.precision == "auto" else config.precision


def choose_recompute(model: nn.Module, config: TrainConfig, height: int, width: int, device: torch.device) -> bool:
    """Whether to recompute batch norm's outputs: as configured; `auto` recomputes only if the training would not fit otherwise.

    Recomputing costs Xception-65 860 kernel launches per step on a GPU, and a tenth of the step's time on a CPU. Prints a line
    if the training does not fit in either case.

    Raises:
        UserError: on a CPU, if it needs more than `MAX_OVERCOMMIT` times what is free.

    Args:
        model, config, height, width: as for `training_memory`.
        device: of the training.
    """
    decided = config.compile or config.checkpoint_activations  # these decide what is stored
    chosen = config.recompute is True
    free = available_memory(device)
    if free is None:
        return config.recompute != False  # noqa: E712
    if images_at_a_time(config) * height * width * BYTES_PER_PIXEL <= SHARE * free:
        return chosen
    precision = choose_precision(config, device)
    need = training_memory(model, config, height, width, precision, chosen and not decided, device)
    if need > SHARE * free and config.recompute == "auto" and not chosen and not decided:
        chosen = True
        need = training_memory(model, config, height, width, precision, chosen, device)
    if need > free:
        parts = f"train.grad_accumulation={config.grad_accumulation * 2}, " * (images_at_a_time(config) > 1)
        gibibytes = f"{need / 2**30:.1f} GiB of memory, and {device} has {free / 2**30:.1f} GiB free"
        remedy = f"set {parts}a smaller data.crop_size, or train.checkpoint_activations=true"
        if device.type == "cpu" and need > MAX_OVERCOMMIT * free:
            raise UserError(f"the training needs about {gibibytes}; {remedy}")
        if distributed.is_main():
            print_stderr(f"seg: the training needs about {gibibytes}; if it runs out, {remedy}")
    return chosen
