"""`python -m tests.oracle` on the outputs of the released TensorFlow code in tests/fixtures/oracle."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import tests.oracle.__main__ as oracle
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow

STORED = ROOT / "tests" / "fixtures" / "oracle"
CELL = ROOT / "tests" / "fixtures" / "oracle_dpc"
CASES = [
    (folder, section, name, case)
    for folder in (STORED, CELL)
    for section, cases in json.loads((folder / "manifest.json").read_text()).items()
    for name, case in cases.items()
]


@pytest.mark.parametrize("folder, section, name, case", CASES, ids=[name for *_, name, _ in CASES])
def test_every_number_equals_that_of_the_released_code(folder, section, name, case):
    checks = oracle.runner(section, case)(folder, name, case)
    assert len(checks) >= (1 if "features_seed" in case else 2)
    assert all(check.holds for check in checks), "; ".join(map(str, checks))


def run(folder):
    command = [sys.executable, "-m", "tests.oracle", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_the_command_prints_each_case_and_fails_if_one_does(tmp_path):
    manifest = json.loads((STORED / "manifest.json").read_text())
    manifest["forward"] = {
        "good": manifest["forward"]["x65_os16_pad90x70to129x97"],
        "wrong": {**manifest["forward"]["x65_os16_pad90x70to129x97"], "file": "wrong.npz"},
        "absent": {**manifest["forward"]["x65_os16_pad90x70to129x97"], "file": "absent.npz"},
    }
    manifest["training"] = manifest["other"] = {}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    name = "x65_os16_pad90x70to129x97.npz"
    shutil.copy(STORED / name, tmp_path)
    arrays = dict(np.load(STORED / name))
    arrays["logits"] = arrays["logits"] + 3e-5 * np.abs(arrays["logits"]).max()
    np.savez(tmp_path / "wrong.npz", **arrays)
    done = run(tmp_path)
    assert done.returncode == 1
    good, wrong, absent, total = done.stdout.splitlines()
    assert good.startswith("ok    good: logits")
    assert "of 1e-05" in good
    assert wrong.startswith("FAIL  wrong:")
    assert "logits (2; logits) 3." in wrong
    assert "e-05 of 1e-05 FAILS" in wrong
    assert absent.startswith("FAIL  absent: cannot run")
    assert total == "1 of 3 cases hold"


def test_a_folder_without_a_manifest_gives_one_clear_line(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 2
    assert "no such file" in done.stderr
