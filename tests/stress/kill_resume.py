"""Train, kill at random moments, resume, and compare with a run that was never killed. Both must be equal to the bit.

python -m tests.stress.kill_resume --kills 50
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open

from seg.cli.main import main
from seg.training import checkpoint
from tests.helpers.configs import MODEL
from tests.helpers.forks import finish, fork
from tests.helpers.toy import same, toy_voc

CONFIG = {
    "model": MODEL,
    "data": {
        "train": "train",
        "crop_size": [33, 49],
        "num_workers": 1,
        "balanced": True,
        "transforms": [{"ColorJitter": {"p": 1.0}}],
    },
    "train": {
        "batch_size": 4,
        "grad_accumulation": 2,
        "learning_rate": 0.02,
        "ema_decay": 0.9,
        "grad_clip_norm": 5.0,
        "validate_every": 4,
        "keep_best": 2,
        "log_every": 1,
    },
    "evaluate": {"canvas": None},
}
MOMENTS = ("replace", "fsync", "unlink")
"""Functions of `os` that write a file; a process may be killed right before one of them."""


def start(folder: Path, name: str, moment: str | None = None, count: int = 0) -> int:
    """Fork a process that trains the run `name`, or resumes it, and return its id.

    Args:
        folder: holds the data set and small.yaml.
        name: of the run.
        moment: one of MOMENTS; the process kills itself before this call.
        count: number of the call.
    """
    arguments = ["train", str(folder / "small.yaml"), f"runs={folder / 'runs'}", f"name={name}", "--quiet"]
    if checkpoint.exists(folder / "runs" / name):
        arguments.append("--resume")

    def job() -> int:
        os.setsid()
        log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if moment:
            kill_at(moment, count)
        return main(arguments)

    return fork(job)


def kill_at(moment: str, count: int) -> None:
    """Make this process kill itself before the given call of a function of `os`."""
    function, left = getattr(os, moment), [count]

    def deadly(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    setattr(os, moment, deadly)


def contents(folder: Path) -> dict[str, Any]:
    """Return what a run leaves behind: the tensors and state of the checkpoint, the best weights and the log."""
    saved = checkpoint.read(folder / checkpoint.LAST)
    for path in sorted(folder.glob("best*.safetensors")):
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        saved.setdefault("best", {})[path.name] = tensors
    saved["log"] = (folder / "metrics.jsonl").read_text()
    del saved["config"]["name"]
    return saved


def kill_and_compare(folder: Path, kills: int, seed: int, say: Callable[[str], None] = print) -> bool:
    """Kill a run `kills` times, then let it finish; return whether it equals a run that was never killed."""
    random.seed(seed)
    toy_voc(folder / "voc")
    config = {**CONFIG, "data": {**CONFIG["data"], "root": str(folder / "voc")}}
    config["train"] = {**CONFIG["train"], "iterations": max(24, 4 * kills)}
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    began = time.monotonic()
    assert finish(start(folder, "straight")) == 0, (folder / "straight.log").read_text()
    length = time.monotonic() - began
    died: dict[str, int] = {}
    while sum(died.values()) < kills:
        if random.random() < 0.5:
            how = random.choice(MOMENTS)
            pid = start(folder, "killed", how, random.randint(1, 12))
        else:
            number = random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
            how = number.name
            pid = start(folder, "killed")
            time.sleep(random.uniform(0, 0.3 + 1.5 * length / kills))
            os.kill(pid, number)
        if finish(pid) == 0:  # the kill came too late: start again
            shutil.rmtree(folder / "runs" / "killed")
            continue
        died[how] = died.get(how, 0) + 1
    assert finish(start(folder, "killed")) == 0, (folder / "killed.log").read_text()
    say(f"killed {sum(died.values())} times: " + ", ".join(f"{count} at {how}" for how, count in sorted(died.items())))
    straight, killed = (contents(folder / "runs" / name) for name in ("straight", "killed"))
    differing = [key for key in straight if not same(straight[key], killed[key])]
    say(f"of {', '.join(straight)}: " + (f"different: {', '.join(differing)}" if differing else "all equal to the bit"))
    return not differing


def run() -> int:
    """Parse the arguments and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="default: 50")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: 0")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return 0 if kill_and_compare(Path(folder), args.kills, args.seed) else 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(run())
