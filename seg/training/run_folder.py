"""A run and its folder: the names of its files, the lock on it, and the settings that changed since its checkpoint."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from torch import nn

from .. import __version__
from ..config import RUN_CONFIG, Config, TrainConfig
from ..errors import UserError
from ..labels import LabelSet
from ..locks import try_lock

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
"""The last two checkpoints, to resume from."""
BEST = "best.safetensors"
"""The weights with the best mIoU."""
METRICS = "metrics.jsonl"
"""Loss, learning rate and scores, one event per line."""
FINDINGS = "data.npz"
"""Result of reading the files of the data set; see `seg.data.findings`."""
EVENTS = "events"
"""TensorBoard's folder."""
SERVICES = "loggers.json"
"""Ids of the run at the services in `train.loggers`."""
LOCK = ".lock"
"""Process id of the training that uses the folder."""


@dataclass
class State:
    """Counters of a training, beside weights and optimizer. A checkpoint saves them."""

    iteration: int = 0
    """Iterations done."""
    validated: int = 0
    """The last iteration that was validated."""
    best: float = -1.0
    """Best mIoU so far, 0 to 1; -1 before the first validation."""
    waited: int = 0
    """Validations since the best one."""


class Run:
    """A training run: callbacks receive it while it runs, and `seg.train` returns it.

    Args:
        config: every setting.
        labels: names and colors of the classes.
        model: the network that trains.
        state: the counters, which the trainer updates.
    """

    def __init__(self, config: Config, labels: LabelSet, model: nn.Module, state: State):
        self.config, self.labels, self.model, self.state = config, labels, model, state
        self.metrics: list[dict[str, Any]] = []
        """The lines of metrics.jsonl: {"iteration", "loss", "lr"} and {"iteration", "miou", "pixel_accuracy"}."""
        self.stopped = False
        """Whether Ctrl-C, SIGTERM or `stop` ended the training before its last iteration. Early stopping does not count."""
        self.stop_requested = False

    @property
    def folder(self) -> Path:
        """The run's folder, runs/NAME."""
        return self.config.folder

    @property
    def best(self) -> Path:
        """The weights with the best mIoU, for `seg.load`. They exist from the first validation on."""
        return self.folder / BEST

    @property
    def last(self) -> Path:
        """The last checkpoint, to resume from."""
        return self.folder / LAST

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return self.state.iteration

    @property
    def miou(self) -> float | None:
        """The best mIoU so far, 0 to 1; None before the first validation."""
        return self.state.best if self.state.best >= 0 else None

    def stop(self) -> None:
        """End the training after the current iteration, as Ctrl-C does: a checkpoint is written, and it can be resumed.

        Any process may call it. All processes stop together, up to two iterations later.
        """
        self.stop_requested = True

    def __repr__(self) -> str:
        score = "not validated" if self.miou is None else f"mIoU {100 * self.miou:.2f} %"
        return f"<Run {self.folder}: iteration {self.iteration} of {self.config.train.iterations}, {score}>"


def weights_of(folder: Path, iteration: int) -> Path:
    """The file of the weights of an iteration, if `train.keep_best` keeps them."""
    return folder / f"best_iteration_{iteration}.safetensors"


def kept_weights(folder: Path) -> list[Path]:
    """The files of weights that `train.keep_best` has kept."""
    return sorted(folder.glob(weights_of(Path(), 0).name.replace("0", "*")))


def versions() -> str:
    """Return the versions of the libraries that a training's exact bits depend on."""
    return f"seg {__version__}, torch {torch.__version__}"


NO_EFFECT = (
    *("name", "runs", "device", "data.num_workers", "evaluate."),
    *("train.log_every", "train.loggers", "train.validate_every", "train.patience", "train.keep_best"),
    "train.target_batch_size",
)
"""Settings that do not change the weights."""


AUTOMATIC = ("precision", "recompute", "batch_size")
"""Settings of the training that may say auto."""


def resume_command(folder: Path) -> str:
    """The command that continues the run in a folder with its own settings."""
    return f"seg train {quote(str(folder / RUN_CONFIG))} --resume"


def keep_resolved(config: TrainConfig, saved: dict[str, Any] | None) -> None:
    """Keep the values that `auto` had when the run began, also if it is resumed on another machine.

    Args:
        config: of the resumed run; changed in place.
        saved: the checkpoint; None: the run begins.
    """
    before = saved["config"]["train"] if saved else {}
    if config.batch_size == "auto" and before:
        config.grad_accumulation = before["grad_accumulation"]
    for name in AUTOMATIC:
        if getattr(config, name) == "auto" and name in before:
            setattr(config, name, before[name])


def differences(before: dict[str, Any], now: dict[str, Any], section: str = "") -> list[tuple[str, Any, Any]]:
    """Name, old and new value of each setting that differs between two configurations.

    Args:
        before, now: as `seg.config.as_dict` returns them.
        section: prefix of the settings' names, such as `train.`.
    """
    found = []
    for key in now:
        name, old, new = f"{section}{key}", before.get(key), now[key]
        if isinstance(old, dict) and isinstance(new, dict) and name != "train.loss":
            found += differences(old, new, f"{name}.")
        elif old != new:
            found.append((name, old, new))
    return found


def changed_settings(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """One line for each of the `differences` between the checkpoint and the resumed run, with its effect."""
    return [f"{name} was {old}, is {new}: {_effect(name)}" for name, old, new in differences(before, now)]


def _effect(name: str) -> str:
    if name.startswith(NO_EFFECT):
        return "the weights do not depend on it"
    if name == "data.root":
        return "it must be the same data in another place"
    if name == "train.iterations":
        return "from here on, the schedule is scaled to the new number"
    if name == "train.grad_accumulation":
        return "equal up to rounding where batch norm is frozen"
    return "from here on, the result differs from that of the original run"


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder: only one training writes into it. A missing folder is created.

    Raises:
        UserError: if another process holds the lock, or the folder cannot be written.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder with runs=FOLDER") from error
    with file:
        # The lock belongs to the process: loader workers of a killed run would keep a lock of the open file.
        if not try_lock(file, "process"):
            file.seek(0)
            holder = file.read().strip()
            raise UserError(
                f"{folder}: process {holder or 'of another machine'} trains here; wait for it, or choose another name=NAME"
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
