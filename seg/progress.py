"""How far long work is: a bar on a terminal, else a plain line now and then."""

import sys
import time


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def print_stderr(line: str) -> None:
    """A line for the person at the terminal; standard output is for results."""
    print(line, file=sys.stderr, flush=True)


class Progress:
    """`with Progress("evaluate", 20) as progress: progress(done, "mIoU 0.41")`. Writes to standard error.

    done counts from `start` to `total` (None: unknown); `each` is how many `unit` one count stands for, such as crops.
    """

    every = 10.0
    """Seconds between plain lines."""

    def __init__(self, what: str, total: int | None, *, start=0, each=1, unit="images", quiet=False):
        self.what, self.total, self.start, self.each, self.unit, self.quiet = what, total, start, each, unit, quiet

    def __enter__(self):
        self.bar = None
        self.began = self.told = time.monotonic()
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = "[bold]{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[note]}"
            console = Console(stderr=True)
            self.bar = Bar(*(TextColumn(c) if isinstance(c, str) else c for c in columns), console=console)
            self.task = self.bar.add_task(self.what, total=self.total, completed=self.start, note="")
            self.bar.start()
        return self

    def __call__(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        spent, count = max(now - self.began, 1e-9), done - self.start
        speed = f"{count * self.each / spent:.1f} {self.unit}/s"
        left = f"{duration(max(self.total - done, 0) * spent / max(count, 1))} left" if self.total else ""
        note = " ".join(filter(None, [note, speed, left]))
        if self.bar:
            self.bar.update(self.task, completed=done, total=self.total, note=note)
        elif not self.quiet and (now - self.told >= self.every or done == self.total):
            self.told = now
            print_stderr(f"{self.what} {done}{f'/{self.total}' if self.total else ''} {note}")

    def say(self, line: str) -> None:
        """A line that stays, above the bar where there is one."""
        if self.bar:
            self.bar.console.print(line, highlight=False, markup=False)
        elif not self.quiet:
            print_stderr(line)

    def __exit__(self, *_):
        if self.bar:
            self.bar.stop()
