"""What a run says of itself: metrics.jsonl, TensorBoard, and the terminal."""

import json
from pathlib import Path

import numpy as np

from ..evaluate.confusion import Scores
from ..files import write_text


def before(line: str, start: int) -> bool:
    """Whether a line of metrics.jsonl tells of an iteration up to `start`; a line cut short by a kill tells of none."""
    try:
        return json.loads(line)["iteration"] <= start
    except (ValueError, KeyError, TypeError):
        return False


class NoLog:
    """Of the processes beside the first."""

    def step(self, *_) -> None: ...

    validation = image = step


class EventLog:
    """`metrics.jsonl` (a line an event) and TensorBoard's `events/` in a run folder.

    Resuming at iteration n drops the events from n on: they will happen again.
    """

    def __init__(self, folder: Path, start: int):
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "metrics.jsonl"
        if self.path.exists():
            kept = [line for line in self.path.read_text().splitlines() if before(line, start)]
            write_text(self.path, "".join(line + "\n" for line in kept))
        self.file = self.path.open("a", encoding="utf-8")
        self.board = SummaryWriter(folder / "events", purge_step=start + 1)

    def write(self, iteration: int, **values) -> None:
        """One event: finite numbers by name."""
        self.file.write(json.dumps({"iteration": iteration, **values}) + "\n")
        self.file.flush()

    def step(self, iteration: int, loss: float, lr: float) -> None:
        self.write(iteration, loss=loss, lr=lr)
        self.board.add_scalar("train/loss", loss, iteration)
        self.board.add_scalar("train/learning_rate", lr, iteration)

    def validation(self, iteration: int, scores: Scores) -> None:
        self.write(iteration, miou=scores.miou, pixel_accuracy=scores.pixel_accuracy)
        self.board.add_scalar("val/mIoU", scores.miou, iteration)
        self.board.add_scalar("val/pixel_accuracy", scores.pixel_accuracy, iteration)
        for name, iou in zip(scores.labels.names, scores.iou, strict=True):
            if not np.isnan(iou):
                self.board.add_scalar(f"val_IoU/{name}", iou, iteration)

    def image(self, iteration: int, name: str, picture: np.ndarray) -> None:
        """A uint8 RGB picture [H, W, 3]."""
        self.board.add_image(f"val/{name}", picture, iteration, dataformats="HWC")

    def close(self) -> None:
        self.file.close()
        self.board.close()
