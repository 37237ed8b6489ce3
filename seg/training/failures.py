"""Error messages of a training that cannot continue."""

from pathlib import Path

import torch

from ..config import TrainConfig
from ..errors import UserError, reason


def explain(error: Exception, folder: Path, iteration: int) -> Exception:
    """Return a UserError with a remedy for running out of memory or disk space; any other error is returned unchanged.

    Args:
        error: raised during training.
        folder: the run's folder.
        iteration: iterations done.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return UserError(
            f"out of memory at iteration {iteration} ({reason(error)}): lower train.batch_size or data.crop_size, or set "
            "train.grad_accumulation=2, train.precision=bfloat16 or train.checkpoint_activations=true"
        )
    if isinstance(error, OSError):
        return UserError(
            f"{folder}: cannot be written ({error.strerror or reason(error)}); the files saved before are intact; free some "
            "space, then continue with --resume"
        )
    return error


def non_finite_message(iteration: int, loss: float, files: list[str], config: TrainConfig, last: Path) -> str:
    """Return the message about a step whose gradient is NaN or infinite.

    Args:
        iteration: the step, from 0.
        loss: its loss.
        files: the images of its batch.
        config: the settings of the training.
        last: path of the last checkpoint.
    """
    return (
        f"loss {loss} or its gradient is not finite at iteration {iteration}, on {', '.join(files)}: lower train.learning_rate "
        f"(now {config.learning_rate}), set train.warmup or train.grad_clip_norm, or train.non_finite=skip. The last "
        f"checkpoint, if any, is intact: {last}"
    )
