from pathlib import Path

import pytest

from seg.benchmark import harness
from seg.benchmark.cases.start_up import python
from seg.benchmark.harness import Case, Limit, Side, SideProcess, measure
from tests.helpers.toy import refused


class Clock:
    """Makes sides whose work takes known times, and records the order of their calls."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, []
        monkeypatch.setattr(harness.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(harness.time, "sleep", lambda seconds: None)

    def side(self, name, times, items=1):
        left = iter(times)

        def build():
            def work():
                self.calls.append(name)
                self.now += next(left)

            return work

        return Side(name, build, (), items)


def test_sides_take_turns_after_a_warm_up_and_medians_are_compared(monkeypatch, no_processes):
    clock = Clock(monkeypatch)
    first, second = clock.side("first", [100, 8, 2, 4], items=2), clock.side("second", [100, 10, 10, 1000], items=2)
    peer, fast, slow = (clock.side(*a) for a in (("peer", [100, 6, 7, 9]), ("fast", [9, 1, 3, 3]), ("slow", [9, 4, 4, 4])))
    limit = Limit("arithmetic", "GFLOP", 3.0, (slow, fast), (4.0, 2.0))
    ticks = []
    rows = measure([Case("s", "a", first, peer, limit), Case("s", "b", second, peer)], 3, lambda: ticks.append(1))
    assert clock.calls == ["first", "peer", "slow", "fast", "second"] * 4
    assert len(ticks) == 5 * 4
    a, b = rows
    assert (a.ours_s, a.peer_s, a.ratio) == (2.0, 7.0, 3.5)
    assert (b.ours_s, b.peer_s, b.ratio) == (5.0, 7.0, 1.4)
    # The best rate is 2 GFLOP in 1 s.
    assert (a.limit, a.limited_by, b.limit) == (1.5, "arithmetic, 2 GFLOP/s", None)


def test_short_work_is_repeated_and_the_mean_counts(monkeypatch):
    clock = Clock(monkeypatch)
    assert harness.seconds_per_call(clock.side("short", [0.05, 0.07, 0.03, 0.09]).build()) == pytest.approx(0.06)


def measured(build, *arguments):
    """Memory peak and seconds of one run, measured in the process of a side."""
    with SideProcess(Side("it", build, arguments)) as process:
        return process.warm_up(), process.time_work()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux only")
@pytest.mark.parametrize("mib", [1, 100])
def test_memory_is_the_peak_of_the_work_without_its_preparation(mib):
    peak, seconds = measured(eval, f"[len(b'x' * 300 * 2**20), lambda: len(b'x' * {mib} * 2**20)][1]")
    assert peak == pytest.approx(mib, abs=2)
    assert seconds > 0


def test_the_memory_of_a_command_is_that_of_its_own_process():
    peak, _ = measured(python, 0, "-c", "x = b'x' * 200 * 2**20")
    assert peak == pytest.approx(210, abs=20)


def test_a_process_that_dies_ends_in_one_clear_line():
    with refused("the process of it died, probably out of memory"):
        measured(eval, "__import__('os')._exit(1)")
