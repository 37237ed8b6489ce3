import json

import numpy as np
import pytest
from PIL import Image

from seg.cli.main import main
from seg.data.layouts.coco import Region, draw
from seg.data.layouts.rle import encode_rle
from seg.data.prepare.coco import prepare_coco
from seg.data.voc import open_split
from seg.labels import VOC
from tests.helpers.toy import refused

pycocotools = pytest.importorskip("pycocotools")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools

H, W = 60, 80
# Written down from COCO's own list: (id, name); the classes of VOC and two others.
CATEGORIES = [
    (1, "person"), (2, "bicycle"), (3, "car"), (4, "motorcycle"), (5, "airplane"), (6, "bus"), (7, "train"), (8, "truck"),
    (9, "boat"), (16, "bird"), (17, "cat"), (18, "dog"), (19, "horse"), (20, "sheep"), (21, "cow"), (44, "bottle"),
    (62, "chair"), (63, "couch"), (64, "potted plant"), (67, "dining table"), (72, "tv"), (90, "toothbrush"),
]  # fmt: skip
# VOC's index of each: from the development kit's order of classes.
INDEX = {1: 15, 2: 2, 3: 7, 4: 14, 5: 1, 6: 6, 7: 19, 9: 4, 16: 3, 17: 8, 18: 12, 19: 13, 20: 17, 21: 10, 44: 5, 62: 9, 63: 18,
         64: 16, 67: 11, 72: 20}  # fmt: skip


def box(x, y, right, bottom):
    return [x, y, right, y, right, bottom, x, bottom]


def annotation(number, image, category, segmentation, area, crowd=0):
    return {
        "id": number, "image_id": image, "category_id": category, "segmentation": segmentation, "area": area, "iscrowd": crowd
    }  # fmt: skip


@pytest.fixture
def coco(tmp_path):
    """COCO with seven images for training and two for validation."""
    crowd = np.zeros((H, W), bool)
    crowd[:, 50:] = True
    compressed = encode_rle(crowd)
    from pycocotools import mask

    compressed["counts"] = mask.frPyObjects(compressed, H, W)["counts"].decode()
    whole = [box(0, 0, W, H)]
    annotations = {
        # Large, small on it in two parts, one of a few pixels at its edge; a crowd is beneath them.
        1: [
            (17, [box(5, 5, 55, 55)], 2500),
            (18, [box(10, 10, 20.4, 22.6), box(30, 30, 34, 34)], 142),
            (1, [[50, 50, 70, 50, 50, 58]], 80),
        ],
        # 1,000 pixels exactly are too few.
        2: [(3, [box(0, 0, 40, 25)], 1000)],
        3: [(3, [box(0, 0, 40, 25), box(40, 0, 41, 1)], 1001)],
        # Void is not labeled, nor are other categories.
        4: [(8, whole, H * W), (90, whole, H * W)],
        5: [(8, whole, H * W), (72, [box(0, 0, 50, 30)], 1500)],
    }  # fmt: skip
    for split, numbers in (("train", range(1, 8)), ("val", (11, 12))):
        (tmp_path / f"{split}2017").mkdir()
        data = {"images": [], "annotations": [], "categories": [{"id": i, "name": name} for i, name in CATEGORIES]}
        for number in numbers:
            name = f"{number:012}.jpg"
            Image.new("RGB", (W, H)).save(tmp_path / f"{split}2017" / name)
            data["images"].append({"id": number, "file_name": name, "height": H, "width": W})
            for category, segmentation, area in annotations.get(number, []):
                data["annotations"].append(annotation(len(data["annotations"]), number, category, segmentation, area))
        first = numbers[0]
        if split == "train":
            data["annotations"] += [
                annotation(90, 1, 1, compressed, 1200, crowd=1),
                annotation(91, 6, 17, encode_rle(crowd), 1200, crowd=1),
            ]
        for place, category in enumerate(INDEX):  # each class, in one image
            shape = [box(4 * (place % 20), 0, 4 * (place % 20) + 4, 60)]
            data["annotations"].append(annotation(100 + place, first if split == "val" else 7, category, shape, 240))
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(data))
    return tmp_path


def naive(coco, split, number):
    """The mask by COCO's own program: crowds are void, then objects from large to small."""
    from pycocotools.coco import COCO

    api = COCO(coco / "annotations" / f"instances_{split}2017.json")
    mask = np.zeros((H, W), np.uint8)
    found = [one for one in api.loadAnns(api.getAnnIds(imgIds=[number])) if one["category_id"] in INDEX]
    for one in sorted(found, key=lambda one: (-one["iscrowd"], -one["area"])):
        mask[api.annToMask(one) == 1] = 255 if one["iscrowd"] else INDEX[one["category_id"]]
    return mask


def test_masks_are_those_of_cocos_own_program_in_vocs_order_of_classes(coco, capsys):
    made = prepare_coco(coco)
    assert made.images == {"train": 4, "val": 1} and made.few == {"train": 2, "val": 0}
    wanted = {"train": [1, 3, 5, 7], "val": [11]}
    for split, numbers in wanted.items():
        found = open_split(made.path, split, VOC)
        assert list(found.ids) == [f"{number:012}" for number in numbers]
        for index, number in enumerate(numbers):
            np.testing.assert_array_equal(found.mask(index), naive(coco, split, number))
    every = open_split(made.path, "train", VOC).mask(3)
    assert {*np.unique(every)} == {*range(1, 21)}
    assert (open_split(made.path, "train", VOC).mask(0) == 255).any()
    assert (made.path / "JPEGImages" / f"{1:012}.jpg").is_symlink()


def test_a_second_run_keeps_the_masks_and_mends_a_damaged_one(coco, capsys):
    made = prepare_coco(coco)
    mask = made.path / "SegmentationClass" / f"{3:012}.png"
    other, before = made.path / "SegmentationClass" / f"{1:012}.png", mask.read_bytes()
    kept = other.stat().st_mtime_ns
    mask.write_bytes(b"")
    assert main(["data", "prepare", "coco", "--coco", str(coco), "--json", str(coco / "made.json")]) == 0
    assert mask.read_bytes() == before and other.stat().st_mtime_ns == kept
    assert "train: 4 images; 2 with at most 1,000 pixels of the classes were left out" in capsys.readouterr().out
    assert json.loads((coco / "made.json").read_text())["images"] == {"train": 4, "val": 1}


def test_what_is_not_coco_is_refused(coco):
    with refused("annotations/instances_train2017.json: not found; --coco names the folder"):
        prepare_coco(coco / "train2017")
    image = coco / "train2017" / f"{3:012}.jpg"
    image.unlink()
    with refused("000000000003.jpg: no such image, but instances_train2017.json lists it"):
        prepare_coco(coco)
    assert not (coco / "voc/ImageSets").exists()
    path = coco / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text().replace('"tv"', '"radio"'))
    with refused("has no category for tvmonitor"):
        prepare_coco(coco)


def pixels_of(x, y, right, bottom):
    """The pixels of a box, one by one."""
    return {(row, column) for row in range(y, bottom) for column in range(x, right)}


def runs_of(pixels):
    """COCO's runs of a set of pixels: along columns, of 0 and 1 in turn, counted one by one."""
    runs, value = [0], False
    for column in range(W):
        for row in range(H):
            if ((row, column) in pixels) != value:
                runs.append(0)
                value = not value
            runs[-1] += 1
    return {"size": [H, W], "counts": runs}


def painted(rng):
    """Annotations of one image, boxes of one pixel to half of the image, with their mask painted pixel by pixel."""
    from pycocotools import mask as coco_mask

    found = []
    for number in range(rng.integers(1, 14)):
        height, width = (int(rng.integers(1, 4 if number % 2 else side // 2)) for side in (H, W))
        y, x = int(rng.integers(0, H - height + 1)), int(rng.integers(0, W - width + 1))
        pixels = pixels_of(x, y, x + width, y + height)
        kind = rng.choice(["polygon", "parts", "runs", "compressed"])
        if kind == "polygon":
            segmentation = [box(x, y, x + width, y + height)]
        elif kind == "parts":  # a second part far from the first
            pixels |= pixels_of(0, 0, 2, 1)
            segmentation = [box(x, y, x + width, y + height), box(0, 0, 2, 1)]
        else:
            segmentation = runs_of(pixels)
            if kind == "compressed":
                segmentation["counts"] = coco_mask.frPyObjects(segmentation, H, W)["counts"].decode()
        crowd = int(isinstance(segmentation, dict) and rng.random() < 0.4)
        category = int(rng.choice([*INDEX, 8, 90]))
        # Distinct areas: nothing says which of two equal ones is on top.
        found.append((annotation(number, 0, category, segmentation, len(pixels) + number / 100, crowd), pixels))
    mask = np.zeros((H, W), np.uint8)
    for one, pixels in sorted(found, key=lambda pair: (-pair[0]["iscrowd"], -pair[0]["area"])):
        for row, column in pixels if one["category_id"] in INDEX else ():
            mask[row, column] = 255 if one["iscrowd"] else INDEX[one["category_id"]]
    return [one for one, _ in found], mask


def test_masks_equal_those_painted_pixel_by_pixel(tmp_path):
    """Not even COCO's own program draws here."""
    rng, wanted = np.random.default_rng(16), {}
    for split, numbers in (("train", range(1, 41)), ("val", range(41, 46))):
        data = {"images": [], "annotations": [], "categories": [{"id": i, "name": name} for i, name in CATEGORIES]}
        (tmp_path / f"{split}2017").mkdir()
        for number in numbers:
            Image.new("RGB", (W, H)).save(tmp_path / f"{split}2017" / f"{number:012}.jpg")
            data["images"].append({"id": number, "file_name": f"{number:012}.jpg", "height": H, "width": W})
            annotations, mask = painted(rng)
            data["annotations"] += [one | {"image_id": number} for one in annotations]
            if sum(0 < value < 255 for value in mask.ravel().tolist()) > 1000:
                wanted.setdefault(split, {})[f"{number:012}"] = mask
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(data))
    made = prepare_coco(tmp_path)
    assert 5 < made.images["train"] < 40 and any((mask == 255).any() for mask in wanted["train"].values())
    for split, masks in wanted.items():
        found = open_split(made.path, split, VOC)
        assert list(found.ids) == sorted(masks)
        for index, name in enumerate(found.ids):
            np.testing.assert_array_equal(found.mask(index), masks[name], name)


@pytest.mark.parametrize(
    "polygon",
    [
        [10.2, 10.2, 10.6, 10.2, 10.4, 10.7],
        [10, 10, 11, 10, 11, 11, 10, 11],
        [10.4, 10, 10.6, 10, 10.6, 40, 10.4, 40],
        [5, 5, 5, 5, 5, 5],
        [79.5, 59.5, 80, 59.5, 80, 60],
    ],
    ids=["less than a pixel", "a pixel", "a line", "a point", "a corner"],
)
def test_a_tiny_region_is_drawn_as_cocos_own_program_does(polygon):
    from pycocotools import mask as coco_mask

    whole = Region.of(annotation(1, 1, 17, [box(0, 0, W, H)], H * W), 8)
    tiny = Region.of(annotation(2, 1, 18, [polygon], 0.1), 12)
    theirs = coco_mask.decode(coco_mask.frPyObjects([polygon], H, W))[..., 0] == 1
    np.testing.assert_array_equal(draw([tiny, whole], (H, W), "test"), np.where(theirs, 12, 8))
