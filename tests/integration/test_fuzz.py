"""The first 100 cases of tests/stress/fuzz.py."""

import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow


def fuzz(*options) -> str:
    command = [sys.executable, "-m", "tests.stress.fuzz", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# In halves, for two processes of pytest. Each start takes 6 s to import and to write good files, 50 cases take 9 s.
@pytest.mark.slow
@pytest.mark.parametrize("first", ["0", "50"])
def test_commands_on_corrupted_files_succeed_or_print_one_clear_line(first):
    assert "50 cases in" in fuzz("--count", "50", "--seed", first)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["0", "1"])
def test_the_same_commands_succeed_on_good_files(start):
    assert "commands succeed" in fuzz("--good", start, "2")
