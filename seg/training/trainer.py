"""Training by iterations, in a run folder."""

import contextlib
import fcntl
import os
from dataclasses import dataclass

import numpy as np
import torch
import yaml
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .. import __version__, distributed
from ..config import Config, as_dict, flat
from ..data.loader import Batch, EpochSampler, TrainingSamples, batches, sample_numbers, worker_crash_error
from ..data.validation import validate_split
from ..data.voc import Split, open_split
from ..errors import UserError, reason, single_line
from ..evaluation.evaluator import evaluate_model
from ..evaluation.metrics import Scores
from ..files import write_text
from ..inference.predictor import Predictor
from ..labels import load as load_labels
from ..models.factory import build_model
from ..models.preprocess import network_input
from ..progress import Progress, print_stderr
from ..threads import GracefulShutdown
from ..visualize import comparison
from ..weights.file import write
from ..weights.loading import Report, read_into
from ..weights.sources import open_source
from ..weights.warm_start import warm_start
from . import checkpoint
from .loggers import EventLog, NoLog
from .losses import Loss
from .step import Step, check_parts

MEASURED = 16
"""Crops on which a warm start measures statistics."""
PICTURES = 4
"""Validation images drawn in TensorBoard."""


@dataclass
class State:
    """What the next iteration depends on, beside weights and optimizer."""

    iteration: int = 0
    """Iterations done."""
    validated: int = 0
    """The last of them that was validated."""
    best: float = -1.0
    """Best mIoU so far."""


@dataclass
class Result:
    """How a run ended."""

    iteration: int
    best: float
    stopped: bool
    """By Ctrl-C or SIGTERM, before the last iteration."""


class Trainer:
    """A run: everything is opened and checked when it is made, before the run folder is touched.

    resume: go on from the newest good checkpoint; of itself where torchrun has restarted the processes.
    """

    def __init__(self, config: Config, *, resume=False, quiet=False):
        self.config, self.quiet = config, quiet or not distributed.is_main()
        self.folder = config.folder
        self.last, self.best = self.folder / checkpoint.LAST, self.folder / "best.safetensors"
        resume = resume or (distributed.restarts() > 0 and checkpoint.exists(self.folder))
        with distributed.raise_on_all_ranks():
            self._open(resume)

    def _open(self, resume: bool) -> None:
        config = self.config
        if not resume and checkpoint.exists(self.folder):
            raise UserError(f"{self.folder}: has a run already; go on with --resume, or name another with name=NAME")
        if config.model.image_classes is not None:
            raise UserError("model.image_classes: an image classifier has no masks to learn from; leave it out to train")
        check_parts(config.train)
        saved = checkpoint.newest(self.folder) if resume else None
        torch.manual_seed(config.train.seed)
        self.labels = load_labels(config.data.labels)
        self.train_split, self.val_split = (
            open_split(config.data.root, name, self.labels, config.data.masks) for name in (config.data.train, config.data.val)
        )
        counts = self._check(self.train_split)
        self._check(self.val_split)
        self.device = distributed.device()
        model = build_model(config.model, len(self.labels), pretrained=saved is None)
        model.to(self.device, memory_format=torch.channels_last)
        order = EpochSampler(len(self.train_split), config.train.seed, counts > 0 if config.data.balanced else None)
        self.samples = TrainingSamples(self.train_split, config.data, order, config.train.seed)
        if saved is None and config.model.weights and not config.model.published:
            report = self._read_weights(model)
            if not self.quiet:
                print_stderr(str(report))
        self.step = Step(model, Loss(config.train, counts).to(self.device), config.train, self.device)
        self.model = self.step.model
        self.average = None
        if config.train.ema_decay:
            # A moving average from the first step on; batch norm's statistics, averages themselves, are those of the last step.
            self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.train.ema_decay))
        self.state = State()
        if saved is not None:
            self._restore(saved)

    def _check(self, split: Split) -> np.ndarray:
        with Progress(f"check {split.name}", len(split), quiet=self.quiet) as progress:
            return validate_split(split, progress)

    def _read_weights(self, model: nn.Module) -> Report:
        config = self.config.model
        if config.weights_use != "warm_start":
            return read_into(model, config.weights, partial=config.weights_use == "partial")
        source = open_source(config.weights)
        images, _, extents = (tensor.to(self.device) for tensor in next(batches(self.samples, MEASURED, 0, 1, 0)))
        return warm_start(model, source, network_input(images, extents, model.mean, model.std))

    def _restore(self, saved: dict) -> None:
        try:
            changed = changed_settings(saved["config"], as_dict(self.config))
            if saved["versions"] != versions():
                changed.append(f"saved by {saved['versions']}, resumed by {versions()}: equal but for rounding")
            checkpoint.check_like(saved["state"], vars(State()), "state")
            self.model.load_state_dict(saved["model"])
            checkpoint.restore_optimizer(self.step.optimizer, saved["optimizer"])
            checkpoint.check_like(saved["scaler"], self.step.scaler.state_dict(), "scaler")
            self.step.scaler.load_state_dict(saved["scaler"])
            if self.average is not None:
                self.average.load_state_dict(saved["average"])
            self.state = State(**saved["state"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(
                f"{self.last}: not a checkpoint of this configuration ({reason(error)}); start anew with name=NAME"
            ) from error
        if distributed.is_main():
            for line in changed:
                print_stderr(f"seg: {single_line(line)}")

    def _save(self) -> None:
        self._answer(self.step.failures())
        if not distributed.is_main():
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.step.optimizer.state_dict(),
            "scaler": self.step.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "state": vars(self.state),
            "config": as_dict(self.config),
            "versions": versions(),
        }
        self.log.flush()
        checkpoint.save(self.folder, state)

    def run(self) -> Result:
        """Train to the last iteration, or until a signal asks to stop. Raises UserError where the run cannot go on."""
        try:
            with contextlib.ExitStack() as stack:
                self.log = NoLog()
                if distributed.is_main():
                    stack.enter_context(run_lock(self.folder))
                    write_text(self.folder / "config.yaml", yaml.safe_dump(as_dict(self.config), sort_keys=False))
                    done, validated = self.state.iteration, self.state.validated
                    self.log = stack.enter_context(contextlib.closing(EventLog(self.folder, done, validated == done)))
                return self._run(stack.enter_context(GracefulShutdown()))
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"out of memory at iteration {self.state.iteration} ({reason(error)}): lower train.batch_size or data.crop_size, or set "
                "train.grad_accumulation=2, train.precision=bfloat16 or train.checkpoint_activations=true"
            ) from error
        except RuntimeError as error:
            # The death of a loader process is told by a signal, in the middle of whatever is done.
            raise worker_crash_error(self.samples, error) from None
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be written ({error.strerror or reason(error)}); what was saved before is whole: "
                "make room, and go on with --resume"
            ) from error

    def _run(self, stop: GracefulShutdown) -> Result:
        config, state = self.config.train, self.state
        start, part = state.iteration, (distributed.rank(), distributed.world_size())
        bar = Progress("train", config.iterations, start=start, each=config.batch_size, quiet=self.quiet)
        with bar as self.progress:
            if self._due() and state.validated < state.iteration:
                self._validate()
            stopping = False
            for batch in batches(
                self.samples, config.batch_size, start, config.iterations, self.config.data.num_workers, *part
            ):
                stopping = self._update(batch, stop.asked) or (stop.asked and distributed.world_size() == 1)
                state.iteration += 1
                if state.iteration % config.log_every == 0 or state.iteration == config.iterations:
                    self._report()
                if self._due():
                    self._save()
                    self._validate()
                if stopping:
                    break
            if stopping:
                self._save()
            if state.iteration == config.iterations:
                self.log.finish(flat(self.config), state.iteration, state.best)
        return Result(state.iteration, state.best, state.iteration < config.iterations)

    def _due(self) -> bool:
        config, done = self.config.train, self.state.iteration
        return done > 0 and (done % config.validate_every == 0 or done == config.iterations)

    def _update(self, batch: Batch, stop: bool) -> bool:
        """One step; whether it is to be the last."""
        stopping = self.step(self.state.iteration, batch, stop)
        if self.average is not None:
            self.average.update_parameters(self.model)
        self._answer(self.step.failures(under_way=1))
        return stopping

    def _answer(self, failures: list[tuple[int, float]]) -> None:
        """Stop at a gradient that was no number, or tell of it."""
        config = self.config.train
        for iteration, loss in failures:
            numbers = sample_numbers(iteration, config.batch_size, distributed.rank(), distributed.world_size())
            said = (
                f"loss {loss} or its gradient is no number at iteration {iteration}, on "
                f"{', '.join(self.samples.files(numbers))}: lower train.learning_rate (now {config.learning_rate}), add "
                f"train.warmup or train.grad_clip_norm, or train.non_finite=skip. The last good checkpoint, if any, is {self.last}"
            )
            if config.non_finite == "stop":
                raise UserError(said)
            if not self.step.sound():
                raise UserError(f"{said}. It cannot be skipped: batch norm's moving statistics are no numbers either")
            print_stderr(f"seg: iteration {iteration} skipped: {said}")

    def _report(self) -> None:
        value = self.step.mean_loss()
        self.log.step(self.state.iteration, value, self.step.rate)
        self.progress(self.state.iteration, f"loss {value:.4f}")

    def _validate(self) -> Scores:
        state, pictures = self.state, {}

        def on_image(index, image, truth, prediction):
            if len(pictures) < PICTURES:
                pictures[index] = comparison(image, prediction, self.labels, truth)

        model = self.model if self.average is None else self.average.module
        scores = evaluate_model(Predictor(model, self.labels, self.config.evaluate), self.val_split, on_image)
        self.log.validation(state.iteration, scores)
        for index, picture in pictures.items():
            self.log.image(state.iteration, self.val_split.ids[index], picture)
        better = scores.miou > state.best
        self.progress.say(f"iteration {state.iteration}: mIoU {scores.miou:.4f}" + (" (best so far)" if better else ""))
        state.validated = state.iteration
        if better:
            state.best = scores.miou
            iou = {name: None if np.isnan(v) else float(v) for name, v in zip(self.labels.names, scores.iou, strict=True)}
            score = {"iteration": state.iteration, "miou": scores.miou, "split": self.val_split.name, "iou": iou}
            if distributed.is_main():
                write(self.best, model, self.config, self.labels, score)
        self._save()
        return scores


def versions() -> str:
    return f"seg {__version__}, torch {torch.__version__}"


NO_EFFECT = ("name", "runs", "data.num_workers", "train.log_every", "train.validate_every", "evaluate.")
"""Settings on which the weights do not depend."""


def changed_settings(then: dict, now: dict, place: str = "") -> list[str]:
    """A line for each setting that differs between two configurations, and what that means for a run that goes on."""
    lines = []
    for key in now:
        name, before, after = f"{place}{key}", then.get(key), now[key]
        if isinstance(before, dict) and isinstance(after, dict) and name != "train.loss":
            lines += changed_settings(before, after, f"{name}.")
        elif before != after:
            if name.startswith(NO_EFFECT):
                meaning = "the weights do not depend on it"
            elif name == "data.root":
                meaning = "taken to be the same data in another place"
            elif name == "train.iterations":
                meaning = "the schedule is stretched to it from here on"
            elif name == "train.grad_accumulation":
                meaning = "equal but for rounding where batch norm is frozen"
            else:
                meaning = "from here on this is another run than the one that was begun"
            lines.append(f"{name} was {before}, is {after}: {meaning}")
    return lines


@contextlib.contextmanager
def run_lock(folder):
    """Be the only process that trains into `folder`. Raises UserError where another does, or it cannot be written."""
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another with runs=FOLDER") from error
    with file:
        try:
            # Of this process alone: one that flock gives would outlive a killed run in its loader processes.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise UserError(
                f"{folder}: process {file.read().strip() or 'of another machine'} trains here; wait for it, or name=NAME"
            ) from None
        except OSError:
            pass  # a file system without locks
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
