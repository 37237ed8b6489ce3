"""Callbacks: your own code during a training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import UserError, did_you_mean

if TYPE_CHECKING:
    from ..evaluation.metrics import Scores
    from .run_folder import Run


class Callback:
    """Base class of callbacks: override the methods that you need, and pass an object of your class to `seg.train`.

    Any object with one of these methods will do. An error in a callback ends the training with its traceback. With several
    processes each calls its own callbacks, so that they may change the model alike; `seg.distributed.is_main()` is true in the
    one that should print or write files.
    """

    def on_step(self, run: Run, iteration: int, loss: float | None, learning_rate: float) -> None:
        """Called after every iteration.

        Args:
            run: the training, with folder, best, last, iteration, miou, metrics, config, model, labels and stop().
            iteration: iterations done, from 1.
            loss: mean loss of the batch if the iteration is logged (every `train.log_every`, and the last one), else None.
                Reading it in every iteration would make the GPU wait for the CPU.
            learning_rate: of the iteration, before the multipliers of head and biases.
        """

    def on_validation(self, run: Run, iteration: int, scores: Scores) -> None:
        """Called after every validation; the checkpoint and the best weights are written by then.

        Args:
            run: the training.
            iteration: iterations done.
            scores: the scores on the validation split.
        """

    def on_end(self, run: Run) -> None:
        """Called at the end of the training, also if it was stopped, but not after an error.

        Args:
            run: the training; its files are complete.
        """


METHODS = ("on_step", "on_validation", "on_end")


def check_callbacks(callbacks: Iterable[object]) -> tuple[object, ...]:
    """The callbacks as a tuple.

    Raises:
        UserError: for an object that is no callback, and for a misspelled method of a Callback.
    """
    callbacks = tuple(callbacks) if isinstance(callbacks, Iterable) else (callbacks,)
    for callback in callbacks:
        if isinstance(callback, type):
            raise UserError(f"callbacks: {callback.__name__} is a class; give an object of it: {callback.__name__}()")
        name = type(callback).__name__
        if not any(callable(getattr(callback, method, None)) for method in METHODS):
            raise UserError(f"callbacks: {name} has none of the methods {', '.join(METHODS)}")
        for method in dir(callback) if isinstance(callback, Callback) else ():
            if method.startswith("on_") and method not in METHODS:
                raise UserError(f"callbacks: {name}.{method} is never called{did_you_mean(method, METHODS)}")
    return callbacks
