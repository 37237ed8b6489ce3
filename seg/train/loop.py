"""Training by iterations, in a run folder."""

import signal
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..classes import load as load_labels
from ..config import Config, TrainConfig, as_dict
from ..data.check import require_sound
from ..data.loader import Order, TrainingSamples, batches, normalise
from ..data.voc import Split, open_split
from ..errors import UserError, reason
from ..evaluate.confusion import Scores
from ..evaluate.evaluator import evaluate_model
from ..files import write_text
from ..models.factory import build_model
from ..predict.draw import comparison
from ..progress import Progress, tell
from ..weights.load import Report, read_into
from ..weights.own import write
from ..weights.source import open_source
from ..weights.warm import warm_start
from . import checkpoint
from .log import EventLog
from .loss import Loss
from .optimiser import learning_rate, make_optimiser, set_learning_rate

DROPOUT = 4
"""Stream of random numbers, beside the loader's."""
MEASURED = 8
"""Crops on which a warm start measures statistics."""
PICTURES = 4
"""Validation images drawn in TensorBoard."""


def prepare_mode(model: nn.Module, config: TrainConfig) -> None:
    """Training mode, with the batch norms that the configuration freezes in evaluation mode, and its momentum in all."""
    model.train()
    frozen = {"none": [], "backbone": model.backbone.modules(), "all": model.modules()}[config.frozen_batch_norm]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = config.batch_norm_momentum
    for module in frozen:
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def seed_iteration(seed: int, iteration: int) -> None:
    """Dropout is a function of (seed, iteration), so that a resumed run draws what an uninterrupted one does."""
    torch.manual_seed(int(np.random.SeedSequence([seed, DROPOUT, iteration]).generate_state(1)[0]))


class Stop:
    """Ctrl-C and SIGTERM ask the loop to end after the iteration under way; a second Ctrl-C ends it at once."""

    def __enter__(self):
        self.asked = False
        self.before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number, frame):
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)


@dataclass
class State:
    """What the next iteration depends on, beside weights and optimiser."""

    iteration: int = 0
    """Iterations done."""
    validated: int = 0
    """The last of them that was validated."""
    best: float = -1.0
    """Best mIoU so far."""


def device_of_choice() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class Result:
    """How a run ended."""

    iteration: int
    best: float
    stopped: bool
    """By Ctrl-C or SIGTERM, before the last iteration."""


class Trainer:
    """A run: everything is opened and checked when it is made, before the run folder is touched."""

    def __init__(self, config: Config, *, resume=False, quiet=False):
        self.config, self.quiet = config, quiet
        self.folder = config.folder
        self.last, self.best = self.folder / "last.ckpt", self.folder / "best.safetensors"
        if not resume and self.last.exists():
            raise UserError(f"{self.folder}: has a run already; go on with --resume, or name another with name=NAME")
        if config.model.image_classes is not None:
            raise UserError("model.image_classes: an image classifier has no masks to learn from; leave it out to train")
        saved = checkpoint.read(self.last) if resume else None
        torch.manual_seed(config.train.seed)
        self.labels = load_labels(config.data.labels)
        self.train_split, self.val_split = (
            open_split(config.data.root, name, self.labels, config.data.masks) for name in (config.data.train, config.data.val)
        )
        counts = self._check(self.train_split)
        self._check(self.val_split)
        self.device = device_of_choice()
        self.model = build_model(config.model, len(self.labels), pretrained=saved is None)
        self.model.to(self.device, memory_format=torch.channels_last)
        order = Order(len(self.train_split), config.train.seed, counts > 0 if config.data.balanced else None)
        self.samples = TrainingSamples(self.train_split, config.data, order, config.train.seed)
        if saved is None and config.model.weights and not config.model.published:
            report = self._read_weights()
            if not quiet:
                tell(str(report))
        self.loss = Loss(config.train, counts).to(self.device)
        self.optimiser = make_optimiser(self.model, config.train)
        self.average = None
        if config.train.average:
            # A moving average from the first step on; batch norm's statistics, averages themselves, are those of the last step.
            self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.train.average))
        self.state = State()
        if saved is not None:
            self._restore(saved)

    def _check(self, split: Split) -> np.ndarray:
        with Progress(f"check {split.name}", len(split), quiet=self.quiet) as progress:
            return require_sound(split, progress)

    def _read_weights(self) -> Report:
        config = self.config.model
        if config.weights_use != "warm_start":
            return read_into(self.model, config.weights, partial=config.weights_use == "partial")
        source = open_source(config.weights)
        stream = batches(self.samples, MEASURED, 0, 1, 0)
        images = next(stream)[0].to(self.device)
        return warm_start(self.model, source, normalise(images, self.model.mean, self.model.std))

    def _restore(self, saved: dict) -> None:
        try:
            self.model.load_state_dict(saved["model"])
            self.optimiser.load_state_dict(saved["optimiser"])
            if self.average is not None:
                self.average.load_state_dict(saved["average"])
            self.state = State(**saved["state"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{self.last}: not a checkpoint of this configuration ({reason(error)}); start anew with name=NAME"
            ) from error

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "state": vars(self.state),
            "config": as_dict(self.config),
        }
        checkpoint.save(self.last, state)

    def run(self) -> Result:
        import yaml

        config = self.config.train
        write_text(self.folder / "config.yaml", yaml.safe_dump(as_dict(self.config), sort_keys=False))
        start, state = self.state.iteration, self.state
        bar = Progress("train", config.iterations, start=start, each=config.batch, quiet=self.quiet)
        with Stop() as stop, closing(EventLog(self.folder, start)) as self.log, bar as self.progress:
            if self._due() and state.validated < state.iteration:
                self._validate()
            stream = batches(self.samples, config.batch, start, config.iterations, self.config.data.workers)
            for images, masks in stream:
                loss, rate = self._step(images, masks)
                state.iteration += 1
                if state.iteration % config.log_every == 0 or state.iteration == config.iterations:
                    self._report(loss, rate)
                if self._due():
                    self._save()
                    self._validate()
                if stop.asked:
                    break
            if stop.asked:
                self._save()
        return Result(state.iteration, state.best, state.iteration < config.iterations)

    def _due(self) -> bool:
        config, done = self.config.train, self.state.iteration
        return done > 0 and (done % config.validate_every == 0 or done == config.iterations)

    def _step(self, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, float]:
        config, iteration = self.config.train, self.state.iteration
        prepare_mode(self.model, config)
        seed_iteration(config.seed, iteration)
        rate = learning_rate(iteration, config)
        set_learning_rate(self.optimiser, rate)
        inputs = normalise(images.to(self.device, non_blocking=True), self.model.mean, self.model.std)
        loss = self.loss(self.model(inputs), masks.to(self.device, non_blocking=True))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return loss.detach(), rate

    def _report(self, loss: torch.Tensor, rate: float) -> None:
        value = float(loss)
        if not np.isfinite(value):
            raise UserError(
                f"loss is {value} at iteration {self.state.iteration}: the training diverged; lower train.learning_rate "
                f"(now {self.config.train.learning_rate}) or add train.warmup. The last good checkpoint, if any, is {self.last}"
            )
        self.log.step(self.state.iteration, value, rate)
        self.progress(self.state.iteration, f"loss {value:.4f}")

    def _validate(self) -> Scores:
        state, pictures = self.state, []

        def on_image(index, image, truth, prediction):
            if index < PICTURES:
                pictures.append(comparison(image, prediction, self.labels, truth))

        model = self.model if self.average is None else self.average.module
        scores = evaluate_model(model, self.val_split, self.config.evaluate, on_image)
        self.log.validation(state.iteration, scores)
        for index, picture in enumerate(pictures):
            self.log.image(state.iteration, self.val_split.ids[index], picture)
        better = scores.miou > state.best
        self.progress.say(f"iteration {state.iteration}: mIoU {scores.miou:.4f}" + (" (best so far)" if better else ""))
        state.validated = state.iteration
        if better:
            state.best = scores.miou
            score = {"iteration": state.iteration, "miou": scores.miou, "split": self.val_split.name}
            write(self.best, model, self.config, self.labels, score)
        self._save()
        return scores
