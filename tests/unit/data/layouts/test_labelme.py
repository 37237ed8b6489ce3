import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from seg.data.layouts.base import Hints
from seg.data.layouts.create import create_dataset
from seg.data.voc import open_split
from tests.helpers.layouts import CASES, save, text
from tests.helpers.toy import refused

SIZE = (40, 50)


def annotate(root, shapes, name="a.png", count=2, **more):
    for number in range(count):
        file = f"{number}{name}"
        save(root / file, np.full((*SIZE, 3), 30 * number, np.uint8))
        data = {"shapes": shapes, "imagePath": file, "imageData": None, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
        text(root / f"{number}a.json", data | more)
    return root


def mask_of(root, out):
    made = create_dataset(root, out=out)
    return open_split(made.out, "train", made.labels).mask(0), made.labels.names


def shape(label, kind, *points, **more):
    return {"label": label, "shape_type": kind, "points": [list(point) for point in points]} | more


Y, X = np.mgrid[: SIZE[0], : SIZE[1]]


def distance_to_line(a, b):
    (ax, ay), (bx, by) = a, b
    along = np.clip(((X - ax) * (bx - ax) + (Y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2), 0, 1)
    return np.hypot(X - ax - along * (bx - ax), Y - ay - along * (by - ay))


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (shape("a", "rectangle", (30, 25), (10, 5)), (X >= 10) & (X <= 30) & (Y >= 5) & (Y <= 25)),
        (shape("a", "polygon", (10, 5), (30, 5), (30, 25), (10, 25)), (X >= 10) & (X <= 30) & (Y >= 5) & (Y <= 25)),
        (shape("a", "circle", (25, 20), (25, 30)), np.hypot(X - 25, Y - 20) <= 10),
        (shape("a", "line", (5, 20), (45, 20)), (distance_to_line((5, 20), (45, 20)) <= 5) & (X >= 5) & (X <= 45)),
        (shape("a", "linestrip", (10, 10), (40, 10), (40, 35)),
         (np.minimum(distance_to_line((10, 10), (40, 10)), distance_to_line((40, 10), (40, 35))) <= 5) & (X >= 10) & (Y <= 35)),
        (shape("a", "point", (20, 20)), np.hypot(X - 20, Y - 20) <= 5),
        (shape("a", "rotation", (20, 5), (35, 20), (20, 35), (5, 20)), np.abs(X - 20) + np.abs(Y - 20) <= 15),
    ],
)  # fmt: skip
def test_a_shape_covers_what_its_geometry_says(tmp_path, made, wanted):
    mask, names = mask_of(annotate(tmp_path / "mine", [made]), tmp_path / "made")
    assert names == ("background", "a")
    differs = (mask == 1) != wanted
    # Only pixels at the outline may differ: those with a neighbor of the other kind.
    near = sum(np.roll(wanted, (i, j), (0, 1)) != wanted for i in (-1, 0, 1) for j in (-1, 0, 1)) > 0
    if made["shape_type"] == "linestrip":  # whose parts end at the corner without a joint
        near |= np.hypot(X - 40, Y - 10) <= 8
    assert not (differs & ~near).any() and differs.sum() <= 0.35 * wanted.sum()


def test_later_shapes_are_drawn_over_earlier_ones_and_ignore_is_void(tmp_path):
    shapes = [
        shape("b", "rectangle", (0, 0), (20, 20)),
        shape("a", "rectangle", (10, 10), (30, 30)),
        shape("__ignore__", "rectangle", (15, 15), (18, 18)),
    ]
    mask, names = mask_of(annotate(tmp_path / "mine", shapes), tmp_path / "made")
    assert names == ("background", "a", "b")
    assert (mask[5, 5], mask[12, 12], mask[16, 16], mask[39, 49]) == (2, 1, 255, 0)


def test_a_mask_inside_an_annotation_is_drawn_at_its_box(tmp_path):
    inside = np.zeros((6, 8), np.uint8)
    inside[1:5, 2:7] = 1
    file = io.BytesIO()
    Image.fromarray(inside * 255).save(file, "PNG")
    box = shape("a", "mask", (10, 20), (17, 25), mask=base64.b64encode(file.getvalue()).decode())
    mask, _ = mask_of(annotate(tmp_path / "mine", [box]), tmp_path / "made")
    wanted = np.zeros(SIZE, bool)
    wanted[20:26, 10:18] = inside > 0
    np.testing.assert_array_equal(mask == 1, wanted)


def test_a_background_that_is_drawn_is_the_background(tmp_path):
    shapes = [shape("cat", "rectangle", (0, 0), (20, 20)), shape("_background_", "rectangle", (5, 5), (9, 9))]
    mask, names = mask_of(annotate(tmp_path / "mine", shapes), tmp_path / "made")
    assert names == ("_background_", "cat") and mask[7, 7] == 0 and mask[2, 2] == 1


def test_images_without_an_annotation_are_counted(tmp_path):
    annotate(tmp_path / "mine", [shape("a", "rectangle", (0, 0), (9, 9))])
    save(tmp_path / "mine/more.png", np.zeros((4, 4, 3), np.uint8))
    made = create_dataset(tmp_path / "mine")
    assert "1 of 3 images have no annotation: left out" in made.notes and made.splits == {"train": 1, "val": 1}


def test_an_annotation_without_its_image_is_refused(tmp_path):
    annotate(tmp_path / "mine", [shape("a", "rectangle", (0, 0), (9, 9))])
    (tmp_path / "mine/0a.png").rename(tmp_path / "0a.png")
    with refused("0a.json: no image 0a.png", "--images"):
        create_dataset(tmp_path / "mine")
    (tmp_path / "photos").mkdir()
    for number in range(2):
        save(tmp_path / f"photos/{number}a.png", np.zeros((*SIZE, 3), np.uint8))
    assert create_dataset(tmp_path / "mine", Hints(images=str(tmp_path / "photos"))).splits == {"train": 1, "val": 1}


def test_a_size_that_is_not_the_images_is_refused(tmp_path):
    annotate(tmp_path / "mine", [shape("a", "rectangle", (0, 0), (9, 9))], imageHeight=30)
    with refused("a.json: 50x30 pixels", "50x40", "--resize-masks"):
        create_dataset(tmp_path / "mine")


@pytest.mark.parametrize(
    "bad",
    [
        shape("a", "polygon", (0, 0), (1, 1)),
        shape("a", "heart", (0, 0), (1, 1), (2, 2)),
        shape("a", {"polygon": 1}, (0, 0), (1, 1), (2, 2)),
        shape(None, "rectangle", (0, 0), (1, 1)),
        shape("a", "rectangle", (0, 0), (1, math.inf)),
        shape("a", "rectangle", (0, 0), (1,)),
        {"label": "a"},
        7,
    ],
)
def test_a_shape_that_cannot_be_drawn_is_refused_with_its_number(tmp_path, bad):
    annotate(tmp_path / "mine", [shape("a", "rectangle", (0, 0), (9, 9)), bad])
    with refused("0a.json: shape 1 cannot be drawn"):
        create_dataset(tmp_path / "mine")


@pytest.mark.parametrize("content", ["???", base64.b64encode(b"no png").decode()])
def test_a_damaged_mask_or_image_inside_an_annotation_is_refused(tmp_path, content):
    annotate(tmp_path / "mine", [shape("a", "mask", (0, 0), (9, 9), mask=content)])
    with refused("a.json: shape 0"):
        create_dataset(tmp_path / "mine")
    annotate(tmp_path / "other", [shape("a", "rectangle", (0, 0), (9, 9))], imageData=content)
    for path in (tmp_path / "other").glob("*.png"):
        path.unlink()
    with refused("a.json: "):
        create_dataset(tmp_path / "other")


def test_names_beyond_the_list_of_a_dataset_folder_are_refused(tmp_path):
    CASES["labelme_dataset"].write(tmp_path)
    text(tmp_path / "t3_json/label_names.txt", "_background_\ndisc\n")
    with refused("t3_json/label.png: value", "lists 2 names"):
        create_dataset(tmp_path)
