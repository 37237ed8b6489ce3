import json

import numpy as np
import pytest

from seg.data.layouts.base import Hints
from seg.data.layouts.create import create_dataset
from seg.data.layouts.polygons import fill_polygon
from seg.data.layouts.rle import decode_rle, encode_rle
from seg.data.voc import open_split
from tests.helpers.layouts import CASES, save, text
from tests.helpers.toy import refused

official = pytest.importorskip("pycocotools.mask")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools
RNG = np.random.default_rng(0)


def polygon(kind):
    count = RNG.integers(3, 12)
    return {
        "anywhere": lambda: RNG.uniform(-8, 70, (count, 2)),
        "on corners": lambda: RNG.integers(-3, 60, (count, 2)).astype(float),
        "on centers": lambda: RNG.integers(0, 120, (count, 2)) / 2,
        "rounded": lambda: RNG.uniform(0, 50, (count, 2)).round(2),
    }[kind]().ravel().tolist()  # fmt: skip


def filled(points, size):
    mask = np.zeros(size, np.uint8)
    fill_polygon(mask, points, 1, "here")
    return mask == 1


@pytest.mark.parametrize("kind", ["anywhere", "on corners", "on centers", "rounded"])
def test_a_polygon_is_filled_as_by_cocos_own_program(kind):
    for _ in range(300):
        height, width = (int(side) for side in RNG.integers(5, 60, 2))
        points = polygon(kind)
        wanted = official.decode(official.frPyObjects([points], height, width))[..., 0].astype(bool)
        np.testing.assert_array_equal(filled(points, (height, width)), wanted)


def test_a_polygon_is_filled_where_the_centers_of_pixels_are_inside():
    """Independent of COCO's program: corners that are no fifths of a pixel away from centers."""
    found = filled([1, 1, 5, 1, 5, 4, 1, 4], (6, 7))
    wanted = np.zeros((6, 7), bool)
    wanted[1:4, 1:5] = True
    np.testing.assert_array_equal(found, wanted)
    hole = filled([0, 0, 6, 0, 6, 6, 0, 6, 0, 0, 2, 2, 2, 4, 4, 4, 4, 2, 2, 2], (6, 6))
    assert hole.sum() == 32 and not hole[2:4, 2:4].any()


@pytest.mark.parametrize("points", [[], [1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, None], [[1, 2], [3, 4]], "abc", None, 7,
                                    [1, 2, 3, 4, 5, float("nan")], [1, 2, 3, 4, 5, 1e300], {"a": 1}])  # fmt: skip
def test_what_is_no_polygon_is_refused(points):
    with refused("here: its segmentation is not a list of polygons"):
        filled(points, (6, 7))


def test_run_lengths_are_those_of_cocos_own_program():
    for _ in range(300):
        size = tuple(int(side) for side in RNG.integers(1, 50, 2))
        mask = RNG.random(size) < RNG.random()
        theirs = official.encode(np.asfortranarray(mask.astype(np.uint8)))
        ours = encode_rle(mask)
        np.testing.assert_array_equal(decode_rle({"size": list(size), "counts": theirs["counts"].decode()}, size, "here"), mask)
        np.testing.assert_array_equal(decode_rle(ours, size, "here"), mask)
        np.testing.assert_array_equal(official.decode(official.frPyObjects(ours, *size)), mask)


@pytest.mark.parametrize(
    "value",
    [
        None, [], {}, {"size": [4, 5]}, {"size": [5, 4], "counts": [20]}, {"size": [4, 5], "counts": [19]},
        {"size": [4, 5], "counts": [21]}, {"size": [4, 5], "counts": [-1, 21]}, {"size": [4, 5], "counts": [1.5, 18.5]},
        {"size": [4, 5], "counts": ["20"]}, {"size": [4, 5], "counts": "\x00"}, {"size": [4, 5], "counts": "é" * 9},
        {"size": [4, 5], "counts": "o" * 99}, {"size": [4, 5], "counts": 20}, {"size": [4, 5], "counts": [2**70]},
    ],
)  # fmt: skip
def test_runs_that_are_not_those_of_the_image_are_refused(value):
    with refused("here: "):
        decode_rle(value, (4, 5), "here")


def square(category, first, last, **more):
    box = [first, first, last, first, last, last, first, last]
    made = {"id": 7, "image_id": 1, "category_id": category, "segmentation": [box], "area": (last - first) ** 2, "iscrowd": 0}
    return made | more


def one_image(root, annotations, categories=((3, "cat"), (9, "dog")), copies=3):
    """A data set of `copies` equal images with these annotations."""
    data = {"images": [], "annotations": [], "categories": [{"id": i, "name": n} for i, n in categories]}
    for number in range(1, copies + 1):
        save(root / f"{number}.png", np.full((20, 24, 3), 40 * number, np.uint8))
        data["images"].append({"id": number, "file_name": f"{number}.png", "height": 20, "width": 24})
        data["annotations"] += [annotation | {"image_id": number} for annotation in annotations]
    text(root / "annotations.json", data)
    return data


def mask_of(made):
    return open_split(made.out, "train", made.labels).mask(0)


def test_small_objects_stay_visible_and_crowds_are_void_where_no_object_is(tmp_path):
    crowd = {"segmentation": encode_rle(np.pad(np.ones((20, 4), bool), ((0, 0), (0, 20)))), "iscrowd": 1}
    one_image(tmp_path, [square(9, 8, 10), square(3, 2, 16), square(3, 0, 1, **crowd)])
    made = create_dataset(tmp_path)
    assert made.labels.names == ("background", "cat", "dog")
    mask = mask_of(made)
    assert mask[9, 9] == 2 and mask[3, 3] == 1 and mask[0, 0] == 255 and mask[0, 20] == 0
    assert np.bincount(mask.ravel(), minlength=256)[[1, 2, 255]].tolist() == [14 * 14 - 4, 4, 20 * 4 - 2 * 14]


def test_annotations_without_segmentation_and_images_that_are_not_there_are_counted(tmp_path):
    data = one_image(tmp_path, [square(3, 2, 9), square(9, 2, 9, segmentation=[])], copies=4)
    (tmp_path / "2.png").unlink()
    made = create_dataset(tmp_path)
    assert sum(made.splits.values()) == 3
    assert "1 of 4 images are not there: left out" in made.notes
    assert "4 of 8 annotations have no segmentation: left out" in made.notes
    for annotation in data["annotations"]:
        annotation["segmentation"] = []
    text(tmp_path / "annotations.json", data)
    with refused("annotations.json: its annotations are boxes"):
        create_dataset(tmp_path, out=tmp_path / "made")


def test_images_elsewhere_are_named(tmp_path):
    one_image(tmp_path / "data", [square(3, 2, 9)])
    (tmp_path / "photos").mkdir()
    for number in (1, 2, 3):
        (tmp_path / f"data/{number}.png").rename(tmp_path / f"photos/{number}.png")
    with refused("none of its 3 images was found", "--images"):
        create_dataset(tmp_path / "data")
    assert create_dataset(tmp_path / "data", Hints(images=str(tmp_path / "photos"))).splits == {"train": 2, "val": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data["images"][0].pop("id"), "images[0]: 'id' must be an integer"),
        (lambda data: data["images"][1].update(file_name=3), "images[1]: 'file_name' must be a text"),
        (lambda data: data["images"][0].update(width=0), "0x20 pixels is not the size of an image"),
        (lambda data: data["images"][0].update(width=10**9), "is not the size of an image"),
        (lambda data: data["annotations"][0].update(category_id="3"), "annotations[0]: 'category_id' must be an integer"),
        (
            lambda data: data["annotations"][0].update(category_id=4),
            "annotation 7 has category 4, which is not in its list",
        ),
        (lambda data: data["annotations"][0].update(segmentation=[[1, 2]]), "1.png: annotation 7: its segmentation"),
        (
            lambda data: data["annotations"][0].update(segmentation={"size": [1, 1], "counts": [1]}),
            "another size than the image",
        ),
        (lambda data: data.update(categories=3), "must have a list 'categories'"),
        (lambda data: data["categories"].append(None), "categories[2]: 'id' must be an integer"),
    ],
)
def test_what_is_not_as_coco_has_it_is_refused_with_its_place(tmp_path, change, words):
    data = one_image(tmp_path, [square(3, 2, 9)])
    change(data)
    (tmp_path / "annotations.json").write_text(json.dumps(data))
    with refused(tmp_path / "annotations.json", words):
        create_dataset(tmp_path)


def test_categories_of_two_files_go_by_their_names(tmp_path):
    CASES["coco"].write(tmp_path)
    path = tmp_path / "annotations/instances_val2017.json"
    data = json.loads(path.read_text())
    for entry in (*data["categories"], *data["annotations"]):
        key = "id" if "name" in entry else "category_id"
        entry[key] = {17: 90, 18: 64, 64: 18, 90: 17}[entry[key]]
    path.write_text(json.dumps(data))
    made = create_dataset(tmp_path)
    assert set(made.labels.names) == {"background", "disc", "box", "diamond", "bar"}


def test_a_kind_of_categories_that_is_no_text_is_ignored(tmp_path):
    data = one_image(tmp_path, [square(3, 2, 9), square(9, 9, 12)])
    for category in data["categories"]:
        category["supercategory"] = ["animal"]
    text(tmp_path / "annotations.json", data)
    assert create_dataset(tmp_path).labels.names == ("background", "cat", "dog")
