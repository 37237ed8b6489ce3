import os
import re
import shlex
import signal

import numpy as np
import pytest
from PIL import Image

from seg.cli.main import main
from seg.config import names
from seg.training.trainer import Trainer
from tests.helpers.command import first, masks, run, the_line, truncate


def write_label(place):
    with Image.open(first(masks(place))) as image:
        mask = np.zeros(image.size[::-1], np.uint8)
    mask[12, 8] = 47
    Image.fromarray(mask).save(first(masks(place)))


MISTAKES = {
    "unknown key": (None, ["train.iteration=5"], r"unknown setting 'train.iteration'; did you mean 'train.iterations'\?"),
    "unknown section": (None, ["data.iterations=5"], r"unknown setting 'data.iterations'; did you mean 'train.iterations'\?"),
    "wrong type": (None, ["train.iterations=many"], r"train\.iterations.*many"),
    "no root": (None, ["data.root=nowhere"], r"nowhere: no such data folder"),
    "small crop": (None, ["data.crop_size=32"], r"data\.crop_size=32: must be at least 33"),
    "no split": (None, ["data.train=trian"], r"trian\.txt: no such split; did you mean 'train'\?"),
    "no weights": (None, ["model.weights=none.safetensors"], r"none\.safetensors: no such weights file"),
    "no mask": (lambda p: first(masks(p)).unlink(), [], r"\.png: no mask for this id"),
    "no image": (lambda p: first(p / "voc" / "JPEGImages").unlink(), [], r"no image for this id"),
    "mask size": (
        lambda p: Image.fromarray(np.zeros((5, 7), np.uint8)).save(first(masks(p))),
        [],
        r"7x5 pixels, but its image",
    ),
    "label": (write_label, [], r"label 47 at \(12, 8\); this label set has 21 classes and 255 for void"),
    "cut JPEG": (lambda p: truncate(first(p / "voc" / "JPEGImages"), 300), [], r"not a readable image"),
    "empty split": (
        lambda p: (p / "voc" / "ImageSets" / "Segmentation" / "train.txt").write_text(""),
        [],
        r"train\.txt: the list is empty",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_user_error_prints_one_line_exits_with_2_and_writes_nothing(place, capsys, name):
    spoil, overrides, message = MISTAKES[name]
    if spoil:
        spoil(place)
    line = the_line(capsys, "train", "small.yaml", "data.root=voc", *overrides, "--quiet")
    assert re.search(message, line), line
    assert not (place / "runs").exists()


def test_overrides_may_stand_after_flags(place, capsys):
    code, out, _ = run(capsys, "train", "small.yaml", "--quiet", "data.root=voc", "train.iterations=1", "name=other")
    assert code == 0
    assert "runs/other/best.safetensors" in out


def test_a_stopped_run_says_how_to_resume(place, capsys, monkeypatch):
    step = Trainer._update

    def interrupted(self, *batch):
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", interrupted)
        code, _, err = run(capsys, "train", "small.yaml", "data.root=voc", "--quiet")
    assert code == 130
    assert "is complete; to resume: seg train runs/small/config.yaml --resume" in err
    assert run(capsys, "train", "small.yaml", "data.root=voc", "--quiet", "--resume")[0] == 0


def test_commands_printed_by_a_run_work(place, capsys):
    code, out, _ = run(capsys, "train", "small.yaml", "data.root=voc", "runs=my runs", "--quiet")
    assert code == 0
    printed = [shlex.split(line.split(":  ", 1)[1]) for line in out.splitlines() if line.startswith("  ")]
    commands = [words for words in printed if words[0] == "seg"]
    assert [words[1] for words in commands] == ["evaluate", "report", "predict"]
    for words in commands:
        assert run(capsys, *words[1:])[0] == 0
    assert len(list((place / "my runs/small/masks").iterdir())) == 3


def test_the_configurations_of_the_package_are_listed(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names()
    assert "a few dozen VOC images" in lines[names().index("voc_mini")]
