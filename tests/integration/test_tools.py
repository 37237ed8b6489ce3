"""The scripts in tools/, as a user runs them: scenes, training, evaluation, pictures."""

import json
import subprocess
import sys

import pytest

from seg.data.images import read_image
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow

SMALL = [
    "data.root=scenes",
    "data.labels=scenes/labels.yaml",
    "data.crop_size=65",
    "data.num_workers=1",
    "model.width=0.125",
    "train.iterations=30",
    "train.batch_size=4",
    "train.validate_every=15",
]


def run(folder, *command) -> str:
    done = subprocess.run([sys.executable, *map(str, command)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a small training on scenes."""
    folder = tmp_path_factory.mktemp("tools")
    run(folder, "-m", "seg", "data", "scenes", "scenes", "--train", "12", "--val", "3", "--size", "64", "--quiet")
    run(folder, ROOT / "tools" / "train.py", ROOT / "configs" / "quickstart.yaml", *SMALL, "--quiet")
    return folder


def test_scripts_train_evaluate_and_visualize(trained):
    weights = trained / "runs" / "quickstart" / "best.safetensors"
    out = run(trained, ROOT / "tools" / "evaluate.py", weights, "--json", "scores.json", "--quiet")
    assert "mIoU" in out
    assert json.loads((trained / "scores.json").read_text())["images"] == 3
    lists = "scenes/ImageSets/Segmentation/val.txt"
    run(trained, ROOT / "tools" / "visualize.py", weights, lists, "--out", "pictures", "--quiet")
    pictures = sorted((trained / "pictures").iterdir())
    assert len(pictures) == 3
    run(trained, ROOT / "tools" / "draw_examples.py", weights.parent, "examples.png", "--count", "2", "--side", "100")
    examples = read_image(trained / "examples.png")
    assert examples.shape[1] == 3 * 100 + 2 * 4 and examples.shape[0] > 2 * 100
    run(trained, ROOT / "tools" / "draw_sizes.py", weights, "sizes.png")
    assert read_image(trained / "sizes.png").shape[1] == read_image(ROOT / "docs" / "sizes.png").shape[1]
    for picture in pictures:
        image, panels = read_image(trained / "scenes" / "JPEGImages" / f"{picture.stem}.jpg"), read_image(picture)
        assert panels.shape[1] == 2 * image.shape[1] + 4
        assert panels.shape[0] > image.shape[0]
        assert panels.std() > 0


def test_the_screenshots_of_the_documents_are_taken(trained, browser):
    run(trained, "-m", "seg", "report", "runs/quickstart", "--quiet")
    run(trained, ROOT / "tools" / "draw_screenshots.py", "runs/quickstart", ".")
    for name in ("report.jpg", "serve.jpg"):
        assert read_image(trained / name).shape == (860, 1280, 3) and read_image(trained / name).std() > 0


def test_every_configuration_loads_and_builds():
    import torch

    from seg.config import load
    from seg.labels import VOC
    from seg.models.factory import build_model

    paths = sorted((ROOT / "configs").glob("*.yaml"))
    assert len(paths) >= 8
    for path in paths:
        head = path.read_text().split("\nmodel:")[0]
        assert all(word in head for word in ("seg train", "# hardware", "# score")), f"{path}: header"
        config = load(path)
        with torch.device("meta"):
            build_model(config.model, len(VOC))
