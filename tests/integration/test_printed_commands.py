"""The commands that seg prints run as printed, and those that they print in turn."""

import re
import shlex

import pytest
from PIL import Image

from seg.cli.main import main
from tests.helpers.toy import toy_sample

COMMAND = re.compile(r"(?:^  [a-z ]+:|correction:) +(seg .+)$", re.M)
"""A line that names a command, such as `  check:  seg data check data/mine/voc`."""
SMALL = shlex.split(
    "model.backbone=xception41 model.width=0.125 model.aspp.channels=16 model.decoder=null model.weights=random "
    "data.crop_size=33 data.num_workers=0 train.iterations=2 train.batch_size=2 train.validate_every=2"
)
"""What makes a training small enough for a test."""


def run(capsys, command):
    """Run a command, and return the commands that it prints."""
    words = shlex.split(command)[1:]
    code = main(words + (SMALL if words[0] == "train" else []))
    printed = capsys.readouterr()
    assert code == 0, f"{command}: {printed.err}"
    return COMMAND.findall(printed.out + printed.err)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        image, mask = toy_sample(number)
        for folder, picture in (("images", image), ("masks", mask)):
            (tmp_path / "my data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(tmp_path / "my data" / folder / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize(
    "first, verbs",
    [
        ("seg data init 'my data'", {"check", "train", "evaluate", "report", "predict"}),
        ("seg data scenes 'my scenes' --train 3 --val 2 --size 64", {"train", "evaluate", "report", "predict"}),
    ],
)
def test_printed_commands_run(place, capsys, first, verbs):
    waiting, done = [first], list[str]()
    while waiting:
        command = waiting.pop(0)
        done.append(command)
        waiting += [each for each in run(capsys, command) if each not in [*done, *waiting]]
    assert {shlex.split(command)[2 if " data " in command else 1] for command in done[1:]} >= verbs
    assert len(done) < 12


@pytest.mark.parametrize("mode", ["labelme", "coco"])
def test_the_command_that_reads_corrected_polygons_runs(place, capsys, mode):
    (train,) = [command for command in run(capsys, "seg data init 'my data'") if command.startswith("seg train")]
    score = next(command for command in run(capsys, train) if command.startswith("seg evaluate"))
    weights = shlex.quote(shlex.split(score)[2])
    (command,) = run(capsys, f"seg predict {weights} 'my data/images' --out 'my drafts' --mode {mode}")
    run(capsys, command.replace("FOLDER", "'my data/images'"))
    assert len([*(place / "my drafts/voc/SegmentationClass").iterdir()]) == 8
