import signal
import threading
import time

import cv2
import pytest

from seg.threads import THREADS, BackgroundWorker, GracefulShutdown, limit_opencv_threads, prefetch


def test_results_are_in_order_even_if_some_take_longer():
    def slow_first(number):
        time.sleep(0.05 if number == 0 else 0)
        return number**2

    assert list(prefetch(slow_first, range(9))) == [number**2 for number in range(9)]
    assert list(prefetch(slow_first, [])) == []


def test_only_a_few_items_are_prefetched():
    begun = []
    stream = prefetch(begun.append, range(100))
    next(stream)
    time.sleep(0.05)
    assert 1 < len(begun) <= 2 * THREADS + 1
    stream.close()
    assert len(begun) <= 2 * THREADS + 1


def test_prefetching_continues_while_the_loop_waits():
    second = threading.Event()
    stream = prefetch(lambda number: number == 1 and second.set(), range(3))
    next(stream)
    assert second.wait(5)


def test_prefetching_uses_all_threads_at_once():
    all_here = threading.Barrier(THREADS + 3, timeout=5)
    assert len(list(prefetch(lambda _: all_here.wait(), range(THREADS + 3), THREADS + 3))) == THREADS + 3


def test_an_error_is_raised_in_the_order_of_the_items():
    def inverse(number):
        return 1 / number

    stream = prefetch(inverse, [1, 2, 0, 4])
    assert [next(stream), next(stream)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_background_calls_run_in_order_and_finish_with_the_block():
    done = []
    with BackgroundWorker() as behind:
        for number in range(20):
            behind(lambda n: (time.sleep(0.002), done.append(n)), number)
    assert done == list(range(20))


def test_only_a_few_background_calls_wait():
    gate, begun = threading.Event(), []

    def fill():
        with BackgroundWorker() as behind:
            for number in range(50):
                begun.append(number)
                behind(gate.wait)

    thread = threading.Thread(target=fill)
    thread.start()
    time.sleep(0.1)
    assert len(begun) <= 2 * THREADS + 1
    gate.set()
    thread.join()
    assert len(begun) == 50


def test_an_error_of_a_background_call_is_raised_at_the_end_of_the_block():
    with pytest.raises(ZeroDivisionError), BackgroundWorker() as behind:
        behind(lambda: 1 / 0)


def test_an_error_in_the_block_cancels_the_waiting_calls():
    done = []
    with pytest.raises(KeyError), BackgroundWorker() as behind:
        behind(time.sleep, 0.05)
        behind(done.append, 1)
        raise KeyError
    assert done == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_loop_and_the_old_handlers_are_restored(number):
    before = signal.getsignal(number)
    with GracefulShutdown() as shutdown:
        assert not shutdown.asked
        signal.raise_signal(number)
        assert shutdown.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_a_loop_runs_without_signal_handlers():
    asked = []

    def loop():
        with GracefulShutdown() as shutdown:
            asked.append(shutdown.asked)

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
    assert asked == [False]


def test_opencv_computes_in_one_thread():
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        limit_opencv_threads()
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)
