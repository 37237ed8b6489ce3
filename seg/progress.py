"""Progress of long work: a bar on a terminal, plain lines elsewhere. Both go to standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

MIB = 1 << 20


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def long_duration(seconds: float) -> str:
    """`3.5 days`, or below two days as `duration` has it."""
    days = seconds / (24 * 3600)
    return f"{days:.1f} days" if days >= 2 else duration(seconds)


def speed_text(speed: float, unit: str) -> str:
    """`4.5 images/s`, or `2.2 s/image` where a unit takes longer than a second."""
    return f"{1 / speed:.1f} s/{unit.removesuffix('s')}" if 0 < speed < 1 else f"{speed:.1f} {unit}/s"


def print_stderr(line: str) -> None:
    """Print a line for the person at the terminal; standard output is for results."""
    print(line, file=sys.stderr, flush=True)


_quiet = ContextVar("quiet", default=False)


@contextlib.contextmanager
def quieted(quiet: bool = True) -> Iterator[None]:
    """Show no progress within the block, in functions of any depth, if `quiet` is true."""
    token = _quiet.set(_quiet.get() or quiet)
    try:
        yield
    finally:
        _quiet.reset(token)


def is_quiet() -> bool:
    """Whether this is within a block of `quieted`."""
    return _quiet.get()


class Progress:
    """Show how far a loop is: `with Progress("evaluate", 20) as progress: progress(done, "mIoU 0.41")`.

    Args:
        what: the word that the bar or the lines begin with.
        total: the count at the end; None if it is unknown, 0 if `update` will tell it. The bar appears when it is known.
        start: the count at the beginning, such as the iteration that a run is resumed from.
        each: how many `unit` one count stands for, such as the crops of a batch.
        unit: what the speed is measured in.
        quiet: show nothing; also where `is_quiet`.
    """

    every = 10.0
    """Seconds between plain lines."""

    def __init__(
        self, what: str, total: int | None, *, start: int = 0, each: int = 1, unit: str = "images", quiet: bool = False
    ):
        self.what, self.total, self.start, self.each, self.unit, self.quiet = (
            what,
            total,
            start,
            each,
            unit,
            quiet or is_quiet(),
        )
        self.bar: Bar | None = None

    def __enter__(self) -> Progress:
        self.began = self.told = time.monotonic()
        if self.total:
            self._show()
        return self

    def _show(self) -> None:
        if self.bar or self.quiet or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}")
        self.bar = Bar(*columns, console=Console(stderr=True))
        self.task = self.bar.add_task(self.what, total=self.total, completed=self.start, note="")
        self.bar.start()

    def update(self, done: int, total: int | None) -> None:
        """Set count and total. `update(0, total)` starts the clock, so that the time for loading does not count."""
        self.total = total
        if done == self.start:
            self.began = self.told = time.monotonic()
            self._show()
        else:
            self(done)

    def __call__(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        spent, count = max(now - self.began, 1e-9), done - self.start
        speed = speed_text(count * self.each / spent, self.unit)
        left = f"{duration(max(self.total - done, 0) * spent / max(count, 1))} left" if self.total else ""
        note = " ".join(filter(None, [note, speed, left]))
        self._show()
        if self.bar:
            self.bar.update(self.task, completed=done, total=self.total, note=note)
        elif not self.quiet and (now - self.told >= self.every or done == self.total):
            self.told = now
            print_stderr(f"{self.what} {done}{f'/{self.total}' if self.total else ''} {note}")

    def say(self, line: str) -> None:
        """Print a line that stays, above the bar if there is one."""
        if self.bar:
            self.bar.console.print(line, highlight=False, markup=False)
        elif not self.quiet:
            print_stderr(line)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()


def mebibytes(size: int) -> int:
    """Bytes in MiB, rounded up."""
    return -(-size // MIB)


def by_mebibyte(progress: Callable[[int], None]) -> Callable[[int], None]:
    """Return a function of a number of bytes that calls `progress` once for each MiB."""
    told = 0

    def step(done: int) -> None:
        nonlocal told
        if mebibytes(done) != told:
            told = mebibytes(done)
            progress(told)

    return step
