"""Polygons of masks, drawn again by the tools' own programs."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as official
from scipy import ndimage

from seg.inference.annotations import Outlines, coco, coco_image, labelme
from seg.inference.regions import regions
from seg.labels import LabelSet

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools
EXACT = Outlines(tolerance=0)
CLASSES = LabelSet(("background", "cat", "dog", "sky"), ((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)))
ALL_CLASSES = LabelSet(("road", "cat", "dog", "sky"), ((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)))
RING = np.pad(np.pad(np.pad(np.full((1, 1), 2), 2, constant_values=0), 2, constant_values=1), 1, constant_values=0)
DIAGONAL = np.eye(6) + 2 * np.eye(6)[::-1]
PINCHED = np.array([[1, 1, 1, 1, 0], [1, 0, 0, 1, 1], [1, 0, 2, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 0, 2]])


def masks():
    rng = np.random.default_rng(0)
    for mask in (RING, RING.repeat(3, 0).repeat(2, 1), DIAGONAL, PINCHED, np.ones((1, 1)), np.ones((1, 7)), np.zeros((4, 4))):
        yield mask.astype(np.uint8)
    for number in range(60):
        noise = rng.integers(0, 4, rng.integers(2, 40, 2)).astype(np.uint8)
        yield cv2.medianBlur(noise, 3) if number % 2 else noise


def draw_labelme(annotation, labels):
    """As labelme's shape_to_mask draws polygons, in their order."""
    canvas = Image.new("L", (annotation["imageWidth"], annotation["imageHeight"]))
    for shape in annotation["shapes"]:
        value = labels.names.index(shape["label"])
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in shape["points"]], outline=value, fill=value)
    return np.array(canvas)


def draw_coco(content, labels):
    """As COCO's own program draws polygons, in any order."""
    (image,) = content["images"]
    size = image["height"], image["width"]
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = np.zeros(size, np.uint8)
    for annotation in reversed(content["annotations"]):
        region = official.decode(official.merge(official.frPyObjects(annotation["segmentation"], *size))).astype(bool)
        assert not found[region].any() and region.sum() == annotation["area"]
        found[region] = labels.names.index(names[annotation["category_id"]])
    return found


@pytest.mark.parametrize("labels", [CLASSES, ALL_CLASSES])
def test_polygons_drawn_by_the_tools_give_the_mask(labels):
    for mask in masks():
        np.testing.assert_array_equal(draw_labelme(labelme(mask, labels, "x.jpg", EXACT), labels), mask)
        np.testing.assert_array_equal(draw_coco(coco([coco_image(mask, labels, "x.jpg", EXACT)], labels), labels), mask)


def test_regions_are_those_whose_pixels_touch_by_their_sides():
    for mask in masks():
        found = np.full(mask.shape, -1)
        for number, region in enumerate(regions(mask)):
            assert (mask[region.window][region.pixels] == region.index).all()
            found[region.window][region.pixels] = number
        wanted = np.full(mask.shape, -1)
        count = 0
        for value in np.unique(mask):
            numbers, n = ndimage.label(mask == value)
            wanted[numbers > 0] = numbers[numbers > 0] + count
            count += n
        assert len({*zip(found.ravel().tolist(), wanted.ravel().tolist(), strict=True)}) == count == found.max() + 1


def test_background_is_written_in_holes_only():
    labels = [shape["label"] for shape in labelme(RING.astype(np.uint8), CLASSES, "x.jpg", EXACT)["shapes"]]
    assert labels == ["cat", "background", "dog"]
    assert [
        a["category_id"] for a in coco([coco_image(RING.astype(np.uint8), CLASSES, "x", EXACT)], CLASSES)["annotations"]
    ] == [1, 2]


def test_a_tolerance_saves_points_and_moves_borders_by_no_more():
    y, x = np.mgrid[:200, :200]
    mask = ((x - 100) ** 2 + (y - 90) ** 2 < 70**2).astype(np.uint8) + (np.hypot(x - 90, y - 100) < 30)
    border = ndimage.maximum_filter(mask, 5) != ndimage.minimum_filter(mask, 5)
    for form, draw in (
        (lambda outlines: labelme(mask, CLASSES, "x", outlines), draw_labelme),
        (lambda outlines: coco([coco_image(mask, CLASSES, "x", outlines)], CLASSES), None),
    ):
        few, many = form(Outlines()), form(EXACT)
        assert len(str(few)) < len(str(many)) / 3
        if draw:
            assert not (draw(few, CLASSES) != mask)[~border].any()
    (big, small) = form(Outlines())["annotations"]
    for annotation, value in ((big, 1), (small, 2)):
        region = official.decode(official.merge(official.frPyObjects(annotation["segmentation"], 200, 200))) > 0
        assert not (region != (mask == value))[~border].any()


def test_small_regions_are_left_out():
    mask = np.zeros((9, 9), np.uint8)
    mask[1:4, 1:4], mask[6, 6] = 1, 2
    for least, wanted in ((1, ["cat", "dog"]), (2, ["cat"]), (10, [])):
        outlines = Outlines(0, least)
        assert [shape["label"] for shape in labelme(mask, CLASSES, "x", outlines)["shapes"]] == wanted
        assert len(coco([coco_image(mask, CLASSES, "x", outlines)], CLASSES)["annotations"]) == len(wanted)


def test_coco_counts_images_and_annotations_from_one():
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:5] = 3
    content = coco([coco_image(mask, CLASSES, f"{n}.jpg", EXACT) for n in "ab"], CLASSES)
    assert [category["name"] for category in content["categories"]] == ["cat", "dog", "sky"]
    assert [image["id"] for image in content["images"]] == [1, 2]
    for number, annotation in enumerate(content["annotations"], 1):
        assert (annotation["id"], annotation["image_id"], annotation["category_id"]) == (number, number, 3)
        assert annotation["bbox"] == [2, 1, 3, 2] and annotation["area"] == 6 and annotation["iscrowd"] == 0
