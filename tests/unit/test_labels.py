import json

import numpy as np
import pytest
import yaml

from seg.errors import UserError
from seg.labels import BUILT_IN, VOC, VOID, LabelSet, from_dict, load
from tests.helpers.toy import refused

# The color map that the PASCAL VOC development kit publishes.
PUBLISHED = {
    "background": (0, 0, 0),
    "aeroplane": (128, 0, 0),
    "bicycle": (0, 128, 0),
    "bird": (128, 128, 0),
    "boat": (0, 0, 128),
    "bottle": (128, 0, 128),
    "bus": (0, 128, 128),
    "car": (128, 128, 128),
    "cat": (64, 0, 0),
    "chair": (192, 0, 0),
    "cow": (64, 128, 0),
    "diningtable": (192, 128, 0),
    "dog": (64, 0, 128),
    "horse": (192, 0, 128),
    "motorbike": (64, 128, 128),
    "person": (192, 128, 128),
    "pottedplant": (0, 64, 0),
    "sheep": (128, 64, 0),
    "sofa": (0, 192, 0),
    "train": (128, 192, 0),
    "tvmonitor": (0, 64, 128),
}


def test_voc_is_the_published_names_and_colors():
    assert dict(zip(VOC.names, VOC.colors, strict=True)) == PUBLISHED
    assert list(VOC.names) == list(PUBLISHED) and len(VOC) == 21
    assert VOID == 255 and VOC.void_color == (224, 224, 192)


@pytest.mark.parametrize("name", ["background", "Background", "bg", "_background_", " BG "])
def test_the_background_is_the_class_of_that_name(name):
    labels = from_dict({"classes": ["sky", name, "road"]}, "here")
    assert labels.background == 1 and labels.colors[1] == (0, 0, 0)


@pytest.mark.parametrize("names", [["sky", "road"], ["background noise", "ground"]])
def test_a_label_set_without_background_has_none(names):
    assert from_dict({"classes": names}, "here").background is None


def test_of_the_built_in_sets_only_voc_has_a_background():
    assert VOC.background == 0
    assert all(labels.background is None for name, labels in BUILT_IN.items() if name != "voc")


def test_rgb_masks_have_vocs_colors_unless_the_label_set_has_its_own():
    names_alone = from_dict({"classes": ["sky", "sea", "sand"]}, "here")
    assert names_alone.mask_colors == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    own = LabelSet(names_alone.names, ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    assert own.mask_colors == own.colors
    assert VOC.mask_colors == VOC.colors


def test_the_palette_has_the_colors_of_the_label_set_then_vocs_color_map():
    labels = LabelSet(("a", "b"), ((1, 2, 3), (4, 5, 6)), (7, 8, 9))
    palette = labels.palette
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    assert palette[:2].tolist() == [[1, 2, 3], [4, 5, 6]] and palette[255].tolist() == [7, 8, 9]
    assert palette[2].tolist() == [0, 128, 0]
    assert VOC.palette[15].tolist() == [192, 128, 128] and VOC.palette[255].tolist() == [224, 224, 192]


def test_label_set_is_read_back_from_yaml(tmp_path):
    labels = LabelSet(("road", "ciel é"), ((1, 2, 3), (4, 5, 6)), (0, 0, 1))
    for number, wanted in enumerate((labels, VOC)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(wanted.as_dict()), encoding="utf-8")
        assert load(str(path)) == wanted


def test_voc_is_built_in():
    assert load("voc") is VOC


def test_names_alone_take_the_default_colors(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text("classes: [sky, {name: sea, color: [9, 8, 7]}, {name: sand}]")
    labels = load(str(path))
    assert labels.names == ("sky", "sea", "sand")
    assert labels.colors == ((230, 159, 0), (9, 8, 7), (0, 158, 115))
    assert labels.void_color == (224, 224, 192)


def test_a_label_set_has_up_to_255_classes():
    assert len(from_dict({"classes": [f"c{i}" for i in range(255)]}, "here")) == 255
    with pytest.raises(UserError, match="2 to 255 classes"):
        from_dict({"classes": [f"c{i}" for i in range(256)]}, "here")


@pytest.mark.parametrize(
    "value, message",
    [
        ({}, "'classes' must list 2 to 255 classes"),
        ({"classes": ["a"]}, "'classes' must list 2 to 255 classes"),
        ({"classes": {"a": 1, "b": 2}}, "'classes' must list 2 to 255 classes"),
        ({"classes": ["a", "b"], "colors": []}, "unknown key 'colors'; a label set has 'classes' and 'void_color'"),
        ({"classes": ["a", "b"], "colors": [], 0: "a"}, "unknown key .*; a label set has 'classes' and 'void_color'"),
        (3, "a label set must be a mapping with 'classes', not 3"),
        ({"classes": ["a", "b\x1b[2J"]}, "class 1 has a name that cannot be shown"),
        ({"classes": ["a", True]}, "class 1 must be a name"),
        ({"classes": ["a", {"color": [1, 2, 3]}]}, "class 1 must be a name"),
        ({"classes": ["a", {"name": "b", "colour": [1, 2, 3]}]}, "class 1 must be a name"),
        ({"classes": ["a", ["b"]]}, "class 1 must be a name"),
        ({"classes": ["a", {"name": "b", "color": [1, 2]}]}, "class b: color must be three numbers from 0 to 255"),
        ({"classes": ["a", {"name": "b", "color": [1, 2, 256]}]}, "class b: color must be three numbers"),
        ({"classes": ["a", {"name": "b", "color": [-1, 2, 3]}]}, "class b: color must be three numbers"),
        ({"classes": ["a", {"name": "b", "color": [0.5, 2, 3]}]}, "class b: color must be three numbers"),
        ({"classes": ["a", {"name": "b", "color": "red"}]}, "class b: color must be three numbers"),
        ({"classes": ["a", "b"], "void_color": 3}, "void_color: color must be three numbers"),
        ({"classes": ["a", "b", "a"]}, "two classes have the name a"),
        ({"classes": ["a", {"name": "b", "color": [230, 159, 0]}]}, "two classes have the color .230, 159, 0."),
        ({"classes": ["a", "b"], "void_color": [86, 180, 233]}, "two classes have the color .86, 180, 233."),
    ],
)
def test_a_wrong_label_set_is_a_user_error_that_names_the_place(value, message):
    with pytest.raises(UserError, match=message) as error:
        from_dict(value, "labels.yaml")
    assert str(error.value).startswith("labels.yaml: ") and "\n" not in str(error.value)


def test_a_missing_label_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="a label set cannot be read"):
        load(str(tmp_path / "none.yaml"))


# What mask values mean.

ANIMALS = {"classes": ["background", "animal"], "values": {0: "background", 1: "animal", 2: "animal", "9,8,7": "void"}}


def test_the_flag_values_assigns_classes_and_is_read_back(tmp_path):
    labels = from_dict(ANIMALS, "here")
    assert labels.values == ((0, 0), (1, 1), (2, 1), ((9, 8, 7), VOID))
    assert labels.indexed.values is None and labels.indexed.names == labels.names
    path = tmp_path / "labels.yaml"
    path.write_text(yaml.safe_dump(labels.as_dict()))
    assert load(str(path)) == labels
    # JSON, in which weights keep it, has no keys but texts.
    assert from_dict(json.loads(json.dumps(labels.as_dict())), "here") == labels


@pytest.mark.parametrize(
    "values, message",
    [
        ([0, 1], "'values' must map mask values to class names, as {0: background, 255: void}"),
        ({}, "'values' must map mask values"),
        ({0: "backgroud"}, "values: 0: no class is named 'backgroud'; did you mean 'background'"),
        ({0: None}, "values: 0: no class is named None"),
        ({0: ["animal"]}, "values: 0: no class is named"),
        ({-1: "animal"}, "values: -1 must be an integer from 0 to 65535, or a color 'r,g,b'"),
        ({65536: "animal"}, "values: 65536 must be an integer"),
        ({True: "animal"}, "values: True must be an integer"),
        ({0.5: "animal"}, "values: 0.5 must be an integer"),
        ({"1,2": "animal"}, "values: '1,2' must be an integer"),
        ({"1,2,256": "animal"}, "values: '1,2,256' must be an integer"),
        ({"²": "animal"}, "values: '²' must be an integer"),
        ({7: "animal", "7": "background"}, "values: 7 is listed twice"),
    ],
)
def test_wrong_values_are_a_user_error_that_names_the_place(values, message):
    with refused("labels.yaml: ", message):
        from_dict({"classes": ["background", "animal"], "values": values}, "labels.yaml")


def test_a_class_named_void_is_refused_beside_values():
    with refused("a class is named 'void'"):
        from_dict({"classes": ["a", "void"], "values": {0: "a"}}, "labels.yaml")


def test_a_label_set_of_one_class_is_refused_with_a_corrected_one():
    for entry in ("crack", {"name": "crack"}):
        with refused("classes: [background, crack]"):
            from_dict({"classes": [entry]}, "labels.yaml")


def test_built_in_sets_have_the_published_numbers_of_classes_and_distinct_colors():
    for name, count in (("voc", 21), ("cityscapes", 19), ("cityscapes_train_ids", 19), ("ade20k", 150), ("camvid", 11)):
        labels = load(name)
        assert len(labels) == len(set(labels.names)) == len(labels.colors) == count
        assert len({*labels.colors, labels.void_color}) == count + 1
        assert from_dict(labels.as_dict(), name) == labels
    with refused("no built-in label set of this name", "did you mean 'cityscapes'"):
        load("cityscape")


def test_cityscapes_reads_the_published_label_ids():
    # Label ids and train ids of the 19 classes, as the data set's authors publish them.
    wanted = {7: "road", 8: "sidewalk", 11: "building", 17: "pole", 21: "vegetation", 24: "person", 26: "car", 33: "bicycle"}
    labels = load("cityscapes")
    values = dict(labels.values)
    assert {value: labels.names[values[value]] for value in wanted} == wanted
    assert [value for value, index in values.items() if index == VOID] == [*range(7), 9, 10, 14, 15, 16, 18, 29, 30]
    assert values.keys() == {*range(34)} and {*values.values()} == {*range(19), VOID}
    train_ids = load("cityscapes_train_ids")
    assert train_ids == labels.indexed and [train_ids.names[i] for i in (0, 11, 13, 18)] == ["road", "person", "car", "bicycle"]


def test_ade20k_and_camvid_read_the_published_values():
    ade, camvid = load("ade20k"), load("camvid")
    named = {value: ade.names[index] for value, index in ade.values if index != VOID}
    assert dict(ade.values)[0] == VOID and {*named} == {*range(1, 151)}
    assert [named[i] for i in (1, 2, 5, 13, 21, 90, 128, 150)] == [
        *("wall", "building", "tree", "person", "car", "television receiver", "bicycle", "flag")
    ]
    assert dict(camvid.values) == {i: i for i in range(11)} | {11: VOID} and camvid.names[3] == "road"
