"""Every layout is read correctly: images, splits, class names, and each pixel of the masks."""

import numpy as np
import pytest

from seg.data.images import read_image
from seg.data.layouts import layouts, open_layout
from seg.data.layouts.base import Hints
from seg.data.layouts.create import create_dataset
from seg.data.validation import check
from seg.data.voc import open_split
from seg.labels import load
from tests.helpers.layouts import CASES
from tests.helpers.toy import refused, toy_sample


def inner(mask):
    """Where a pixel and its eight neighbors are alike."""
    same = np.ones(mask.shape, bool)
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            same &= np.roll(mask, (row, column), (0, 1)) == mask
    same[[0, -1]] = same[:, [0, -1]] = False
    return same


def number_of(image):
    """The number of the toy image, which may be enlarged or compressed."""
    step = image.shape[0] // 48
    small = image[::step, ::step].astype(int)
    far = [np.abs(small - toy_sample(number)[0]).mean() for number in range(6)]
    assert min(far) < 14, "not one of the toy pictures"
    return int(np.argmin(far))


@pytest.mark.parametrize("name", CASES)
def test_a_data_set_is_read_correctly(tmp_path, name):
    case = CASES[name]
    root = tmp_path / "mine"
    root.mkdir()
    case.write(root)
    hints = case.hints(root)
    assert open_layout(root, hints).name == case.layout
    made = create_dataset(root, hints, tmp_path / "made")
    labels = load(str(made.out / "labels.yaml"))
    assert labels == made.labels and labels.values is None
    assert case.names is None or list(labels.names) == case.names
    seen = {}
    for split in made.splits:
        data = open_split(made.out, split, labels)
        seen[split] = []
        for index in range(len(data)):
            image, mask = data.sample(index)
            number = number_of(image)
            seen[split].append(number)
            truth = case.truth(toy_sample(number)[1])
            where = inner(truth) if case.edges else np.ones(truth.shape, bool)
            assert mask.shape == truth.shape
            np.testing.assert_array_equal(mask[where], truth[where], f"{name}: {number}")
    if case.splits:
        assert {split: sorted(numbers) for split, numbers in seen.items()} == case.splits
    else:
        assert (
            sorted(seen["train"] + seen["val"] + seen.get("test", [])) == list(case.numbers) and seen["train"] and seen["val"]
        )
    assert check(made.out, labels).problems == []


def test_every_layout_is_named_and_has_a_case():
    names = [layout.name for layout in layouts()]
    assert len(set(names)) == len(names) and {case.layout for case in CASES.values()} == {*names}


@pytest.mark.parametrize("name", ["coco", "cityscapes", "labelme", "prefix"])
def test_a_layout_may_be_named(tmp_path, name):
    case = CASES[name]
    case.write(tmp_path)
    assert open_layout(tmp_path, Hints(layout=case.layout)).name == case.layout
    with refused("--layout cocoa", "did you mean 'coco'"):
        open_layout(tmp_path, Hints(layout="cocoa"))


def test_a_named_layout_that_the_folder_does_not_have_says_what_is_missing(tmp_path):
    for layout in layouts():
        with refused(tmp_path):
            create_dataset(tmp_path, Hints(layout=layout.name), tmp_path / "made")


def test_several_data_sets_in_a_folder_are_listed(tmp_path):
    CASES["coco"].write(tmp_path / "one")
    CASES["cityscapes"].write(tmp_path / "two")
    (tmp_path / "one" / "annotations").rename(tmp_path / "one" / "labels")
    made = open_layout(tmp_path / "two", Hints())
    assert made.name == "cityscapes"


def test_images_keep_their_pixels(tmp_path):
    CASES["labelme_in_splits_with_names_and_embedded_images"].write(tmp_path)
    made = create_dataset(tmp_path, Hints(), tmp_path / "made")
    found = sorted((made.out / "JPEGImages").iterdir())
    assert [path.stem for path in found] == [f"t{number}" for number in range(6)]
    for number, path in enumerate(found):
        np.testing.assert_array_equal(read_image(path), toy_sample(number)[0])
