"""Background threads for loops, OpenCV's thread count, and a clean stop on Ctrl-C.

The threads speed up work that releases Python's interpreter lock, such as decoding images.
"""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType
from typing import Any, TypeVar

THREADS = 2
"""Default number of threads of `prefetch`."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Number of processor cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def prefetch(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int = THREADS
) -> Generator[Result, None, None]:
    """Yield `function(item)` for each item, in order, computed in threads ahead of the loop: at most 2 * threads + 1 items.

    An error of the function is raised where its result would be yielded.
    """
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[Result]]()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class BackgroundWorker:
    """Runs calls in one background thread, in order: `with BackgroundWorker() as worker: worker(function, argument, ...)`.

    A call blocks while 2 * THREADS others wait. An error of one is raised by a later call, or at the end of the block.
    """

    def __enter__(self) -> "BackgroundWorker":
        self.pool, self.waiting = ThreadPoolExecutor(1), deque[Future[Any]]()
        return self

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> None:
        if len(self.waiting) >= 2 * THREADS:
            self.waiting.popleft().result()
        self.waiting.append(self.pool.submit(function, *arguments))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while self.waiting and kind is None:
                self.waiting.popleft().result()
        finally:
            self.pool.shutdown(cancel_futures=True)


class GracefulShutdown:
    """Turns Ctrl-C and SIGTERM into a request to stop: the loop inside the block reads `asked` and ends after its current step.

    A second Ctrl-C raises KeyboardInterrupt. Outside of the main thread Python cannot handle signals, and `asked` stays False.
    """

    def __enter__(self) -> "GracefulShutdown":
        self.asked = False
        self.before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def limit_opencv_threads() -> None:
    """Let OpenCV compute in the calling thread only: in several loader workers its threads compete for the same cores."""
    import cv2

    cv2.setNumThreads(0)
