"""Trains a configuration in a run folder."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import yaml

from .. import distributed
from ..config import RUN_CONFIG, Config, as_dict, flat
from ..data.loader import Batch, TrainingSamples, batches, worker_crash_error
from ..data.sampler import EpochSampler, sample_numbers
from ..data.training_data import TrainingData
from ..errors import UserError, single_line
from ..files import write_text
from ..labels import load as load_labels
from ..models.factory import build_model
from ..progress import Progress, print_stderr, quieted
from ..threads import GracefulShutdown
from . import checkpoint
from .batch_size import least_memory, settle_batch
from .callbacks import check_callbacks
from .clock import StepClock
from .ema import ExponentialMovingAverage
from .event_log import EventLog, MemoryLog
from .failures import explain, non_finite_message
from .loggers import check_loggers
from .losses import Loss
from .run_folder import FINDINGS, LAST, Run, State, keep_resolved, resume_command, run_lock
from .saved_state import capture, restore
from .start import (
    describe_loss,
    describe_training,
    few_images_for_batch_norm,
    load_weights,
    refuse_frozen_random,
    slow_without_gpu,
)
from .step import Step
from .validation import Validator


class Trainer:
    """Trains the network of a configuration: `Trainer(config).run()`.

    Everything is opened and checked here, before the run folder is touched.

    Args:
        config: every setting.
        resume: continue from the newest intact checkpoint. Where torchrun has restarted the processes, this is the default.
        quiet: print no progress.
        callbacks: objects as `seg.training.Callback` describes them.

    Raises:
        UserError: for settings, data, weights or a checkpoint that cannot be used. With several processes, rank 0 raises the
            first error of any, and the others exit.
    """

    def __init__(self, config: Config, *, resume: bool = False, quiet: bool = False, callbacks: Iterable[object] = ()):
        self.config, self.quiet = config, quiet or not distributed.is_main()
        self._say = (lambda line: None) if self.quiet else print_stderr
        self.folder = config.folder
        resume = resume or (distributed.restarts() > 0 and checkpoint.exists(self.folder))
        with quieted(quiet):
            with distributed.raise_on_all_ranks():
                self.callbacks = check_callbacks(callbacks)
                saved = self._open(resume)
            free = least_memory(self.device) if config.train.batch_size == "auto" else None
            with distributed.raise_on_all_ranks():
                if line := settle_batch(config, len(self.labels), self.device, free):
                    self._say(line)
            # The processes share the reading, and all of them know all problems.
            with distributed.raise_on_all_ranks():
                self.data.read(lambda text: self._say(f"note: {text}"), self.quiet)
            with distributed.raise_on_all_ranks():
                self._build(saved)
        self._callback_error: Exception | None = None

    def _open(self, resume: bool) -> dict[str, Any] | None:
        """Open the data and the newest checkpoint, which is returned."""
        config = self.config
        if not resume and checkpoint.exists(self.folder):
            again = f"resume it with its own settings: {resume_command(self.folder)}"
            raise UserError(f"{self.folder}: already holds a run; {again}; or choose another name=NAME")
        if config.model.image_classes is not None:
            raise UserError("model.image_classes: an image classifier cannot learn from masks; leave this setting out to train")
        saved = checkpoint.newest(self.folder) if resume else None
        keep_resolved(config.train, saved)
        if saved is None:  # else the weights are those of the checkpoint
            refuse_frozen_random(config)
        if distributed.is_main():
            check_loggers(config.train.loggers)
        self.device = distributed.device(config.device)
        self.labels = load_labels(config.data.labels)
        self.data = TrainingData(config.data, self.labels, self.folder / FINDINGS)
        return saved

    def _build(self, saved: dict[str, Any] | None) -> None:
        """Create the network, the loss and the optimizer."""
        config, counts, sources = self.config, self.data.counts, self.data.sources
        torch.manual_seed(config.train.seed)
        model = build_model(config.model, len(self.labels), pretrained=saved is None).to(self.device)
        model.to(memory_format=torch.channels_last)
        present = counts > 0 if config.data.balanced else None
        order = EpochSampler(len(sources), config.train.seed, present, sources.image_weights())
        self.samples = TrainingSamples(sources, config.data, order, config.train.seed)
        if saved is None:
            self._say(load_weights(model, config.model, self.samples))
        self._say(describe_loss(config.train))
        loss = Loss(config.train, counts, self.labels.names).to(self.device)
        self.step = Step(model, loss, config.train, self.device, config.data.crop)
        config.train, self.model = self.step.config, self.step.model
        self._say(describe_training(config, len(self.labels), self.data, self.model, self.device))
        for advice in (few_images_for_batch_norm(config, self.model), slow_without_gpu(config, self.model, self.device)):
            if advice:
                self._say(advice)
        self.ema = ExponentialMovingAverage(self.model, config.train.ema_decay) if config.train.ema_decay else None
        self.validator = Validator(config, self.labels, self.data)
        self.state = State() if saved is None else self._restore(saved)
        self.training_run = Run(config, self.labels, self.model, self.state)

    def run(self) -> Run:
        """Train to the last iteration, or until Ctrl-C, SIGTERM or a callback asks to stop.

        Returns:
            The finished or stopped run.

        Raises:
            UserError: if the training cannot continue, with the reason and a remedy.
        """
        run, config, state = self.training_run, self.config.train, self.state
        try:
            with contextlib.ExitStack() as stack:
                self._open_log(stack)
                bar = Progress("train", config.iterations, start=state.iteration, each=config.batch_size, quiet=self.quiet)
                self.shutdown = stack.enter_context(GracefulShutdown())
                self.progress = stack.enter_context(bar)
                self._train()
        except (RuntimeError, OSError) as error:
            explained = self._explain(error)
            if explained is error:
                raise
            raise explained from error
        run.stopped = state.iteration < config.iterations and not self._out_of_patience()
        self._call("on_end")
        return run

    def _train(self) -> None:
        """The training loop, in the order of events of an iteration."""
        config, state = self.config.train, self.state
        clock = StepClock(config)
        if self._validation_due() and state.validated < state.iteration:
            self._validate()  # the run ended between a checkpoint and its validation
        for batch in self._batches() if not self._out_of_patience() else ():
            stopping = self._update(batch, self._stop_requested())
            state.iteration += 1
            logs = state.iteration % config.log_every == 0 or state.iteration == config.iterations
            self._call("on_step", state.iteration, self._log_loss() if logs else None, self.step.learning_rate)
            if line := clock.step(state.iteration):
                self.progress.say(line)
            if self._validation_due():
                self._save()
                self._validate()
                clock.validated()
            if stopping or self._out_of_patience() or (self._stop_requested() and distributed.world_size() == 1):
                break
        if state.validated < state.iteration:
            self._save()  # stopped between two validations
        if self._out_of_patience() and state.iteration < config.iterations:
            reason = f"no better mIoU than {100 * state.best:.2f} % in {state.waited} validations"
            go_on = "to continue, run the same command with --resume train.patience=null"
            self.progress.say(f"early stopping after iteration {state.iteration}: {reason}; {go_on}")
        if state.iteration == config.iterations or self._out_of_patience():
            self.log.finish(flat(self.config), state.best)

    def _batches(self) -> Iterator[Batch]:
        """The batches of this process. If an image cannot be read, a checkpoint is written before the training ends."""
        config, workers = self.config.train, self.config.data.num_workers
        group = distributed.rank(), distributed.world_size()
        try:
            yield from batches(self.samples, config.batch_size, self.state.iteration, config.iterations, workers, *group)
        except UserError:
            if distributed.world_size() == 1:
                self._save()
            raise

    def _update(self, batch: Batch, stop: bool) -> bool:
        """Update the weights and their average from a batch. Returns whether the training is to stop."""
        stopping = self.step(self.state.iteration, batch, stop)
        if self.ema is not None:
            self.ema.update()
        # The outcome of this step is read after the next one, so that the device does not wait.
        self._handle_non_finite(self.step.failures(under_way=1))
        return stopping

    def _stop_requested(self) -> bool:
        return self.shutdown.asked or self.training_run.stop_requested

    def _validation_due(self) -> bool:
        config, done = self.config.train, self.state.iteration
        return done > 0 and (done % config.validate_every == 0 or done == config.iterations)

    def _log_loss(self) -> float:
        loss = self.step.mean_loss()
        self.log.step(self.state.iteration, loss, self.step.learning_rate)
        self.progress(self.state.iteration, f"loss {loss:.4f}")
        return loss

    def _validate(self) -> None:
        """Score the network, or its moving average. Save it if it is one of the best so far, then write the checkpoint."""
        state = self.state
        model = self.model if self.ema is None else self.ema.model
        scores, pictures = self.validator(model, self.step.precision)
        self.log.validation(state.iteration, scores)
        for name, picture in pictures.items():
            self.log.image(state.iteration, name, picture)
        better = scores.miou > state.best
        best = " (best so far)" if better else ""
        share = self.validator.share and f" on {self.validator.share}"
        self.progress.say(f"iteration {state.iteration}: mIoU {100 * scores.miou:.2f} %{share}{best}")
        self.validator.keep(model, scores, state.iteration, better)
        state.best, state.waited = (scores.miou, 0) if better else (state.best, state.waited + 1)
        state.validated = state.iteration
        self._save()
        self._call("on_validation", state.iteration, scores)

    def _out_of_patience(self) -> bool:
        """Whether to stop early: the validations do not improve."""
        patience = self.config.train.patience
        return patience is not None and self.state.waited >= patience

    def _call(self, event: str, *arguments: Any) -> None:
        """Call a method of every callback that has it."""
        for callback in self.callbacks:
            method = getattr(callback, event, None)
            if method is not None:
                try:
                    method(self.training_run, *arguments)
                except Exception as error:
                    self._callback_error = error
                    raise

    def _open_log(self, stack: contextlib.ExitStack) -> None:
        """Lock the run folder and open its log; in processes other than the first, keep the log in memory."""
        start, validated = self.state.iteration, self.state.validated == self.state.iteration
        if distributed.is_main():
            stack.enter_context(run_lock(self.folder))
            write_text(self.folder / RUN_CONFIG, yaml.safe_dump(as_dict(self.config), sort_keys=False))
            self.data.keep()
            log = EventLog(self.folder, start, validated, self.config.train.loggers, flat(self.config))
            self.log: MemoryLog = stack.enter_context(contextlib.closing(log))
        else:
            self.log = MemoryLog(self.folder, start, validated)
        self.training_run.metrics = self.log.events

    def _save(self) -> None:
        """Write a checkpoint, after the outcomes of all steps are known to be finite."""
        self._handle_non_finite(self.step.failures())
        if not distributed.is_main():
            return
        self.log.flush()
        checkpoint.save(self.folder, capture(self.config, self.model, self.step, self.ema, self.state))

    def _restore(self, saved: dict[str, Any]) -> State:
        """Load a checkpoint, and print the settings that have changed since."""
        state, changed = restore(saved, self.folder / LAST, self.config, self.model, self.step, self.ema)
        if distributed.is_main():
            for line in changed:
                print_stderr(f"seg: {single_line(line)}")
        return state

    def _handle_non_finite(self, failures: list[tuple[int, float]]) -> None:
        """Stop at a step whose gradient was not finite, or report that it was skipped."""
        config = self.config.train
        for iteration, loss in failures:
            numbers = sample_numbers(iteration, config.batch_size, distributed.rank(), distributed.world_size())
            message = non_finite_message(iteration, loss, self.samples.files(numbers), config, self.training_run.last)
            if config.non_finite == "stop":
                raise UserError(message)
            if not self.step.finite_statistics():
                raise UserError(f"{message}. It cannot be skipped: batch norm's moving statistics are not finite either")
            print_stderr(f"seg: iteration {iteration} skipped: {message}")

    def _explain(self, error: Exception) -> Exception:
        """Return the UserError for an error of the training; `error` itself if a callback raised it or there is no remedy."""
        # PyTorch reports a crashed worker by a signal, at any place in this process, also in a callback.
        crash = worker_crash_error(self.samples, error)
        if crash is not error or error is self._callback_error:
            return crash
        return explain(error, self.folder, self.state.iteration)
