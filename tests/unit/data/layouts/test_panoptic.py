"""COCO's panoptic annotations: crowds, files that do not fit, and data sets that have instances too."""

import json

import numpy as np
import pytest

from seg.data.layouts import open_layout
from seg.data.layouts.base import Hints
from seg.data.layouts.create import create_dataset
from seg.data.voc import open_split
from tests.helpers.layouts import CASES, closed
from tests.helpers.toy import refused, toy_sample

FILE = "annotations/panoptic_train2017.json"


def changed(root, change):
    """The panoptic case with its training JSON changed."""
    CASES["coco_panoptic"].write(root)
    data = json.loads((root / FILE).read_text())
    change(data)
    (root / FILE).write_text(json.dumps(data))


def test_crowds_are_void(tmp_path):
    def crowd(data):
        for segment in data["annotations"][0]["segments_info"]:
            segment["iscrowd"] = int(segment["category_id"] == 18)

    changed(tmp_path / "mine", crowd)
    made = create_dataset(tmp_path / "mine", Hints(), tmp_path / "made")
    _, mask = open_split(made.out, "train", made.labels).sample(0)
    truth = closed(toy_sample(0)[1]) - np.uint8(1)
    assert (truth == 1).any()
    np.testing.assert_array_equal(mask, np.where(truth == 1, 255, truth))


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda data: data["annotations"][0]["segments_info"].pop(),
            ["t0.png: segment ", "is not in the JSON's segments_info"],
        ),
        (
            lambda data: data["annotations"][0]["segments_info"][0].update(category_id=9),
            [FILE, "annotations[0]", "category_id"],
        ),
        (lambda data: data["categories"].append(3), [FILE, "categories[4] has no valid 'id'"]),
        (lambda data: data.pop("images"), [FILE, "must have a list 'images'"]),
    ],
)
def test_annotations_that_do_not_fit_are_refused(tmp_path, change, said):
    changed(tmp_path / "mine", change)
    with refused(*said):
        create_dataset(tmp_path / "mine", Hints(), tmp_path / "made")


def test_instances_are_read_where_both_are_there(tmp_path):
    CASES["coco_panoptic"].write(tmp_path)
    CASES["coco"].write(tmp_path)
    layout = open_layout(tmp_path, Hints())
    assert layout.name == "coco" and any("--layout panoptic" in note for note in layout.notes)
    assert open_layout(tmp_path, Hints(layout="panoptic")).name == "panoptic"
