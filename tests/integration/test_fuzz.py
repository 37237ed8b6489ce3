"""The proof tests/stress/fuzz.py, in short: its first 100 cases."""

import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT


def fuzz(*options) -> str:
    command = [sys.executable, "-m", "tests.stress.fuzz", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("first", ["0", "25", "50", "75"])
def test_corrupted_files_end_in_success_or_one_clear_line(first):
    assert "25 cases in" in fuzz("--count", "25", "--seed", first)


@pytest.mark.parametrize("start", ["0", "1", "2"])
def test_its_commands_succeed_on_files_that_are_not_corrupted(start):
    assert "commands succeed" in fuzz("--good", start, "3")
