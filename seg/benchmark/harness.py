"""Measure our code and a peer in the same run.

Each side runs in a process of its own: memory that other work leaves behind changes the time of the same work by up to two
times. Sides take turns (ours, peer, ours, peer, ...) after two warm-up calls.

- Time is the median over the runs, in seconds per item (an image, a step, a mask). On a GPU, CUDA events measure it.
- Memory is the peak of the warm-up calls above what was in use before them: GPU memory where the work uses a GPU, else
  resident memory (Linux only).
- A limit is the machine's best time for the same operations, pixels or files alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import re
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from ..errors import UserError

# Nothing here imports torch before the work does: a process inherits the memory peak of its parent.

MIN_RUN_SECONDS = 0.2
"""Shortest run in seconds. Shorter work is repeated, and the mean of the calls counts."""

Work: TypeAlias = Callable[[], Any]
"""A function that does the measured work once."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    `build(*arguments)` prepares everything and returns the work. Both are sent to another process, so they must be picklable.
    """

    name: str
    build: Callable[..., Work]
    arguments: tuple[Any, ...] = ()
    items: int = 1
    """Images, steps or masks in one call of the work."""


@dataclass(frozen=True)
class Limit:
    """The least time that this machine needs: the best rate over `sides`, in `unit` per second."""

    name: str
    unit: str
    amount: float
    """Amount of `unit` in one item of our work."""
    sides: tuple[Side, ...]
    side_amounts: tuple[float, ...]
    """Amount of `unit` in one item of each side."""

    def seconds(self, spent: dict[Side, list[float]]) -> float:
        """Return the seconds of one item of our work at the best rate; `spent` holds the seconds per item of each side."""
        pairs = zip(self.sides, self.side_amounts, strict=True)
        return min(self.amount / side_amount * min(spent[side]) for side, side_amount in pairs)


@dataclass(frozen=True)
class Case:
    """Our code, a peer and, where one is known, the limit of the machine for the same work."""

    section: str
    name: str
    ours: Side
    peer: Side
    limit: Limit | None = None

    @property
    def sides(self) -> tuple[Side, ...]:
        """Every side that has to be measured for this case."""
        return (self.ours, self.peer, *(self.limit.sides if self.limit else ()))


@dataclass
class Row:
    """One line of the result. Seconds are per item, memory is in MiB; None means unknown."""

    section: str
    case: str
    ours_s: float
    peer: str
    peer_s: float
    ratio: float
    """Peer's time divided by ours: above 1 where ours is faster."""
    ours_peak_mib: float | None
    peer_peak_mib: float | None
    limit: float | None
    """Seconds per item at the machine's limit."""
    limited_by: str | None


def distinct_sides(cases: list[Case]) -> list[Side]:
    """Return the sides of all cases in order, each once even if several cases share it."""
    return list(dict.fromkeys(side for case in cases for side in case.sides))


def measure(cases: list[Case], runs: int, on_run: Callable[[], None] = lambda: None) -> list[Row]:
    """Measure all sides of one section and return a row for each case.

    Args:
        cases: Cases of one section.
        runs: Timed runs of each side, at least 1.
        on_run: Called after the warm-up of each side and after each run.
    """
    with contextlib.ExitStack() as stack:
        processes = {side: stack.enter_context(SideProcess(side)) for side in distinct_sides(cases)}
        peaks: dict[Side, float | None] = {}
        spent: dict[Side, list[float]] = {side: [] for side in processes}
        for side, process in processes.items():
            peaks[side] = process.warm_up()
            on_run()
        for _ in range(runs):
            for side, process in processes.items():
                spent[side].append(process.time_work() / side.items)
                on_run()
    return [make_row(case, spent, peaks) for case in cases]


def make_row(case: Case, spent: dict[Side, list[float]], peaks: dict[Side, float | None]) -> Row:
    """Build the row of a case from the seconds per item and the memory peak of each side."""
    ours, peer, limit, limited_by = median(spent[case.ours]), median(spent[case.peer]), None, None
    if case.limit:
        limit = case.limit.seconds(spent)
        limited_by = f"{case.limit.name}, {case.limit.amount / limit:.3g} {case.limit.unit}/s"
    memory = peaks[case.ours], peaks[case.peer]
    return Row(case.section, case.name, ours, case.peer.name, peer, peer / ours, *memory, limit, limited_by)


class SideProcess:
    """The process in which one side works."""

    def __init__(self, side: Side) -> None:
        self.side = side

    def __enter__(self) -> SideProcess:
        # Ctrl-C also reaches the children. They ignore it: the parent decides what to do.
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def warm_up(self) -> float | None:
        """Build the work, call it twice and return the memory peak in MiB."""
        return self._call(_warm_up, self.side.build, self.side.arguments)  # type: ignore[no-any-return]

    def time_work(self) -> float:
        """Return the seconds of one call of the work."""
        return self._call(_time_work)  # type: ignore[no-any-return]

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self.pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"seg benchmark: the process of {self.side.name} died, probably out of memory; close other programs, or measure"
                " fewer sections"
            ) from error


_work: Work | None = None
"""The work of this process. Only child processes set it."""


def _warm_up(build: Callable[..., Work], arguments: tuple[Any, ...]) -> float | None:
    global _work
    _work = build(*arguments)
    return peak_memory(_work)


def _time_work() -> float:
    assert _work is not None
    return seconds_per_call(_work)


def uses_gpu() -> bool:
    """Return whether this process has imported torch and has a CUDA device."""
    return "torch" in sys.modules and sys.modules["torch"].cuda.is_available()


def seconds_per_call(work: Work) -> float:
    """Return the mean seconds of a call, over as many calls as take MIN_RUN_SECONDS together."""
    # The threads of the previous side spin for a short time before they sleep. They would slow this side down.
    time.sleep(0.02)
    calls, spent = 0, 0.0
    while spent < MIN_RUN_SECONDS:
        calls, spent = calls + 1, spent + _seconds_once(work)
    return spent / calls


def _seconds_once(work: Work) -> float:
    """Time one call until the GPU, if used, has finished too."""
    if uses_gpu():
        import torch

        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3  # type: ignore[no-any-return]
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_memory(work: Work) -> float | None:
    """Call the work twice and return its memory peak in MiB above the memory in use before; None if unknown.

    If the work starts programs, their largest peak is returned.
    """
    gc.collect()
    with contextlib.suppress(AttributeError):  # glibc only: free memory goes back to the system, so the work asks for it
        ctypes.CDLL(None).malloc_trim(0)
    gpu_before = 0
    if uses_gpu():
        import torch

        torch.cuda.reset_peak_memory_stats()
        gpu_before = torch.cuda.memory_allocated()
    before = _reset_resident_peak()
    children_before = _children_peak()
    work()
    work()
    if uses_gpu():
        import torch

        gpu_peak = torch.cuda.max_memory_allocated()
        if gpu_peak > gpu_before:
            return (gpu_peak - gpu_before) / 2**20
    if before is None:
        return None
    children = _children_peak()
    return children if children > children_before else _memory_of_process("VmHWM") - before


def _reset_resident_peak() -> float | None:
    """Reset the kernel's peak of this process and return its resident memory in MiB; None outside Linux.

    getrusage cannot be used: its peak includes that of the parent process.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _memory_of_process("VmRSS")
    except OSError:
        return None


def _children_peak() -> float:
    """Return the memory peak in MiB of the largest child process that has ended; 0 on Windows."""
    try:
        import resource
    except ModuleNotFoundError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10


def _memory_of_process(key: str) -> float:
    """Return a memory field of /proc/self/status, such as VmRSS or VmHWM, in MiB."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 2**10
