"""The programs in examples/ run unchanged on a few scenes."""

import runpy
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
