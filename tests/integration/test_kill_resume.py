"""The proof tests/stress/kill_resume.py, in short."""

import subprocess
import sys

from tests.helpers.paths import ROOT


def test_killed_five_times_and_resumed_equals_a_run_never_killed():
    command = [sys.executable, "-m", "tests.stress.kill_resume", "--kills", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed 5 times" in done.stdout
    assert "all equal to the bit" in done.stdout
