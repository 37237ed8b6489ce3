"""The programs in examples/ run unchanged on a few scenes; of the notebook, the numbers are made small."""

import ast
import json
import os
import re
import runpy
import subprocess
import sys

import matplotlib.pyplot
import numpy as np
import pytest
from PIL import Image

import seg
from seg.cli.main import parse
from seg.data import VOCSegmentation
from seg.data.prepare.scenes import SCENES, write_scenes
from seg.evaluation import ConfusionMatrix
from seg.models import deeplabv3plus_xception41
from tests.helpers.packaging import project
from tests.helpers.paths import ROOT
from tests.helpers.toy import picture

SMALL = ["--iterations", "3", "--batch-size", "2", "--crop-size", "33", "--width", "0.05", "--out", "mine.safetensors"]


@pytest.fixture
def example(tmp_path, monkeypatch, capsys):
    """Run a program in a folder with a few scenes, and return its output."""
    write_scenes(tmp_path / "scenes", train=4, val=2, size=64)
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments, *SMALL])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_a_loop_of_one_s_own_trains_scores_and_saves(example):
    said = example("own_training_loop.py", "scenes")
    assert "iteration 3: loss" in said
    model, matrix = seg.load("mine.safetensors"), ConfusionMatrix(SCENES)
    assert model.classes == list(SCENES.names)
    for image, truth in VOCSegmentation("scenes", "val", labels=SCENES):
        matrix.update(truth, model.predict(image))
    assert f"mIoU {matrix.scores().miou:.3f}; weights in mine.safetensors" in said


def test_a_dataset_of_one_s_own_trains_and_saves(example):
    folders = ["scenes/JPEGImages", "scenes/SegmentationClass"]
    said = example("custom_dataset.py", *folders, "--classes", *SCENES.names)
    assert "iteration 3: loss" in said
    model = seg.load("mine.safetensors")
    assert model.classes == list(SCENES.names)
    assert model.predict("scenes/JPEGImages/scene_00004.jpg").dtype == np.uint8


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The file of a small network of VOC's classes, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return seg.save(deeplabv3plus_xception41(21, width=0.05), tmp_path / "small.safetensors", labels="voc")


def notebook(source, replaced):
    """Run the cells of a notebook from top to bottom, with the texts replaced; its names."""
    cells = json.loads((ROOT / "examples" / source).read_text())["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for text, other in replaced.items():
        assert code.count(text) == 1, text
        code = code.replace(text, other)
    names = {}
    exec(compile(ast.parse(code), source, "exec"), names)
    return names


def test_the_notebook_runs_from_top_to_bottom(small, monkeypatch, capsys):
    matplotlib.use("agg")
    names = notebook(
        "quickstart.ipynb",
        {
            '"xception65_voc_trainval"': repr(str(small)),
            "1200, 60, 128, 3500": "8, 3, 64, 3",
        },
    )
    assert names["mask"].shape == names["probabilities"].shape[1:]
    assert names["run"].iteration == 3 and names["run"].miou == names["scores"].miou
    assert names["result"].equal > 0.999
    assert len(matplotlib.pyplot.get_fignums()) >= 2
    matplotlib.pyplot.close("all")
    assert "mIoU" in capsys.readouterr().out


def test_ray_writes_the_mask_of_each_image_once_and_keeps_those_there(small, tmp_path):
    images = tmp_path / "photos" / "day"
    images.mkdir(parents=True)
    for i in range(5):
        Image.fromarray(picture(40, 50, i)).save(images / f"{i}.png")
    (images / "bad.png").write_bytes(b"no image")
    out = tmp_path / "masks"
    (out / "day").mkdir(parents=True)
    (out / "day" / "3.png").write_bytes(b"a mask of before")
    command = [sys.executable, str(ROOT / "examples" / "batch_predict_ray.py"), str(small), str(tmp_path / "photos")]
    command += ["--out", str(out), "--batch-size", "2", "--cpus", "0.5"]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "6 images, of which 1 have their masks" in done.stdout and "4 masks in" in done.stdout
    assert done.stdout.count("no mask:") == 1 and "bad.png" in done.stdout
    model = seg.load(small)
    for i in (0, 1, 2, 4):
        np.testing.assert_array_equal(np.array(Image.open(out / "day" / f"{i}.png")), model.predict(images / f"{i}.png"))
    assert (out / "day" / "3.png").read_bytes() == b"a mask of before"
    assert len(list((out / "day").iterdir())) == 5


def test_the_containers_run_commands_that_exist():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    entries = [json.loads(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT ")]
    assert [entry[1] for entry in entries] == ["serve", "train"]
    for entry in entries:
        args = parse([*entry[1:], "weights" if entry[1] == "serve" else "voc_xception65"])
        assert args.verb == entry[1]
    installed = re.findall(r"\.\[(.*?)\]", "\n".join(lines))
    known = project()["optional-dependencies"]
    assert {extra for part in installed for extra in part.split(",")} <= known.keys()
