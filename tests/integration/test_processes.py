"""Several processes under torchrun, with gloo, give the same scores, losses and files as one process."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from seg.config import from_dict
from seg.data.masks import read_mask
from seg.labels import VOC
from seg.models.factory import build_model
from seg.training import checkpoint
from seg.weights.file import Metadata, write
from tests.helpers.configs import MODEL
from tests.helpers.paths import ROOT
from tests.helpers.toy import toy_voc

pytestmark = pytest.mark.slow

CONFIG = {
    "model": {**MODEL, "weights": "random", "aspp": {"channels": 16, "dropout": 0.0}},
    "data": {"root": "voc", "train": "train", "val": "val", "crop_size": 49, "num_workers": 1},
    "train": {
        "iterations": 20,
        "batch_size": 4,
        "learning_rate": 0.01,
        "freeze_batch_norm": "all",
        "class_weights": "balanced",
        "validate_every": 10,
        "log_every": 1,
        "precision": "float32",
    },
    "evaluate": {"canvas": None},
}


@pytest.fixture
def place(tmp_path):
    toy_voc(tmp_path / "voc", train=6, val=5)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    return tmp_path


def python(place, *arguments):
    """Run Python in `place`, with this checkout to import from."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment, timeout=120)


def forked(place, *runs):
    """Run the command several times; each run is a number of processes and the arguments."""
    done = python(
        place, "-m", "tests.helpers.forks", json.dumps([(world, [*map(str, arguments)]) for world, arguments in runs])
    )
    assert done.returncode == 0, done.stderr
    return done


def test_srun_starts_processes_as_torchrun_does(place):
    def train(name):
        return ["train", "small.yaml", f"name={name}", "train.iterations=3", "train.validate_every=3", "--quiet"]

    done = python(place, "-m", "tests.helpers.forks", json.dumps([[2, train("slurm")]]), "slurm")
    assert done.returncode == 0, done.stderr
    forked(place, (2, train("torchrun")))
    assert losses(place, "slurm") == losses(place, "torchrun")
    assert len(losses(place, "slurm")[0]) == 3  # two single processes would share the folder


def torchrun(place, script, *arguments):
    return python(place, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, *arguments)


def losses(place, name):
    lines = (place / "runs" / name / "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return [e["loss"] for e in events if "loss" in e], [e["miou"] for e in events if "miou" in e]


def test_two_processes_train_as_one_does(place):
    done = forked(place, *((world, ["train", "small.yaml", f"name=by{world}", "--quiet"]) for world in (1, 2)))
    assert done.stdout.count("mIoU") == 2
    (one, scores_of_one), (two, scores_of_two) = losses(place, "by1"), losses(place, "by2")
    assert len(one) == len(two) == 20
    assert np.abs(np.subtract(one, two)).max() < 1e-4 * max(one)
    assert len(scores_of_one) == len(scores_of_two) == 2
    a, b = (checkpoint.read(place / "runs" / name / "last.ckpt")["model"] for name in ("by1", "by2"))
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=1e-5)


# In float64: batch norm of few values amplifies the rounding of float32 from step to step.
NORMALIZING = """
import sys
import torch
import torch.distributed as dist
from seg.data.loader import Batch
from tests.helpers.forks import finish, fork
from tests.unit.training.test_step import batch, make

def job(rank, world):
    if world > 1:
        dist.init_process_group("gloo", store=dist.FileStore("store", world), rank=rank, world_size=world)
    step, losses = make(double=True), []
    for iteration in range(3):
        part = Batch(*(tensor.chunk(world)[rank] for tensor in batch()))
        step(iteration, part)
        losses.append(step.mean_loss())
    torch.save((losses, {name: p.detach() for name, p in step.model.named_parameters()}), f"{world}-{rank}.pt")

for world in (1, 2):
    assert not any([finish(pid) for pid in [fork(lambda n=n: job(n, world)) for n in range(world)]])
"""


def test_two_processes_normalize_as_one_does(place):
    """Batch norm that trains has the statistics of the whole batch, on CPUs too."""
    done = python(place, "-W", "error::FutureWarning", "-c", NORMALIZING)
    assert done.returncode == 0, done.stderr
    (losses, one), (same, two) = (torch.load(place / name) for name in ("1-0.pt", "2-1.pt"))
    assert same == pytest.approx(losses, rel=1e-5)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-6, atol=1e-9)


def test_two_processes_score_and_predict_every_image_once(place):
    config = from_dict(CONFIG, "test")
    torch.manual_seed(0)
    write(place / "model.safetensors", build_model(config.model, 21), Metadata(config, VOC, {}))
    evaluate = ["evaluate", "model.safetensors", "--boundary", "--quiet"]
    done = forked(
        place,
        *((world, [*evaluate, "--json", f"{world}.json", "--save-masks", f"saved{world}"]) for world in (1, 2, 3)),
        (2, ["predict", "model.safetensors", "voc/JPEGImages", "--out", "masks", "--mode", "index", "--quiet"]),
        (2, ["submit", "model.safetensors", "--split", "val", "--out", "submission", "--quiet"]),
    )
    one, *others = (json.loads((place / f"{world}.json").read_text()) for world in (1, 2, 3))
    assert one["images"] == 5
    assert all(other == one for other in others)
    assert "11 index images in masks\n" in done.stdout
    assert done.stdout.count("submission/results.tar.gz: 5 masks") == 1
    assert len(list((place / "masks").iterdir())) == 11
    for path in (place / "saved1").iterdir():
        np.testing.assert_array_equal(read_mask(path, VOC), read_mask(place / "saved2" / path.name, VOC))
        submitted = place / "submission" / "results" / "VOC2012" / "Segmentation" / "comp6_val_cls" / path.name
        np.testing.assert_array_equal(read_mask(path, VOC), read_mask(submitted, VOC))


# Rank 1 comes to grief at iteration 5.
SCRIPT = """
import os, sys
from seg.cli.main import main
from seg.errors import UserError
from seg.training.trainer import Trainer

update = Trainer._update

def failing(self, *arguments):
    if self.state.iteration == 5 and os.environ["RANK"] == "1":
        raise UserError("voc/JPEGImages/x.jpg: is gone")
    return update(self, *arguments)

Trainer._update = failing
sys.exit(main(["train", "small.yaml", "--quiet"]))
"""


def test_the_error_of_one_process_is_printed_and_all_processes_end(place):
    (place / "failing.py").write_text(SCRIPT)
    done = torchrun(place, "failing.py")
    assert done.returncode != 0
    assert "seg: rank 1: voc/JPEGImages/x.jpg: is gone" in done.stderr
    # torchrun's own, which says that a process failed.
    assert done.stderr.count("Traceback") == done.stderr.count("ChildFailedError(") == 1


# In the first run the data of rank 1 is damaged, in the second that of rank 0.
DAMAGED = """
import sys
from tests.helpers.forks import run
codes = [run(2, ["train", "small.yaml", "--quiet", "data.root=%s${oc.env:RANK}" % name]) for name in ("first", "second")]
sys.exit(codes != [[2, 2], [2, 2]])
"""


def test_bad_data_in_one_process_ends_all_processes_with_one_line(place):
    for name in ("first0", "first1", "second0", "second1"):
        shutil.copytree(place / "voc", place / name)
    for name in ("first1", "second0"):
        image = place / name / "JPEGImages" / "toy_002.jpg"
        image.write_bytes(image.read_bytes()[:300])
    done = python(place, "-c", DAMAGED)
    assert done.returncode == 0, done.stderr
    first, second = done.stderr.splitlines()
    assert "first1/JPEGImages/toy_002.jpg: not a readable image" in first and first.endswith("(on rank 1)")
    assert "second0/JPEGImages/toy_002.jpg: not a readable image" in second


STOPPING = """
import os, sys
from seg.config import load
from seg.distributed import process_group, rank
from seg.training import Trainer

class Stop:
    def on_step(self, run, iteration, loss, learning_rate):
        if iteration == 5 and rank() == 1:
            run.stop()

    def on_end(self, run):
        print(rank(), run.iteration, run.stopped, len(run.metrics), flush=True)

with process_group():
    Trainer(load("small.yaml"), quiet=True, callbacks=[Stop()]).run()
"""


def test_a_callback_of_one_process_stops_all_processes(place):
    (place / "stopping.py").write_text(STOPPING)
    done = torchrun(place, "stopping.py")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["0 7 True 7", "1 7 True 7"]
    assert checkpoint.read(place / "runs" / "small" / "last.ckpt")["state"]["iteration"] == 7


def test_the_script_under_torchrun_prints_a_user_error_once(place):
    done = torchrun(place, ROOT / "tools" / "train.py", "small.yaml", "train.batch_size=5")
    assert done.returncode != 0
    assert done.stderr.count("train.batch_size=5: cannot be split evenly over 2 processes") == 1
