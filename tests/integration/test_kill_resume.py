"""tests/stress/kill_resume.py with five kills."""

import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.slow
def test_a_run_killed_five_times_equals_a_run_never_killed():
    command = [sys.executable, "-m", "tests.stress.kill_resume", "--kills", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed 5 times" in done.stdout
    assert "all equal to the bit" in done.stdout
