"""Kill one of two processes under torchrun. Both restart, and the result equals an undisturbed run to the bit.

python -m tests.stress.kill_rank
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from seg.training import checkpoint
from tests.helpers.paths import ROOT
from tests.helpers.toy import same, toy_voc
from tests.stress.kill_resume import CONFIG

SCRIPT = """
import os, signal, sys
from seg.cli.main import main
from seg.training.trainer import Trainer

update = Trainer._update

def killed(self, *arguments):
    restarts = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if os.environ["RANK"] == str(restarts % 2) and restarts < KILLS and self.state.iteration == 5 + 4 * restarts:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self, *arguments)

Trainer._update = killed
sys.exit(main(["train", "small.yaml", "--quiet", *sys.argv[1:]]))
"""


def run(folder: Path, kills: int) -> dict[str, Any]:
    """Train in two processes, one of which is killed this many times; return the checkpoint and the log."""
    (folder / "train.py").write_text(SCRIPT.replace("KILLS", str(kills)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", f"--max-restarts={kills}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "train.py", f"name=killed{kills}"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    saved = checkpoint.read(folder / "runs" / f"killed{kills}" / checkpoint.LAST)
    del saved["config"]
    return saved | {"log": (folder / "runs" / f"killed{kills}" / "metrics.jsonl").read_text()}


def main() -> int:
    """Compare a disturbed with an undisturbed run and return the exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        toy_voc(folder / "voc")
        config = {**CONFIG, "data": {**CONFIG["data"], "root": "voc"}}
        config["train"] = {**CONFIG["train"], "iterations": 16, "grad_accumulation": 1}
        (folder / "small.yaml").write_text(yaml.safe_dump(config))
        straight, killed = run(folder, 0), run(folder, 2)
    differing = [key for key in straight if not same(straight[key], killed[key])]
    print(f"of {', '.join(straight)}: " + (f"different: {', '.join(differing)}" if differing else "all equal to the bit"))
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
