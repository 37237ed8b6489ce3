"""The commands and Python examples of the README and its companions run as they stand, on toy data with a small network."""

import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from seg.cli.main import main, parser
from tests.helpers.paths import ROOT
from tests.helpers.toy import save_palette, toy_sample, toy_voc

PAGES = ("README.md", "data/README.md", "docs/xception.md")
SMALL = shlex.split(
    "model.backbone=xception41 model.width=0.125 model.aspp.channels=16 model.decoder.low_level_channels=8 "
    "model.decoder.convolutions=[[3,16]] data.crop_size=33 data.num_workers=0 train.iterations=2 train.batch_size=2 train.validate_every=2 "
    "evaluate.canvas=null"
)
WEIGHTS = "runs/voc_xception65/best.safetensors"

NOT_RUN = {
    "git clone": "is how one comes here",
    "cd seg": "is how one comes here",
    "make quickstart": "takes minutes; CI's clone is tested by make test",
    "pip install": "is what make does",
    "tensorboard": "serves until it is stopped",
    "$EDITOR": "is the reader's",
    "torchrun": "is tests/integration/test_processes.py",
    "seg data download": "needs the network; tests/unit/data/prepare/test_download.py has a server",
    "seg data prepare trainaug": "needs SBD; tests/unit/data/prepare/test_sbd.py writes one",
    "seg convert tf:": "needs a released checkpoint; tests/unit/weights/test_convert.py writes one",
    "seg train configs/voc_xception65.yaml model.weights=timm:": "needs a hub; tests/integration/test_hub.py is one",
    "seg benchmark": "takes minutes; tests/unit/benchmark/test_benchmark.py has small sections",
    "seg serve": "serves until it is stopped; tests/serve",
    "curl": "needs the server; tests/serve",
    "python tests/oracle/__main__.py": "is tests/integration/test_oracle.py",
    "python -m tests.stress": "are long; tests/end_to_end has short ones",
    "seg share": "tests/weights has it",
    "seg predict runs/voc_xception65/best.safetensors camera:": "needs a camera",
}
"""Beginnings of commands that are not run here, and why; what seg's own parser takes is still asked of it."""


def blocks(text: str) -> list[str]:
    """The parts of a page that are indented by four, or fenced."""
    found, lines, fenced, before = [], [], False, ""
    for line in [*text.splitlines(), "end"]:
        if line.startswith("```"):
            fenced = not fenced
            line = ""
        elif fenced or (line.startswith("    ") and (lines or not before.strip())):
            lines.append(line if fenced else line[4:])
        elif lines and line.strip():
            found.append("\n".join(lines))
            lines = []
        elif lines:
            lines.append("")
        before = line
    return found


def kind(block: str) -> str:
    if re.search(r"^import seg$|^(from|import) seg\b", block, re.M):
        return "python"
    word = block.split()[0]
    return "shell" if word in ("seg", "make", "git", "pip", "python", "torchrun", "curl") else "text"


def commands(block: str) -> list[str]:
    """Its commands: continued lines joined, comments and prompts left out, `&&` taken apart."""
    joined = re.sub(r"\\\n\s*", "", block)
    lines = [re.sub(r"\s+#.*$", "", line).strip() for line in joined.splitlines()]
    return [command.strip() for line in lines if line and not line.startswith("#") for command in line.split("&&")]


def blocks_of(wanted: str) -> list[tuple[str, str]]:
    return [(page, block) for page in PAGES for block in blocks((ROOT / page).read_text()) if kind(block) == wanted]


def name(given) -> str:
    return re.sub(r"\W+", "-", given[1].splitlines()[0])[:60]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder in which the README's names mean something."""
    place = tmp_path_factory.mktemp("readme")
    for folder in ("configs", "tools", "tests", "docs"):
        (place / folder).symlink_to(ROOT / folder)
    voc = toy_voc(place / "data/VOC2012")
    lists = voc / "ImageSets/Segmentation"
    for copy in ("trainaug", "trainval"):
        shutil.copy(lists / "train.txt", lists / f"{copy}.txt")
    test = place / "data/VOC2012_test"
    (test / "ImageSets/Segmentation").mkdir(parents=True)
    (test / "JPEGImages").symlink_to(voc / "JPEGImages")
    shutil.copy(lists / "val.txt", test / "ImageSets/Segmentation/test.txt")
    for folder in ("MASKS", "photos", "data/mine/images", "data/mine/masks"):
        (place / folder).mkdir(parents=True)
    for path in (voc / "SegmentationClass").iterdir():
        with Image.open(path) as mask:
            save_palette(place / "MASKS" / path.name, np.array(mask) % 255)
    for number in range(10):
        image, mask = toy_sample(number)
        Image.fromarray(image).save(place / f"data/mine/images/{number}.jpg")
        Image.fromarray(mask).save(place / f"data/mine/masks/{number}.png")
    for path in (place / "photo.jpg", place / "photos/a.jpg", place / "photos/b.jpg"):
        shutil.copy(place / "data/mine/images/0.jpg", path)
    street = cv2.VideoWriter(str(place / "street.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 48))
    street.write(toy_sample(0)[0])
    street.release()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["train", "configs/voc_xception65.yaml", *SMALL, "--quiet"]) == 0
        assert main(shlex.split("data scenes data/scenes --train 2 --val 1 --size 64 --quiet")) == 0
    shutil.copy(place / WEIGHTS, place / "deeplab.safetensors")
    return place


@pytest.fixture
def place(trained, monkeypatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


def arguments(command: str) -> list[str]:
    words = [WEIGHTS if word == "WEIGHTS" else word for word in shlex.split(command)[1:]]
    if words[0] == "train":
        # A run of its own for each, but for what goes on with the one that is there.
        words += SMALL + ([] if "--resume" in words else [f"name=run{len(list(Path('runs').iterdir()))}"])
    return words


@pytest.mark.parametrize("page, block", blocks_of("shell"), ids=map(name, blocks_of("shell")))
def test_the_commands_of_a_block_run(place, capsys, page, block):
    for command in commands(block):
        reason = next((reason for beginning, reason in NOT_RUN.items() if command.startswith(beginning)), None)
        if command.startswith("seg "):
            parser().parse_known_args(arguments(command))  # ends the test where a flag is unknown
        if reason is None:
            assert command.startswith("seg "), f"{page}: {command}: neither run nor named in NOT_RUN"
            words = arguments(command)
            if words[:2] == ["data", "init"]:  # which two pages tell of, and which overwrites nothing
                shutil.rmtree("data/mine/voc", ignore_errors=True)
            if words[:2] == ["info", "configs/voc_xception65.yaml"]:
                words += ["model.width=0.25"]
            assert main(words) == 0, f"{page}: {command}: {capsys.readouterr().err}"


@pytest.mark.parametrize("page, block", blocks_of("python"), ids=map(name, blocks_of("python")))
def test_a_python_example_runs(place, page, block):
    exec(compile(block, page, "exec"), {"__name__": "example"})


def test_every_verb_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    verbs = next(action.choices for action in parser()._actions if action.dest == "verb")
    missing = [verb for verb in verbs if f"seg {verb}" not in text]
    assert not missing


def test_links_and_pictures_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text()):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"
