"""Ctrl-C in a terminal reaches the training and its loader workers."""

import os
import signal
import subprocess
import sys
import time

import yaml

from seg.training import checkpoint
from tests.helpers.toy import toy_voc

CONFIG = {
    "model": {"backbone": "xception41", "width": 0.125, "aspp": {"channels": 16}, "decoder": None},
    "data": {"root": "voc", "train": "train", "val": "val", "crop_size": 33, "num_workers": 2},
    "train": {"iterations": 5000, "batch_size": 2, "validate_every": 5000, "log_every": 1},
    "evaluate": {"canvas": None},
}


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_resume(tmp_path):
    toy_voc(tmp_path / "voc")
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(CONFIG))
    command = [sys.executable, "-m", "seg", "train", "long.yaml"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    events = tmp_path / "runs" / "long" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (events.exists() and events.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "to resume: seg train runs/long/config.yaml --resume" in err
    done = checkpoint.read(tmp_path / "runs" / "long" / "last.ckpt")["state"]["iteration"]
    assert done >= events.read_text().count("\n") >= 3
