"""The commands and Python examples in README.md and docs/ run on toy data."""

import argparse
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from seg.cli.main import main, parser
from seg.weights.zoo import MODELS
from tests.helpers.paths import ROOT
from tests.helpers.toy import save_palette, toy_sample, toy_voc

PAGES = ["README.md", "data/README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
SMALL = shlex.split(
    "model.backbone=xception41 model.width=0.125 model.aspp.channels=16 model.decoder.low_level_channels=8 "
    "model.decoder.convolutions=[[3,16]] data.crop_size=33 data.num_workers=0 train.iterations=2 train.batch_size=2 "
    "train.validate_every=2 evaluate.canvas=null"
)
WEIGHTS = "runs/voc_xception65/best.safetensors"

NOT_RUN = {
    "git clone": "is how one comes here",
    "cd seg": "is how one comes here",
    "make": "takes minutes; CI's clone runs make test",
    "pip install": "is what make does",
    "python examples/": "is tests/integration/test_examples.py",
    "$EDITOR": "is the reader's",
    "labelme": "is another program",
    "tensorboard": "serves until it is stopped",
    "torchrun": "is tests/integration/test_processes.py",
    "eval": "is tests/unit/cli/test_completion.py",
    "curl": "needs the server; tests/unit/serve",
    "seg serve": "serves until it is stopped; tests/unit/serve",
    "seg data download": "needs the network; tests/unit/data/prepare/test_download.py has a server",
    "seg models get": "needs the network; tests/unit/weights/test_published.py has a server",
    "seg data prepare coco": "needs COCO; tests/unit/data/prepare/test_coco.py writes one",
    "seg train coco_xception65": "needs COCO",
    "seg data prepare cityscapes": "needs Cityscapes; tests/unit/data/prepare/test_cityscapes.py writes one",
    "seg train cityscapes": "needs Cityscapes",
    "seg train voc_xception65 model.weights=runs/coco_xception65": "needs COCO",
    "seg data prepare trainaug": "needs SBD; tests/unit/data/prepare/test_sbd.py writes one",
    "seg data scenes data/scenes": "is what `trained` has done",
    "seg convert tf:": "needs a released checkpoint; tests/unit/weights/test_convert.py writes one",
    "seg share": "needs the Hub; tests/integration/test_hub.py is one",
    "seg benchmark": "takes minutes; tests/unit/benchmark/test_benchmark.py has small sections",
    "seg predict runs/voc_xception65/best.safetensors camera:": "needs a camera",
    "python -m tests.oracle": "is tests/integration/test_oracle.py",
    "python -m tests.stress": "are long; tests/integration has short ones",
}
"""Beginnings of commands that are not run, with the reason. The parser still checks those of seg."""

PUBLISHED = re.compile(r"timm:[\w.]+|xception\d\d_[a-z]+")
"""Names of published weights, which need a network. tests/integration/test_hub.py has a hub."""


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


def blocks_of(wanted: str) -> list[tuple[str, str]]:
    return [(page, block) for page in PAGES for language, block in blocks(page) if language == wanted]


def name(given) -> str:
    page, block = given
    return re.sub(r"\W+", "-", f"{Path(page).stem} {block.splitlines()[0]}")[:60]


def commands(block: str) -> list[str]:
    """The commands of a block: continued lines joined, comments removed, split at `&&`."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"\s+#.*$", "", block, flags=re.M))
    lines = [line.strip() for line in joined.splitlines()]
    return [command.strip() for line in lines if line and not line.startswith("#") for command in line.split("&&")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder that has the files named in the documents."""
    place = tmp_path_factory.mktemp("documents")
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
        assert main(["train", "voc_xception65", *SMALL, "--quiet"]) == 0
        assert main(shlex.split("data scenes data/scenes --train 2 --val 1 --size 64 --quiet")) == 0
    shutil.copy(place / WEIGHTS, place / "deeplab.safetensors")
    return place


@pytest.fixture
def place(trained, monkeypatch) -> Path:
    monkeypatch.chdir(trained)
    monkeypatch.setattr("seg.precision.best_precision", lambda device: "bfloat16")  # which every processor can imitate
    return trained


def arguments(command: str) -> list[str]:
    """The words of a command, of a small network that starts from random weights."""
    words = [WEIGHTS if word == "WEIGHTS" or word in MODELS else word for word in shlex.split(command)[1:]]
    published = [word for word in words if PUBLISHED.fullmatch(word.removeprefix("model.weights="))]
    words = [word for word in words if word not in published] + ["model.weights=random"] * bool(
        published and words[0] == "train"
    )
    if words[0] == "train":
        # Each has a run of its own, except one that continues the existing run.
        words += SMALL + ([] if "--resume" in words else [f"name=run{len(list(Path('runs').iterdir()))}"])
    return words


@pytest.mark.parametrize("page, block", blocks_of("sh"), ids=map(name, blocks_of("sh")))
def test_the_commands_in_the_documents_run(place, capsys, page, block):
    for command in commands(block):
        reason = next((reason for beginning, reason in NOT_RUN.items() if command.startswith(beginning)), None)
        if command.startswith("seg "):
            parser().parse_known_args(arguments(command))  # ends the test where a flag is unknown
        if reason is None:
            assert command.startswith("seg "), f"{page}: {command}: neither run nor named in NOT_RUN"
            words = arguments(command)
            if words[:2] == ["data", "init"]:  # which two pages have, and which overwrites nothing
                shutil.rmtree("data/mine/voc", ignore_errors=True)
            assert main(words) == 0, f"{page}: {command}: {capsys.readouterr().err}"


SMALLER = {
    r'"model\.weights=timm:[\w.]+"': ", ".join(map(repr, SMALL)),
    r'weights="timm:[\w.]+"': "weights=None",
    r"crop_size=\d+": "crop_size=65",
    r"model\.onnx": "model.pt2",  # which takes a fifth of the time
}
"""Replacements in a Python example, so that it takes seconds and needs no network."""


@pytest.mark.parametrize("page, block", blocks_of("python"), ids=map(name, blocks_of("python")))
def test_a_python_example_runs(place, page, block):
    for pattern, replacement in SMALLER.items():
        block = re.sub(pattern, replacement, block)
    exec(compile(block, page, "exec"), {"__name__": "example"})


def verbs() -> dict[str, argparse.ArgumentParser]:
    """The parser of each verb, `data` and its kinds included, by its words."""
    found = {}
    todo = [("", parser())]
    while todo:
        words, of = todo.pop()
        found[words.strip()] = of
        for action in of._actions:
            if isinstance(action, argparse._SubParsersAction):
                todo += [(f"{words} {word}", sub) for word, sub in action.choices.items()]
    return found


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_name_verbs_and_flags_that_exist(page):
    known = verbs()
    prose = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    for command in re.findall(r"`seg\s([^`]+)`", prose):
        words = command.split()
        if words[0] in ("VERB", "--help", "--version"):
            continue
        verb = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        assert verb in known, f"{page}: seg {command}"
        flags = {flag for action in known[verb]._actions for flag in action.option_strings}
        unknown = {word for word in words if word.startswith("--")} - flags
        assert not unknown, f"{page}: seg {command}: {unknown}"


def test_every_fenced_block_names_its_language():
    assert not [page for page in PAGES for language, _ in blocks(page) if not language]


def test_every_verb_is_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [verb for verb in verbs() if verb and " " not in verb and f"seg {verb}" not in text]
    assert not missing


def test_every_configuration_is_in_the_page_about_training():
    text = (ROOT / "docs/train.md").read_text(encoding="utf-8")
    assert not [path.stem for path in (ROOT / "configs").iterdir() if f"`{path.stem}`" not in text]


def test_the_tests_that_a_page_names_exist():
    sources = {path.relative_to(ROOT / "tests").as_posix(): path.read_text() for path in (ROOT / "tests").rglob("*.py")}
    for page in (*PAGES, "tests/README.md"):
        for name in re.findall(r"`(?:tests/)?((?:\w+/)*test_\w+(?:\.py)?)`", (ROOT / page).read_text(encoding="utf-8")):
            if name.endswith(".py"):
                assert any(path == name or path.endswith(f"/{name}") for path in sources), f"{page}: {name}"
            else:
                assert any(f"def {name}(" in source for source in sources.values()), f"{page}: {name}"


def test_links_and_pictures_exist():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text(encoding="utf-8")):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"
