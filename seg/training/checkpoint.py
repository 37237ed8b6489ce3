"""Checkpoints: the training state in a run folder, `last.ckpt` and the one before it, `previous.ckpt`.

A file holds what torch.save writes, followed by a marker and the SHA-256 of everything before it.
"""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError, reason
from ..files import atomic_write
from ..progress import print_stderr
from .run_folder import LAST, PREVIOUS

NEW = "new.ckpt"
"""The checkpoint while it is written and verified. It remains only if the process is killed before it is renamed."""
MARK = b"seg-sha256:"
TRAILER = len(MARK) + 32


class DamagedError(Exception):
    """The content of a file differs from what was written."""


def save(folder: str | Path, state: dict[str, Any]) -> None:
    """Write the folder's last checkpoint, atomically; the one before becomes `previous.ckpt`.

    The new file is read back and its checksum compared before it replaces the last one.

    Args:
        folder: the run's folder.
        state: tensors and plain values, nested.

    Raises:
        UserError: if it cannot be written, or read back.
    """
    folder = Path(folder)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    digest = hashlib.sha256(content).digest()
    new = folder / NEW
    with atomic_write(new) as temporary, open(temporary, "wb") as file:
        file.write(content)
        file.write(MARK + digest)
    try:
        verified(new)
    except DamagedError as error:
        new.unlink()
        raise UserError(f"{new}: the file differs from what was written ({error}); is the disk failing?") from error
    if (folder / LAST).exists():
        os.replace(folder / LAST, folder / PREVIOUS)
    os.replace(new, folder / LAST)


def exists(folder: str | Path) -> bool:
    """Whether the folder holds a checkpoint."""
    return any((Path(folder) / name).exists() for name in (NEW, LAST, PREVIOUS))


def newest(folder: str | Path) -> dict[str, Any]:
    """Read the folder's newest intact checkpoint, onto the CPU. A damaged one is reported, and the one before it is read.

    Code in the file is never run.

    Raises:
        UserError: if there is no checkpoint, or none is intact.
    """
    folder, problems = Path(folder), []
    for name in (NEW, LAST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = read(path)
        except UserError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            print_stderr(f"seg: warning: {problem}; resuming from {path}, iteration {state['state']['iteration']}")
        return state
    if problems:
        raise UserError(problems[0])
    raise UserError(f"{folder / LAST}: no checkpoint to resume from; start without --resume")


def read(path: str | Path) -> dict[str, Any]:
    """Read one checkpoint file, onto the CPU.

    Raises:
        UserError: for a damaged file, one that `save` did not write, or one with code in it.
    """
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(verified(path)), map_location="cpu", weights_only=True)
        check_like(state, {"state": {"iteration": 0}}, "the checkpoint")
        if state["state"]["iteration"] < 0:
            raise ValueError(f"iteration {state['state']['iteration']}")
    except DamagedError as error:
        raise UserError(f"{path}: not an intact checkpoint of seg ({error})") from error
    except Exception as error:  # torch's reader raises errors of many classes for other files
        raise UserError(f"{path}: not a checkpoint that is safe to read ({reason(error)})") from error
    return state


def check_like(value: object, template: object, place: str) -> None:
    """Check that a value from a file has the structure of a template: the keys of mappings, the sizes of lists and tensors, the
    types of all other values.

    Raises:
        ValueError: they differ; the message names the place, which begins with `place`.
    """
    if isinstance(template, dict) and isinstance(value, dict) and template.keys() <= value.keys():
        for key, part in template.items():
            check_like(value[key], part, f"{place}.{key}")
    elif isinstance(template, list) and isinstance(value, list) and len(template) == len(value):
        for index, part in enumerate(template):
            check_like(value[index], part, f"{place}[{index}]")
    elif isinstance(template, torch.Tensor):
        if not isinstance(value, torch.Tensor) or value.shape != template.shape:
            raise ValueError(f"{place} is not a tensor of shape {list(template.shape)}")
    elif isinstance(template, dict | list) or not isinstance(
        value, (int, float) if isinstance(template, float) else type(template)
    ):
        raise ValueError(f"{place} is {value!r}")


ALWAYS = ("params", "lr", "momentum", "dampening", "betas", "eps", "weight_decay", "multiplier")
"""Settings of a parameter group that every version of torch saves."""


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load an `optimizer.state_dict()`, and check it: torch accepts any state, and fails only at the first step.

    Raises:
        ValueError: the state is that of other parameters. torch may raise other errors.
    """
    for made, read in zip(optimizer.state_dict()["param_groups"], saved["param_groups"], strict=True):
        check_like(read, {key: made[key] for key in ALWAYS if key in made}, "optimizer")
    buffers = {parameter: dict(values) for parameter, values in optimizer.state.items()}
    optimizer.load_state_dict(saved)
    for parameter, values in buffers.items():
        check_like(optimizer.state[parameter], values, "optimizer")


def verified(path: str | Path) -> memoryview:
    """The content of a file that `save` wrote, checksum verified.

    Raises:
        DamagedError: if the checksum differs, or the file is not one of `save`.
    """
    try:
        data = memoryview(Path(path).read_bytes())
    except OSError as error:
        raise DamagedError(error.strerror or reason(error)) from error
    if len(data) < TRAILER or data[-TRAILER:-32] != MARK:
        raise DamagedError("truncated, or another kind of file")
    if hashlib.sha256(data[:-TRAILER]).digest() != data[-32:]:
        raise DamagedError("its checksum differs")
    return data[:-TRAILER]
