"""The log of a run: metrics.jsonl and TensorBoard."""

import json
from collections.abc import Iterable
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np

from ..evaluation.metrics import Scores
from ..files import write_text
from ..visualize import confusion_picture
from .run_folder import CONFIG, EVENTS, METRICS

FIRST = ("train.learning_rate", "model.backbone", "train.batch_size", "data.crop_size", "train.iterations")
"""Settings that stand first in TensorBoard's table of runs."""


def read_events(path: Path, start: int, validated: bool) -> list[dict[str, Any]]:
    """The events of a metrics.jsonl that a run resumed at iteration `start` will not repeat; none where the file is missing.

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
    """Whether a value is an event as the logs write it: a step or a validation."""
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
        """Log the settings and the best mIoU, 0 to 1, that they led to."""

    def flush(self) -> None:
        """Write everything to disk; before a checkpoint, so that a killed run has logged what the checkpoint counts as done."""


class EventLog(MemoryLog):
    """Writes `metrics.jsonl`, one event per line, and TensorBoard's `events/` in the run's folder.

    A resumed run first drops the events that it will repeat.
    """

    def __init__(self, folder: Path, start: int, validated: bool):
        from torch.utils.tensorboard import SummaryWriter

        super().__init__(folder, start, validated)
        path = folder / METRICS
        if path.exists():
            write_text(path, "".join(json.dumps(event) + "\n" for event in self.events))
        self.file = path.open("a", encoding="utf-8")
        # TensorBoard drops all events of a step: those of a step whose validation is repeated are written again.
        self.board = SummaryWriter(folder / EVENTS, purge_step=start + 1 if validated else start)
        if (folder / CONFIG).exists():
            text = indent((folder / CONFIG).read_text(encoding="utf-8"), "    ")  # indented, Markdown shows it as it is
            self.board.add_text("config", text, start)
        for event in self.events if not validated else ():
            if event["iteration"] == start:
                self._board_step(start, event["loss"], event["lr"])

    def write(self, iteration: int, **values: float) -> None:
        super().write(iteration, **values)
        self.file.write(json.dumps(self.events[-1]) + "\n")
        self.file.flush()

    def step(self, iteration: int, loss: float, lr: float) -> None:
        super().step(iteration, loss, lr)
        self._board_step(iteration, loss, lr)

    def _board_step(self, iteration: int, loss: float, lr: float) -> None:
        self.board.add_scalar("train/loss", loss, iteration)
        self.board.add_scalar("train/learning_rate", lr, iteration)

    def validation(self, iteration: int, scores: Scores) -> None:
        super().validation(iteration, scores)
        self.board.add_scalar("val/mIoU", scores.miou, iteration)
        self.board.add_scalar("val/pixel_accuracy", scores.pixel_accuracy, iteration)
        for name, iou in zip(scores.labels.names, scores.iou, strict=True):
            if not np.isnan(iou):
                self.board.add_scalar(f"val_IoU/{name}", iou, iteration)
        self.image(iteration, "confusion_matrix", confusion_picture(scores.matrix, scores.labels.names))
        rows = [f"| {name} | {'not in val' if np.isnan(iou) else f'{100 * iou:.2f} %'} |" for name, iou in scores.iou.items()]
        table = ["| class | IoU |", "|---|---|", *rows, f"| mean | {100 * scores.miou:.2f} % |"]
        self.board.add_text("val/IoU", "\n".join(table), iteration)

    def image(self, iteration: int, name: str, picture: np.ndarray) -> None:
        self.board.add_image(f"val/{name}", picture, iteration, dataformats="HWC")

    def finish(self, settings: dict[str, Any], miou: float) -> None:
        from torch.utils.tensorboard.summary import hparams

        # SummaryWriter.add_hparams would make a separate run of them. The metric is the curve of the validations.
        first = {name: settings[name] for name in FIRST if name in settings}
        experiment, *session = hparams(first | settings, {"val/mIoU": miou})
        _put_first(experiment)
        for summary in (experiment, *session):
            self.board._get_file_writer().add_summary(summary)

    def flush(self) -> None:
        self.board.flush()

    def close(self) -> None:
        """Close both logs."""
        self.file.close()
        self.board.close()


def _put_first(experiment: Any) -> None:
    """Let TensorBoard show the settings of `FIRST` before the others, which it sorts by name."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]

    data = experiment.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(data.content)
    for info in content.experiment.hparam_infos:
        # Settings that differ between runs come first; versions that do not know the field keep the order of the file.
        if "differs" in info.DESCRIPTOR.fields_by_name:
            info.differs = info.name in FIRST
    data.content = content.SerializeToString()
