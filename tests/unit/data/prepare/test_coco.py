import json

import numpy as np
import pytest
from PIL import Image

from seg.cli.main import main
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
    assert "train: 4 images; 2 have at most 1,000 pixels of the classes, and are left out" in capsys.readouterr().out
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
