"""The log of a run: metrics.jsonl, and the loggers in train.loggers."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import reason
from ..evaluation.metrics import Scores
from ..files import write_text
from ..progress import print_stderr
from ..visualize import confusion_picture
from .loggers import Logger, TensorBoard, open_services
from .run_folder import METRICS


def read_events(path: Path, start: int, validated: bool) -> list[dict[str, Any]]:
    """Read the events of a metrics.jsonl that a run resumed at iteration `start` will not repeat; none if the file is missing.

    Args:
        path: the metrics.jsonl.
        start: iterations done by the checkpoint.
        validated: whether that iteration has been validated.
    """
    if not path.exists():
        return []
    return remaining_events(path.read_text(encoding="utf-8", errors="replace").splitlines(), start, validated)


def remaining_events(lines: Iterable[str], start: int, validated: bool) -> list[dict[str, Any]]:
    """`read_events` of the lines of a file. Other lines, such as one cut short by a kill, are dropped."""
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not is_event(event):
            continue
        if event["iteration"] < start or (event["iteration"] == start and (validated or "loss" in event)):
            events.append(event)
    return events


def is_event(value: object) -> bool:
    """Whether a value is an event of the log: a step or a validation."""
    if not isinstance(value, dict) or not value.keys() >= {"iteration", *(("loss", "lr") if "loss" in value else ("miou",))}:
        return False
    return isinstance(value["iteration"], int) and all(isinstance(number, int | float) for number in value.values())


class MemoryLog:
    """Keeps the events of a run in memory: the log of the processes that write no files.

    Args:
        folder: the run's folder.
        start: iterations done when the run begins or resumes.
        validated: whether that iteration has been validated.
    """

    def __init__(self, folder: Path, start: int, validated: bool):
        self.events = read_events(folder / METRICS, start, validated)

    def write(self, iteration: int, **values: float) -> None:
        """Add an event: finite numbers by name."""
        self.events.append({"iteration": iteration, **values})

    def step(self, iteration: int, loss: float, lr: float) -> None:
        """Log the loss and learning rate of an iteration."""
        self.write(iteration, loss=loss, lr=lr)

    def validation(self, iteration: int, scores: Scores) -> None:
        """Log the scores of a validation."""
        self.write(iteration, miou=scores.miou, pixel_accuracy=scores.pixel_accuracy)

    def image(self, iteration: int, name: str, picture: np.ndarray) -> None:
        """Log a picture, uint8 [H, W, 3], RGB."""

    def finish(self, settings: dict[str, Any], miou: float) -> None:
        """Log the settings and the best mIoU, 0 to 1."""

    def flush(self) -> None:
        """Write everything to disk. Called before a checkpoint, so that the log is never behind the checkpoint."""


class EventLog(MemoryLog):
    """Writes `metrics.jsonl`, one event per line, and sends all events to the loggers.

    A resumed run first drops the events that it will repeat. A logger that fails is not used again, and one line says so.

    Args:
        folder, start, validated: as for `MemoryLog`.
        loggers: names of `train.loggers`.
        settings: all, by their dotted names.

    Raises:
        UserError: a service cannot begin.
    """

    def __init__(
        self,
        folder: Path,
        start: int,
        validated: bool,
        loggers: Sequence[str] = ("tensorboard",),
        settings: dict[str, Any] | None = None,
    ):
        super().__init__(folder, start, validated)
        services = open_services(loggers, folder, start, settings or {})
        path = folder / METRICS
        if path.exists():
            write_text(path, "".join(json.dumps(event) + "\n" for event in self.events))
        self.file = path.open("a", encoding="utf-8")
        self.loggers: list[Logger] = []
        if "tensorboard" in loggers:
            self.loggers.append(TensorBoard(folder, start + 1 if validated else start))
        for event in self.events if not validated else ():
            if event["iteration"] == start:
                self._tell("scalars", start, step_scalars(event["loss"], event["lr"]))
        self.loggers += services

    def _tell(self, method: str, *arguments: Any) -> None:
        for logger in [*self.loggers]:
            try:
                getattr(logger, method)(*arguments)
            except Exception as error:
                if isinstance(logger, TensorBoard):
                    raise  # a full disk, say
                self.loggers.remove(logger)
                print_stderr(f"seg: {logger.name} has failed ({reason(error)}); the training continues without this logger")

    def write(self, iteration: int, **values: float) -> None:
        super().write(iteration, **values)
        self.file.write(json.dumps(self.events[-1]) + "\n")
        self.file.flush()

    def step(self, iteration: int, loss: float, lr: float) -> None:
        super().step(iteration, loss, lr)
        self._tell("scalars", iteration, step_scalars(loss, lr))

    def validation(self, iteration: int, scores: Scores) -> None:
        super().validation(iteration, scores)
        known = {name: float(iou) for name, iou in zip(scores.labels.names, scores.iou, strict=True) if not np.isnan(iou)}
        values = {"val/mIoU": scores.miou, "val/pixel_accuracy": scores.pixel_accuracy}
        self._tell("scalars", iteration, values | {f"val_IoU/{name}": iou for name, iou in known.items()})
        self.image(iteration, "confusion_matrix", confusion_picture(scores.matrix, scores.labels.names))
        rows = [f"| {name} | {'not in val' if np.isnan(iou) else f'{100 * iou:.2f} %'} |" for name, iou in scores.iou.items()]
        table = ["| class | IoU |", "|---|---|", *rows, f"| mean | {100 * scores.miou:.2f} % |"]
        self._tell("text", iteration, "val/IoU", "\n".join(table))

    def image(self, iteration: int, name: str, picture: np.ndarray) -> None:
        self._tell("image", iteration, f"val/{name}", picture)

    def finish(self, settings: dict[str, Any], miou: float) -> None:
        self._tell("finish", settings, miou)

    def flush(self) -> None:
        self._tell("flush")

    def close(self) -> None:
        """Close all logs."""
        self.file.close()
        self._tell("close")


def step_scalars(loss: float, lr: float) -> dict[str, float]:
    """The numbers of an iteration that the loggers show, by name."""
    return {"train/loss": loss, "train/learning_rate": lr}
