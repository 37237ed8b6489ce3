"""The programs in examples/ run as they stand, on a few scenes."""

import os
import subprocess
import sys

import numpy as np
import pytest

import seg
from seg.data import VOCSegmentation
from seg.data.prepare.scenes import SCENES, write_scenes
from seg.evaluation import ConfusionMatrix
from tests.helpers.paths import ROOT

SMALL = ["--iterations", "3", "--batch-size", "2", "--crop-size", "33", "--width", "0.05", "--out", "mine.safetensors"]


@pytest.fixture
def place(tmp_path):
    write_scenes(tmp_path / "scenes", train=4, val=2, size=64)
    return tmp_path


def example(place, name, *arguments):
    command = [sys.executable, str(ROOT / "examples" / name), *arguments, *SMALL]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_loop_of_one_s_own_trains_scores_and_saves(place):
    said = example(place, "own_training_loop.py", "scenes")
    assert "iteration 3: loss" in said
    model, matrix = seg.load(place / "mine.safetensors"), ConfusionMatrix(SCENES)
    assert model.classes == list(SCENES.names)
    for image, truth in VOCSegmentation(place / "scenes", "val", labels=SCENES):
        matrix.update(truth, model.predict(image))
    assert f"mIoU {matrix.scores().miou:.3f}; weights in mine.safetensors" in said


def test_a_dataset_of_one_s_own_trains_and_saves(place):
    folders = ["scenes/JPEGImages", "scenes/SegmentationClass"]
    said = example(place, "custom_dataset.py", *folders, "--classes", *SCENES.names)
    assert "iteration 3: loss" in said
    model = seg.load(place / "mine.safetensors")
    assert model.classes == list(SCENES.names)
    assert model.predict(place / "scenes" / "JPEGImages" / "scene_00004.jpg").dtype == np.uint8
