"""The training state: `last.ckpt`, and the one before it, `previous.ckpt`, in a run folder.

A file is what torch.save writes, then a mark and the SHA-256 of all before it.
"""

import hashlib
import io
import os
from pathlib import Path

import torch

from ..errors import UserError, reason
from ..files import atomic_write
from ..progress import print_stderr

NEW, LAST, PREVIOUS = "new.ckpt", "last.ckpt", "previous.ckpt"
"""From the newest on. The first is there only where a process was killed between proving it and renaming it."""
MARK = b"seg-sha256:"
TRAILER = len(MARK) + 32


class DamagedError(Exception):
    """A file that is not what was written."""


def save(folder, state: dict) -> None:
    """Write tensors and plain values as the folder's last checkpoint, whole or not at all; the one before becomes `previous`.

    The new file is read back and its checksum compared before the old one moves. Raises UserError where it cannot be written.
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
        raise UserError(f"{new}: what was written is not what was to be ({error}); is the disk failing?") from error
    if (folder / LAST).exists():
        os.replace(folder / LAST, folder / PREVIOUS)
    os.replace(new, folder / LAST)


def exists(folder) -> bool:
    return any((Path(folder) / name).exists() for name in (NEW, LAST, PREVIOUS))


def newest(folder) -> dict:
    """The newest good checkpoint of the folder, on the CPU. A damaged one is said, and the one before it taken.

    Never runs code from the file. Raises UserError where there is none, or none that is good.
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
            print_stderr(f"seg: warning: {problem}; going on from {path}, iteration {state['state']['iteration']}")
        return state
    if problems:
        raise UserError(problems[0])
    raise UserError(f"{folder / LAST}: no checkpoint to resume from; start without --resume")


def read(path) -> dict:
    """What `save` wrote, on the CPU. Raises UserError for a file that is damaged, foreign or has code in it."""
    try:
        state = torch.load(io.BytesIO(verified(path)), map_location="cpu", weights_only=True)
        check_like(state, {"state": {"iteration": 0}}, "it")
        if state["state"]["iteration"] < 0:
            raise ValueError(f"iteration {state['state']['iteration']}")
    except DamagedError as error:
        raise UserError(f"{path}: not a whole checkpoint of this project ({error})") from error
    except Exception as error:  # a foreign one, which torch's reader takes in its own way
        raise UserError(f"{path}: not a checkpoint that is safe to read ({reason(error)})") from error
    return state


def check_like(read, made, place: str) -> None:
    """Raises ValueError, with the place, where what was read is not of the kind of what was made: a mapping has its keys, a
    list or tensor its size, any other value its type."""
    if isinstance(made, dict) and isinstance(read, dict) and made.keys() <= read.keys():
        for key, value in made.items():
            check_like(read[key], value, f"{place}.{key}")
    elif isinstance(made, list) and isinstance(read, list) and len(made) == len(read):
        for index, value in enumerate(made):
            check_like(read[index], value, f"{place}[{index}]")
    elif isinstance(made, torch.Tensor):
        if not isinstance(read, torch.Tensor) or read.shape != made.shape:
            raise ValueError(f"{place} is no tensor of shape {list(made.shape)}")
    elif isinstance(made, dict | list) or not isinstance(read, (int, float) if isinstance(made, float) else type(made)):
        raise ValueError(f"{place} is {read!r}")


ALWAYS = ("params", "lr", "momentum", "dampening", "weight_decay", "multiplier")
"""Settings of a group of parameters that every version of torch saves."""


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """Load what its `state_dict` gave. torch takes whatever it is given, and fails at the first step: here a state of other
    parameters ends in a ValueError, or in what torch raises."""
    for made, read in zip(optimizer.state_dict()["param_groups"], saved["param_groups"], strict=True):
        check_like(read, {key: made[key] for key in ALWAYS}, "optimizer")
    optimizer.load_state_dict(saved)
    for parameter, values in optimizer.state.items():
        check_like(values, {"momentum_buffer": parameter.detach()}, "optimizer")


def verified(path) -> memoryview:
    """The content of a file of `save`, whose checksum holds; else Damaged."""
    try:
        data = memoryview(Path(path).read_bytes())
    except OSError as error:
        raise DamagedError(error.strerror) from error
    if len(data) < TRAILER or data[-TRAILER:-32] != MARK:
        raise DamagedError("cut short, or not one")
    if hashlib.sha256(data[:-TRAILER]).digest() != data[-32:]:
        raise DamagedError("its checksum differs")
    return data[:-TRAILER]
