import numpy as np
import pytest
import yaml

from seg.errors import UserError
from seg.labels import VOC, VOID, LabelSet, from_dict, load, voc_color

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


def test_voc_colors_are_all_different():
    assert len({voc_color(i) for i in range(256)}) == 256


def test_palette_has_the_label_sets_colors_and_the_voc_maps_elsewhere():
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


def test_names_alone_take_the_voc_maps_colors(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text("classes: [sky, {name: sea, color: [9, 8, 7]}, {name: sand}]")
    labels = load(str(path))
    assert labels.names == ("sky", "sea", "sand")
    assert labels.colors == ((0, 0, 0), (9, 8, 7), (0, 128, 0))
    assert labels.void_color == (224, 224, 192)


def test_as_many_classes_as_a_byte_holds_beside_void():
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
        ({"classes": ["a", {"name": "b", "color": [0, 0, 0]}]}, "two classes have the color .0, 0, 0."),
        ({"classes": ["a", "b"], "void_color": [128, 0, 0]}, "two classes have the color .128, 0, 0."),
    ],
)
def test_a_wrong_label_set_is_a_users_mistake_that_names_the_place(value, message):
    with pytest.raises(UserError, match=message) as error:
        from_dict(value, "labels.yaml")
    assert str(error.value).startswith("labels.yaml: ") and "\n" not in str(error.value)


def test_a_missing_label_file_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="a label set cannot be read"):
        load(str(tmp_path / "none.yaml"))
