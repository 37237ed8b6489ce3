import pytest

from seg.benchmark import harness


class InThisProcess(harness.SideProcess):
    """A side that works in the test's own process. Its memory is not measured."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def warm_up(self):
        self.work = self.side.build(*self.side.arguments)
        self.work()
        return 1.0

    def time_work(self):
        return harness.seconds_per_call(self.work)


@pytest.fixture
def no_processes(monkeypatch):
    """All sides work in this process, in short runs."""
    monkeypatch.setattr(harness, "SideProcess", InThisProcess)
    monkeypatch.setattr(harness, "MIN_RUN_SECONDS", 0.001)
