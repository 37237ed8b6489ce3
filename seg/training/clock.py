"""Estimates the time of a training from its first iterations."""

import time

from ..config import TrainConfig
from ..progress import long_duration

STEPS = 10
"""Number of measured iterations."""


class StepClock:
    """Measures the first iterations of a training, except the very first one, which warms up, and validations.

    Args:
        config: iterations and validations of the training.
    """

    def __init__(self, config: TrainConfig):
        self.config, self.seconds, self.last = config, list[float](), -1.0

    def step(self, iteration: int) -> str | None:
        """Note that an iteration has ended.

        Args:
            iteration: iterations done.

        Returns:
            Once, after `STEPS` measured iterations, a line with the estimated remaining time; None otherwise.
        """
        now = time.monotonic()
        if self.last >= 0 and len(self.seconds) < STEPS:
            self.seconds.append(now - self.last)
        elif len(self.seconds) == STEPS:
            return None
        self.last = now
        left, every = self.config.iterations - iteration, self.config.validate_every
        if len(self.seconds) < STEPS or not left:
            return None
        each, validations = sum(self.seconds) / STEPS, -(-self.config.iterations // every) - iteration // every
        more = f", and {validations} validation{'s' * (validations != 1)}"
        iterations = f"{left} iteration{'s' * (left != 1)}"
        return f"time: about {long_duration(left * each)} for the {iterations} left ({each:.3g} s each){more}"

    def validated(self) -> None:
        """Note that a validation has ended. Its time is not counted."""
        self.last = time.monotonic()
