"""`seg train CONFIG --dry-run`: run one step and one validation image, and estimate memory and time."""

import time
from dataclasses import replace

from .. import distributed
from ..data.loader import batches
from ..memory import available_memory
from ..progress import long_duration
from .memory import training_memory
from .trainer import Trainer

TOO_LITTLE = ": too little; lower train.batch_size or data.crop_size, or raise train.grad_accumulation"
"""Added to the memory if the training needs more than is free."""


def dry_run(trainer: Trainer) -> dict[str, str]:
    """Train two iterations, of which the first warms up, and predict one image. Nothing is written.

    Args:
        trainer: the training; its network is changed.

    Returns:
        Memory, time and files of the training, in words, by name.

    Raises:
        UserError: an image or mask cannot be read, or the step fails.
    """
    config, step, validator = trainer.config, trainer.step, trainer.validator
    train, crop = config.train, config.data.crop
    seconds, losses = [], []
    group = distributed.rank(), distributed.world_size()
    for number, batch in enumerate(batches(trainer.samples, train.batch_size, 0, 2, 0, *group)):
        began = time.perf_counter()
        step(number, batch)
        losses.append(step.mean_loss())  # waits for the device
        seconds.append(time.perf_counter() - began)
    split = validator.split
    validator.split = replace(split, ids=split.ids[:1], images=split.images[:1], masks=split.masks[:1])
    began = time.perf_counter()
    validator(trainer.model, step.precision)
    image = time.perf_counter() - began
    validations = -(-train.iterations // train.validate_every)
    steps, scoring = train.iterations * seconds[-1], validations * image * len(split) / distributed.world_size()
    need = training_memory(trainer.model, train, *crop, step.precision, train.recompute is True, trainer.device)
    free = available_memory(trainer.device)
    room = f"; {free / 2**30:.1f} GiB are free" + TOO_LITTLE * (need > free) if free else ""
    return {
        "step": f"{seconds[-1]:.3g} s for {train.batch_size} crops of {crop[0]}x{crop[1]}, loss {losses[0]:.4f}",
        "validation": f"{image:.3g} s an image, {validations} times {len(split)} images",
        "time": f"about {long_duration(steps + scoring)}, of which {long_duration(scoring)} are validations",
        "memory": f"about {need / 2**30:.1f} GiB" + room,
        "weights": str(trainer.training_run.best),
        "checkpoints": f"{trainer.training_run.last}, every {train.validate_every} iterations",
    }
