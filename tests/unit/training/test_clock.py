import re
import time

import pytest

from seg.config import TrainConfig
from seg.training.clock import StepClock
from seg.training.trainer import Trainer


@pytest.fixture
def now(monkeypatch):
    """A clock that stands still until it is set: now[0] is the time."""
    times = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: times[0])
    return times


def test_the_time_left_is_that_of_ten_iterations_without_the_first_and_validations(now):
    clock, said = StepClock(TrainConfig(iterations=50000, validate_every=4)), {}
    for iteration in range(1, 30):
        now[0] += 100 if iteration == 1 else 2 if iteration % 2 else 4
        if line := clock.step(iteration):
            said[iteration] = line
        if iteration % 4 == 0:
            now[0] += 500
            clock.validated()
    # 49,989 iterations of 3 s are 149,967 s; 12,500 validations less the two of iterations 4 and 8.
    assert said == {11: "time: about 41:39:27 for the 49989 iterations left (3 s each), and 12498 validations"}


def test_a_resumed_training_measures_again_and_days_are_said_as_days(now):
    clock = StepClock(TrainConfig(iterations=30000, validate_every=30000))
    said = []
    for iteration in range(1001, 1012):
        now[0] += 60
        said.append(clock.step(iteration))
    assert said[:-1] == [None] * 10
    assert said[-1] == "time: about 20.1 days for the 28989 iterations left (60 s each), and 1 validation"


def test_nothing_is_said_where_no_iteration_is_left(now):
    clock = StepClock(TrainConfig(iterations=11))
    assert [clock.step(iteration) for iteration in range(1, 12)] == [None] * 11


def test_a_training_says_the_time_once(config, capsys):
    trainer = Trainer(config("a", "train.iterations=14", "train.validate_every=5"), quiet=True)
    trainer.quiet = False
    trainer.run()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("time: ")]
    assert len(lines) == 1
    assert re.fullmatch(r"time: about 0:0\d for the 3 iterations left \([\d.e-]+ s each\), and 1 validation", lines[0])
