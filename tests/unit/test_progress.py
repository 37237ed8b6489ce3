import io
import sys

import pytest

from seg import progress
from seg.progress import Progress, duration, long_duration, speed_text


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still: clock[0] is the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0:00"), (9.4, "0:09"), (59.6, "1:00"), (61, "1:01"), (3599.4, "59:59"), (3600, "1:00:00"), (90061, "25:01:01")],
)
def test_durations_are_hours_minutes_and_seconds(seconds, text):
    assert duration(seconds) == text


def test_a_plain_line_shows_speed_and_time_left_on_standard_error(clock, capsys):
    with Progress("evaluate", 20) as tell:
        clock[0] += 10
        tell(5, "mIoU 0.41")
    captured = capsys.readouterr()
    assert captured.err == "evaluate 5/20 mIoU 0.41 2.0 s/image 0:30 left\n"
    assert captured.out == ""


def test_plain_lines_are_printed_every_10_seconds_and_at_the_end(clock, capsys):
    with Progress("check", 100) as tell:
        for done in range(1, 101):
            clock[0] += 1
            tell(done)
    told = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    assert told == [f"{done}/100" for done in range(10, 101, 10)]


def test_the_last_line_is_printed_even_for_quick_work(clock, capsys):
    with Progress("check", 3) as tell:
        for done in (1, 2, 3):
            tell(done)
    assert [line.split()[:2] for line in capsys.readouterr().err.splitlines()] == [["check", "3/3"]]


def test_the_speed_of_a_resumed_run_counts_its_own_steps_only(clock, capsys):
    with Progress("train", 100, start=90, each=16, unit="crops") as tell:
        clock[0] += 10
        tell(95)
    assert capsys.readouterr().err == "train 95/100 8.0 crops/s 0:10 left\n"


def test_quiet_prints_nothing(clock, capsys):
    with Progress("check", 2, quiet=True) as tell:
        clock[0] += 60
        tell(1)
        tell(2)
        tell.say("a line")
    assert capsys.readouterr() == ("", "")


def test_a_block_is_quiet_with_all_that_it_calls(clock, capsys):
    def work():
        with Progress("check", 1) as tell:
            tell(1)

    with progress.quieted(), progress.quieted(False):
        work()
        assert progress.is_quiet()
    assert capsys.readouterr() == ("", "")
    with progress.quieted(False):
        work()
    assert capsys.readouterr().err.startswith("check 1/1")


def test_a_permanent_line_goes_to_standard_error(clock, capsys):
    with Progress("check", 2) as tell:
        tell.say("best so far [mIoU] 0.5")
    assert capsys.readouterr().err == "best so far [mIoU] 0.5\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_a_bar_below_the_lines(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with Progress("evaluate", 20) as tell:
        tell(20, "mIoU 0.41")
        tell.say("iteration [20]: best")
    shown = sys.stderr.getvalue()
    assert "evaluate" in shown and "20/20" in shown and "mIoU 0.41" in shown and "━" in shown
    assert "iteration [20]: best" in shown


def test_the_bar_is_removed_after_an_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(RuntimeError), Progress("evaluate", 20) as tell:
        raise RuntimeError
    assert not tell.bar.live.is_started


def test_without_a_total_only_the_speed_is_shown(clock, capsys):
    with Progress("predict", None, unit="frames") as tell:
        clock[0] += 10
        tell(5)
    assert capsys.readouterr().err == "predict 5 2.0 s/frame\n"


def test_the_total_may_be_set_later_and_restarts_the_clock(clock, capsys):
    with Progress("evaluate", 0) as tell:
        clock[0] += 60  # the model is loaded
        tell.update(0, 4)
        clock[0] += 10
        tell.update(2, 4)
    assert capsys.readouterr().err == "evaluate 2/4 5.0 s/image 0:10 left\n"


def test_a_bar_of_unknown_length_appears_with_the_first_count(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with Progress("evaluate", 0) as tell:
        assert sys.stderr.getvalue() == ""
        tell.update(1, 3)
    assert "evaluate" in sys.stderr.getvalue() and "1/3" in sys.stderr.getvalue()


def test_a_speed_below_one_a_second_is_seconds_for_each():
    assert speed_text(4.52, "images") == "4.5 images/s"
    assert speed_text(1.0, "images") == "1.0 images/s"
    assert speed_text(0.4, "images") == "2.5 s/image"
    assert speed_text(0.5, "MiB") == "2.0 s/MiB"
    assert speed_text(0.0, "images") == "0.0 images/s"


@pytest.mark.parametrize(
    "seconds, said", [(61, "1:01"), (3600 * 47, "47:00:00"), (3600 * 48, "2.0 days"), (86400 * 3.44, "3.4 days")]
)
def test_days_are_said_from_two_on(seconds, said):
    assert long_duration(seconds) == said
