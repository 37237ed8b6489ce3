"""What a run says of itself: metrics.jsonl, TensorBoard, and the terminal."""

import json
from pathlib import Path

import numpy as np

from ..evaluation.metrics import Scores
from ..files import write_text
from ..visualize import confusion_picture


def happened(lines, start: int, validated: bool) -> list[dict]:
    """The events of metrics.jsonl that a run going on at iteration `start` will not repeat; a line cut short by a kill is none.

    validated: whether that iteration's validation is over.
    """
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


def is_event(value) -> bool:
    """Whether it is what `EventLog` writes of a step or a validation."""
    if not isinstance(value, dict) or not value.keys() >= {"iteration", *(("loss", "lr") if "loss" in value else ("miou",))}:
        return False
    return isinstance(value["iteration"], int) and all(isinstance(number, int | float) for number in value.values())


class NoLog:
    """Of the processes beside the first."""

    def step(self, *_) -> None: ...

    def finish(self, *_) -> None: ...

    validation = image = flush = step


class EventLog:
    """`metrics.jsonl` (a line an event) and TensorBoard's `events/` in a run folder.

    Resuming drops the events that will happen again.
    """

    def __init__(self, folder: Path, start: int, validated: bool):
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "metrics.jsonl"
        events = []
        if self.path.exists():
            events = happened(self.path.read_text(encoding="utf-8", errors="replace").splitlines(), start, validated)
            write_text(self.path, "".join(json.dumps(event) + "\n" for event in events))
        self.file = self.path.open("a", encoding="utf-8")
        # TensorBoard drops by step alone: what is left of a step whose validation comes again is told again.
        self.board = SummaryWriter(folder / "events", purge_step=start + 1 if validated else start)
        for event in events if not validated else ():
            if event["iteration"] == start:
                self._board_step(start, event["loss"], event["lr"])

    def write(self, iteration: int, **values) -> None:
        """One event: finite numbers by name."""
        self.file.write(json.dumps({"iteration": iteration, **values}) + "\n")
        self.file.flush()

    def step(self, iteration: int, loss: float, lr: float) -> None:
        self.write(iteration, loss=loss, lr=lr)
        self._board_step(iteration, loss, lr)

    def _board_step(self, iteration: int, loss: float, lr: float) -> None:
        self.board.add_scalar("train/loss", loss, iteration)
        self.board.add_scalar("train/lr", lr, iteration)

    def validation(self, iteration: int, scores: Scores) -> None:
        self.write(iteration, miou=scores.miou, pixel_accuracy=scores.pixel_accuracy)
        self.board.add_scalar("val/mIoU", scores.miou, iteration)
        self.board.add_scalar("val/pixel_accuracy", scores.pixel_accuracy, iteration)
        for name, iou in zip(scores.labels.names, scores.iou, strict=True):
            if not np.isnan(iou):
                self.board.add_scalar(f"val_IoU/{name}", iou, iteration)
        self.image(iteration, "confusion_matrix", confusion_picture(scores.matrix, scores.labels.names))

    def finish(self, settings: dict, iteration: int, miou: float) -> None:
        """The settings, and the best mIoU that they led to, for TensorBoard's table of runs."""
        from torch.utils.tensorboard.summary import hparams

        # SummaryWriter.add_hparams would make a run of its own of them.
        for summary in hparams(settings, {"hparam/mIoU": miou}):
            self.board.file_writer.add_summary(summary)
        self.board.add_scalar("hparam/mIoU", miou, iteration)

    def image(self, iteration: int, name: str, picture: np.ndarray) -> None:
        """A uint8 RGB picture [H, W, 3]."""
        self.board.add_image(f"val/{name}", picture, iteration, dataformats="HWC")

    def flush(self) -> None:
        """Before a checkpoint: what it counts as done is then told, should the process be killed."""
        self.board.flush()

    def close(self) -> None:
        self.file.close()
        self.board.close()
