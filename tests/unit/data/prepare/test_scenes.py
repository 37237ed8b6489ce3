"""Synthetic scenes: layout, masks and classes. Color alone does not reveal the class."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from seg import labels
from seg.data.prepare import scenes
from seg.data.prepare.scenes import SCENES, scene, write_scenes
from seg.errors import UserError

LEGAL = {*range(len(SCENES)), labels.VOID}


@pytest.fixture(scope="module")
def some():
    return [scene(0, number, 128) for number in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, done = tmp_path_factory.mktemp("scenes") / "new" / "set", []
    write_scenes(root, train=5, val=3, size=96, seed=7, progress=done.append)
    assert done == list(range(1, 9))
    return root


def listed(root, name):
    return (root / "ImageSets" / "Segmentation" / f"{name}.txt").read_text().splitlines()


def test_scenes_are_written_with_lists(folder):
    train, val = listed(folder, "train"), listed(folder, "val")
    assert (len(train), len(val)) == (5, 3) and not set(train) & set(val)
    names = listed(folder, "trainval")
    assert names == train + val == [f"scene_{i:05d}" for i in range(8)]
    assert sorted(p.name for p in (folder / "JPEGImages").iterdir()) == [f"{n}.jpg" for n in names]
    assert sorted(p.name for p in (folder / "SegmentationClass").iterdir()) == [f"{n}.png" for n in names]
    assert {p.name for p in folder.iterdir()} == {"JPEGImages", "SegmentationClass", "ImageSets", "labels.yaml"}


def test_the_label_set_of_the_scenes_is_read_back(folder):
    assert labels.load(str(folder / "labels.yaml")) == SCENES


def test_the_files_contain_the_scenes(folder):
    for number, name in enumerate(listed(folder, "trainval")):
        image, mask = scene(7, number, 96)
        with Image.open(folder / "SegmentationClass" / f"{name}.png") as png:
            assert png.mode == "P"
            assert np.array_equal(np.array(png.getpalette("RGB"), np.uint8).reshape(-1, 3), SCENES.palette)
            assert np.array_equal(np.array(png), mask)
        with Image.open(folder / "JPEGImages" / f"{name}.jpg") as jpeg:
            assert jpeg.mode == "RGB" and jpeg.format == "JPEG"
            assert {layer[1:3] for layer in jpeg.layer} == {(1, 1)}, "color is subsampled"
            assert np.abs(np.array(jpeg, float) - image).mean() < 6


def test_two_sets_of_scenes_have_the_same_bytes(folder, tmp_path):
    write_scenes(tmp_path, train=5, val=3, size=96, seed=7)
    files = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    assert len(files) == 2 * 8 + 4
    assert all((folder / p).read_bytes() == (tmp_path / p).read_bytes() for p in files)


def test_an_existing_set_is_not_changed(folder):
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.raises(UserError, match="choose another folder or delete it") as error:
        write_scenes(folder, train=1, val=1, size=64)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


@pytest.mark.parametrize("wrong", [{"train": 0}, {"val": 0}, {"size": 63}, {"seed": -1}])
def test_numbers_that_are_too_small_are_refused(tmp_path, wrong):
    with pytest.raises(UserError, match="need train"):
        write_scenes(tmp_path / "set", **wrong)
    assert not (tmp_path / "set").exists()


def test_a_scene_depends_only_on_its_arguments(some):
    image, mask = scene(0, 3, 128)
    assert np.array_equal(image, some[3][0]) and np.array_equal(mask, some[3][1])
    assert len({i.tobytes() for i, _ in some}) == len({m.tobytes() for _, m in some}) == len(some)
    assert scene(1, 3, 128)[0].tobytes() != image.tobytes()


def test_scenes_have_the_given_size_and_valid_values(some):
    for image, mask in some:
        assert image.dtype == mask.dtype == np.uint8 and image.shape == (*mask.shape, 3)
        assert max(mask.shape) == 128 and min(mask.shape) >= 0.69 * 128
        assert set(np.unique(mask)) <= LEGAL
    assert {m.shape[0] > m.shape[1] for _, m in some} == {True, False}
    assert len({m.shape for _, m in some}) > 10
    assert max(scene(0, 0, 64)[1].shape) == 64 and max(scene(0, 0, 333)[1].shape) == 333


def test_every_scene_has_objects_and_every_class_its_share(some):
    assert all(set(np.unique(m)) - {0, labels.VOID} for _, m in some)
    count = sum(np.bincount(m.ravel(), minlength=256) for _, m in some)
    share = count[: len(SCENES)] / count.sum()
    assert 0.45 < share[0] < 0.8
    assert share[1:].min() > 0.01 and share[1:].max() < 3 * share[1:].min()
    assert 0.03 < count[labels.VOID] / count.sum() < 0.15


@pytest.mark.parametrize("size, reach", [(64, 2), (192, 3), (384, 4)])
def test_void_is_only_a_band_along_outlines(size, reach):
    for number in range(5):
        _, mask = scene(0, number, size)
        # The composition that `scene` starts with: which object every pixel shows, without void.
        _, owner, kinds = scenes._compose(np.random.Generator(np.random.PCG64([0, number])), size)
        void = mask == labels.VOID
        assert np.array_equal(mask[~void], kinds[owner][~void])
        around = np.ones((2 * reach + 1,) * 2, np.uint8)
        assert (cv2.dilate(owner, around) != cv2.erode(owner, around))[void].all(), "void far from any outline"
        for a, b, v, w in (
            (owner[1:], owner[:-1], void[1:], void[:-1]),
            (owner[:, 1:], owner[:, :-1], void[:, 1:], void[:, :-1]),
        ):
            assert (v & w)[a != b].all(), "an outline without void"


def miou(predicted, true):
    n, known = len(SCENES), true != labels.VOID
    table = np.bincount(true[known].astype(int) * n + predicted[known], minlength=n * n).reshape(n, n)
    return (table.diagonal() / np.maximum(table.sum(0) + table.sum(1) - table.diagonal(), 1)).mean()


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("bits", [3, 4])
def test_classification_by_color_alone_scores_badly(some, bits, balanced):
    """The likeliest class of a pixel's color bin, by a histogram of `bits` bits a channel, in 20 other scenes."""

    def flat(part):
        image, mask = np.concatenate([i.reshape(-1, 3) for i, _ in part]), np.concatenate([m.ravel() for _, m in part])
        bins = (image >> (8 - bits)).astype(int)
        return (bins[:, 0] << 2 * bits) + (bins[:, 1] << bits) + bins[:, 2], mask

    color, mask = flat(some[:40])
    n, known = len(SCENES), mask != labels.VOID
    histogram = np.bincount(color[known] * n + mask[known], minlength=n << 3 * bits).reshape(-1, n)
    if balanced:
        histogram = histogram / histogram.sum(0)
    color, mask = flat(some[40:])
    assert miou(mask.clip(0, n - 1), mask) == 1
    assert miou(histogram.argmax(1)[color], mask) < 0.35


def test_this_module_does_not_import_torch():
    code = "import sys, seg.data.prepare.scenes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
