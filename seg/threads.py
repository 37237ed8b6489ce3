"""Work done ahead of a loop that needs it, or behind it, in threads: for what releases the interpreter's lock, as decoding; and
a loop that ends when it is asked to."""

import signal
from collections import deque
from concurrent.futures import ThreadPoolExecutor

THREADS = 2


def prefetch(function, items, threads: int = THREADS):
    """Yield `function(item)` of each item, in order; a few are begun before they are asked for, never all."""
    pool, waiting = ThreadPoolExecutor(threads), deque()
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
    """`with Behind() as behind: behind(function, ...)`: calls in a thread of their own, in order, a few behind at most.

    What one raises is raised by a later call, or at the end of the block.
    """

    def __enter__(self):
        self.pool, self.waiting = ThreadPoolExecutor(1), deque()
        return self

    def __call__(self, function, *arguments) -> None:
        if len(self.waiting) >= 2 * THREADS:
            self.waiting.popleft().result()
        self.waiting.append(self.pool.submit(function, *arguments))

    def __exit__(self, kind, *_):
        try:
            while self.waiting and kind is None:
                self.waiting.popleft().result()
        finally:
            self.pool.shutdown(cancel_futures=True)


class GracefulShutdown:
    """Ctrl-C and SIGTERM ask the loop to end after what is under way; a second Ctrl-C ends it at once."""

    def __enter__(self):
        self.asked = False
        self.before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number, frame):
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)
