"""Small data sets in the layouts that people have, drawn from the toy pictures, and what a right reading of each gives."""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg.data.layouts.base import Hints
from seg.data.layouts.classes import parse_values
from seg.data.layouts.rle import encode_rle
from seg.labels import VOC
from tests.helpers.toy import CLASSES, toy_sample

NAMES = ["background", "disc", "box", "diamond", "bar"]
COLORS = np.array([[0, 0, 0], [250, 50, 83], [42, 125, 209], [255, 204, 51], [9, 200, 7]], np.uint8)
BINARY = ["background", "foreground"]


def dense(mask):
    """The toy's labels as 0 to 4, void as 255."""
    table = np.full(256, 255, np.uint8)
    table[[0, *CLASSES]] = range(5)
    return table[mask]


def closed(mask):
    """The toy's labels as 0 to 4, void as background: for layouts that cannot hold void."""
    found = dense(mask)
    return np.where(found == 255, 0, found).astype(np.uint8)


def any_object(mask):
    return (closed(mask) > 0).astype(np.uint8)


def image_and(form: Callable[[np.ndarray], np.ndarray], number: int):
    image, mask = toy_sample(number)
    return image, form(mask)


def save(path: Path, picture, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path, **options)
    return path


def with_palette(mask) -> Image.Image:
    image = Image.fromarray(mask)
    image.putpalette(VOC.palette.tobytes())
    return image


def text(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@dataclass
class Case:
    """A data set that `write` makes in an empty folder, and what it means."""

    write: Callable[[Path], None]
    truth: Callable[[np.ndarray], np.ndarray] = closed
    """From the toy's mask to the class indices that are read, 255 void."""
    names: list[str] | None = None
    """Class names; None: any."""
    splits: dict[str, list[int]] = field(default_factory=dict)
    """Numbers of the toy pictures in each split; none: dealt, all of `numbers`."""
    numbers: range = range(6)
    hints: Callable[[Path], Hints] = lambda root: Hints()
    layout: str = "folders"
    edges: bool = False
    """Pixels at the borders of regions may be read differently."""


CASES: dict[str, Case] = {}
SPLITS = {"train": [0, 1, 2, 3], "val": [4, 5]}


def case(**options):
    """Make a case of the function that writes it."""

    def add(write):
        CASES[write.__name__] = Case(write, **options)
        return write

    return add


def in_folders(root, form, image="images/t{}.png", mask="masks/t{}.png", numbers=range(6), **options):
    for number in numbers:
        picture, made = image_and(form, number)
        save(root / image.format(number), picture)
        save(root / mask.format(number), made, **options)


# Annotation tools.


@case(truth=dense, names=["_background_", *NAMES[1:]], layout="labelme-voc")
def labelme_voc(root):
    for number in range(6):
        image, mask = image_and(dense, number)
        save(root / f"JPEGImages/t{number}.png", image)
        save(root / f"SegmentationClassPNG/t{number}.png", with_palette(mask))
        (root / "SegmentationClass").mkdir(exist_ok=True)
        np.save(root / f"SegmentationClass/t{number}.npy", mask)
    text(root / "class_names.txt", "__ignore__\n_background_\ndisc\nbox\ndiamond\nbar\n")


def runs(mask, index):
    """(row, first column, end column) of every run of an index."""
    for row in range(mask.shape[0]):
        edges = np.flatnonzero(np.diff(np.r_[0, mask[row] == index, 0])).tolist()
        yield from ((row, a, b) for a, b in zip(edges[::2], edges[1::2], strict=True))


def labelme_json(mask, names, image_name, content=None):
    """A labelme annotation that draws a mask exactly: rectangles, whose corners are pixels."""
    shapes = []
    for index, name in [*[*enumerate(names)][1:], (255, "__ignore__")]:
        for row, first, end in runs(mask, index):
            shapes.append({"label": name, "shape_type": "rectangle", "points": [[first, row], [end - 1, row]]})
    size = {"imageHeight": mask.shape[0], "imageWidth": mask.shape[1]}
    return {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image_name, "imageData": content} | size


@case(truth=dense, names=["background", "bar", "box", "diamond", "disc"], layout="labelme")
def labelme(root):
    for number in range(6):
        image, mask = image_and(dense, number)
        save(root / f"t{number}.png", image)
        text(root / f"t{number}.json", labelme_json(mask, NAMES, f"t{number}.png"))


CASES["labelme"].truth = lambda mask: np.choose(np.minimum(dense(mask), 5), [0, 4, 2, 3, 1, 255]).astype(np.uint8)


@case(truth=dense, names=NAMES, splits=SPLITS, layout="labelme")
def labelme_in_splits_with_names_and_embedded_images(root):
    for split, numbers in SPLITS.items():
        for number in numbers:
            image, mask = image_and(dense, number)
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            content = base64.b64encode(file.getvalue()).decode() if number % 2 else None
            if not content:
                save(root / split / "images" / f"t{number}.png", image)
            path = f"..\\images\\t{number}.png"
            text(root / split / "json" / f"t{number}.json", labelme_json(mask, NAMES, path, content))
    text(root / "labels.txt", "__ignore__\nbackground\ndisc\nbox\ndiamond\nbar\n")


@case(truth=dense, names=["_background_", *NAMES[1:]], layout="labelme-dataset")
def labelme_dataset(root):
    for number in range(6):
        image, mask = image_and(dense, number)
        save(root / f"t{number}_json/img.png", image)
        save(root / f"t{number}_json/label.png", with_palette(mask))
        text(root / f"t{number}_json/label_names.txt", "_background_\ndisc\nbox\ndiamond\nbar\n")


@case(truth=closed, names=["_background_", "bar", "box", "diamond", "disc"], layout="labelme-dataset")
def labelme_dataset_of_lists_that_differ(root):
    """labelme numbers the labels of each image from 1."""
    for number in range(6):
        image, mask = image_and(closed, number)
        there = [name for index, name in enumerate(NAMES) if index and (mask == index).any()]
        order = sorted(there, reverse=number % 2 == 0)
        table = np.zeros(5, np.uint8)
        for place, name in enumerate(order, 1):
            table[NAMES.index(name)] = place
        save(root / f"t{number}_json/img.png", image)
        save(root / f"t{number}_json/label.png", with_palette(table[mask]))
        text(root / f"t{number}_json/label_names.txt", "\n".join(["_background_", *order]))


CASES["labelme_dataset_of_lists_that_differ"].truth = lambda mask: np.array([0, 4, 2, 3, 1], np.uint8)[closed(mask)]


def labelmap(names, colors):
    rows = "".join(f"{n}:{r},{g},{b}::\n" for n, (r, g, b) in zip(names, colors, strict=True))
    return f"# label:color_rgb:parts:actions\n{rows}"


@case(names=NAMES, layout="cvat")
def cvat(root):
    for number in range(6):
        image, mask = image_and(closed, number)
        save(root / f"JPEGImages/frame_{number:06d}.png", image)
        for folder in ("SegmentationClass", "SegmentationObject"):
            save(root / folder / f"frame_{number:06d}.png", COLORS[mask])
    text(root / "labelmap.txt", labelmap(NAMES, COLORS))
    text(root / "ImageSets/Segmentation/default.txt", "".join(f"frame_{n:06d}\n" for n in range(6)))


@case(names=NAMES, layout="cvat", hints=lambda root: Hints(images=str(root.parent / "frames")))
def cvat_without_images_in_folders(root):
    for number in range(6):
        image, mask = image_and(closed, number)
        name = f"cam {number % 2}/frame {number}"
        save(root.parent / f"frames/{name}.png", image)
        save(root / f"SegmentationClass/{name}.png", COLORS[mask])
    text(root / "labelmap.txt", labelmap(NAMES, COLORS))
    text(root / "ImageSets/Segmentation/default.txt", "".join(f'"cam {n % 2}/frame {n}"\n' for n in range(6)))


@case(names=NAMES, layout="cvat", splits=SPLITS)
def cvat_of_subsets(root):
    cvat(root)
    (root / "ImageSets/Segmentation/default.txt").unlink()
    for name, numbers in (("Train", SPLITS["train"]), ("Validation", SPLITS["val"])):
        text(root / f"ImageSets/Segmentation/{name}.txt", "".join(f"frame_{n:06d}\n" for n in numbers))


@case(names=NAMES, splits={"train": [0, 1, 2], "val": [3, 4], "test": [5]}, layout="roboflow")
def roboflow(root):
    for folder, numbers in (("train", (0, 1, 2)), ("valid", (3, 4)), ("test", (5,))):
        for number in numbers:
            image, mask = image_and(closed, number)
            save(root / folder / f"IMG_{number}_jpg.rf.0a1b{number}.png", image)
            save(root / folder / f"IMG_{number}_jpg.rf.0a1b{number}_mask.png", mask)
        rows = "".join(f"{index}, {name}\n" for index, name in enumerate(NAMES))
        text(root / folder / "_classes.csv", f"Pixel Value, Class\n{rows}")


def brush(root, task, mask, names=NAMES):
    for index in range(1, len(names)):
        name = f"task-{task}-annotation-{task + 7}-by-1-tag-{names[index]}-0.png"
        if (mask == index).any():
            save(root / "masks" / name, (mask == index) * np.uint8(255))


@case(names=["background", "bar", "box", "diamond", "disc"], layout="label-studio")
def label_studio(root):
    for number in range(6):
        image, mask = image_and(closed, number)
        save(root / f"images/{number + 9}.png", image)
        brush(root, number + 9, mask)


CASES["label_studio"].truth = lambda mask: np.array([0, 4, 2, 3, 1], np.uint8)[closed(mask)]


@case(names=CASES["label_studio"].names, truth=CASES["label_studio"].truth, layout="label-studio")
def label_studio_with_its_export(root):
    tasks = []
    for number in range(6):
        image, mask = image_and(closed, number)
        save(root / f"images/z{9 - number}.png", image)
        brush(root, 100 + number, mask)
        tasks.append({"id": 100 + number, "data": {"image": f"/data/upload/1/0a1b2c3d-z{9 - number}.png"}})
    text(root / "project.json", tasks)


def coco_json(masks, names, ids, rle=False, crowds=False):
    """COCO's annotations of masks by file name: regions as boxes of pixels, or run-length encoded."""
    made: dict[str, Any] = {"info": {}, "licenses": [], "images": [], "annotations": [], "categories": []}
    made["categories"] = [{"id": i, "name": n, "supercategory": "thing"} for i, n in zip(ids, names[1:], strict=True)]
    for number, (name, mask) in enumerate(masks.items()):
        made["images"].append({"id": number, "file_name": name, "height": mask.shape[0], "width": mask.shape[1]})
        for index in [*range(1, len(names)), *([255] if crowds else [])]:
            region = mask == index
            polygons = [[a, row, b, row, b, row + 1, a, row + 1] for row, a, b in runs(mask, index)]
            if polygons:
                one = {"id": len(made["annotations"]), "image_id": number, "category_id": ids[0 if index == 255 else index - 1]}
                one |= {"area": int(region.sum()), "iscrowd": int(index == 255), "bbox": [0, 0, 1, 1]}
                made["annotations"].append(one | {"segmentation": encode_rle(region) if rle or index == 255 else polygons})
    return made


@case(names=NAMES, splits=SPLITS, layout="coco")
def coco(root):
    for split, numbers in SPLITS.items():
        masks = {}
        for number in numbers:
            image, masks[f"{number:012d}.png"] = image_and(closed, number)
            save(root / f"{split}2017" / f"{number:012d}.png", image)
        text(root / f"annotations/instances_{split}2017.json", coco_json(masks, NAMES, [17, 18, 64, 90]))
        text(root / f"annotations/captions_{split}2017.json", {"info": {}, "images": [], "annotations": []})


@case(names=NAMES, truth=dense, layout="coco")
def coco_rle_and_crowds(root):
    masks = {}
    for number in range(6):
        image, masks[f"images/t{number}.png"] = image_and(dense, number)
        save(root / f"images/t{number}.png", image)
    text(root / "result.json", coco_json(masks, NAMES, [3, 5, 7, 9], rle=True, crowds=True))


@case(names=NAMES, splits=SPLITS, layout="coco")
def coco_of_roboflow(root):
    """A category of no annotation, which only names the kind of the others; the same file names in each split."""
    for folder, split in (("train", "train"), ("valid", "val")):
        masks = {}
        for place, number in enumerate(SPLITS[split]):
            image, masks[f"t{place}.png"] = image_and(closed, number)
            save(root / folder / f"t{place}.png", image)
        made = coco_json(masks, NAMES, [1, 2, 3, 4])
        made["categories"].insert(0, {"id": 0, "name": "thing", "supercategory": "none"})
        text(root / folder / "_annotations.coco.json", made)


# Published sets.

CITY_IDS = np.array([7, 26, 24, 33, 21], np.uint8)
CITY_TRAIN_IDS = np.array([0, 13, 11, 18, 8], np.uint8)


def city(root, kind, values):
    for split, numbers in SPLITS.items():
        for number in numbers:
            image, mask = image_and(dense, number)
            town = ("aachen", "bochum")[number % 2]
            stem = f"{town}_{number:06d}_000019"
            save(root / f"leftImg8bit/{split}/{town}/{stem}_leftImg8bit.png", image)
            table = np.full(256, 3 if kind == "labelIds" else 255, np.uint8)
            table[:5] = values
            save(root / f"gtFine/{split}/{town}/{stem}_gtFine_{kind}.png", table[mask])
            save(root / f"gtFine/{split}/{town}/{stem}_gtFine_instanceIds.png", table[mask].astype(np.uint16) * 1000)


def in_city(mask):
    table = np.full(256, 255, np.uint8)
    table[:5] = CITY_TRAIN_IDS
    return table[dense(mask)]


@case(truth=in_city, splits=SPLITS, layout="cityscapes")
def cityscapes(root):
    city(root, "labelIds", CITY_IDS)


@case(truth=in_city, splits=SPLITS, layout="cityscapes")
def cityscapes_train_ids(root):
    city(root, "labelTrainIds", CITY_TRAIN_IDS)


def in_ade(mask):
    return np.array([255, 0, 4, 12, 149], np.uint8)[closed(mask)]


@case(truth=in_ade, splits=SPLITS, layout="ade20k")
def ade20k(root):
    for folder, split in (("training", "train"), ("validation", "val")):
        for number in SPLITS[split]:
            image, mask = image_and(closed, number)
            name = f"ADE_{split}_{number:08d}.png"
            save(root / "images" / folder / name, image)
            save(root / "annotations" / folder / name, np.array([0, 1, 5, 13, 150], np.uint8)[mask])


@case(truth=in_ade, splits=SPLITS, names=[f"thing{i}" for i in range(1, 151)], layout="ade20k")
def ade20k_with_its_list(root):
    ade20k(root)
    rows = "".join(f"{i}\t0.1\t1\t1\t1\tthing{i};alias\n" for i in range(1, 151))
    text(root / "objectInfo150.txt", f"Idx\tRatio\tTrain\tVal\tStuff\tName\n{rows}")


@case(truth=lambda mask: np.where(dense(mask) == 255, 255, dense(mask)), splits=SPLITS, layout="camvid")
def camvid(root):
    for split, numbers in SPLITS.items():
        for number in numbers:
            image, mask = image_and(dense, number)
            save(root / split / f"0001TP_{number:06d}.png", image)
            save(root / f"{split}annot" / f"0001TP_{number:06d}.png", np.where(mask == 255, 11, mask).astype(np.uint8))


def pets(root):
    for number in range(6):
        image, mask = image_and(lambda mask: np.where(dense(mask) == 255, 3, np.where(dense(mask) > 0, 1, 2)), number)
        save(root / f"images/beagle_{number}.png", image)
        save(root / f"annotations/trimaps/beagle_{number}.png", mask.astype(np.uint8))
        (root / f"annotations/trimaps/._beagle_{number}.png").write_bytes(b"\0\5\x16\7Mac OS X")


def is_pet(mask):
    return np.where(dense(mask) == 255, 255, dense(mask) > 0).astype(np.uint8)


@case(truth=is_pet, names=["background", "pet"], layout="oxford-pets")
def oxford_pets(root):
    pets(root)
    text(root / "annotations/list.txt", "#Image CLASS-ID SPECIES BREED ID\nbeagle_0 1 1 1\n")
    for name, numbers in (("trainval", range(4)), ("test", range(4, 6))):
        text(root / f"annotations/{name}.txt", "".join(f"beagle_{number} 1 1 1\n" for number in numbers))


def said(*values, **more):
    return lambda root: Hints(labels=parse_values(values), **more)


@case(
    truth=lambda mask: np.array([1, 0], np.uint8)[np.minimum(is_pet(mask), 1)] | np.where(is_pet(mask) == 255, 255, 0),
    names=["pet", "background"],
    layout="oxford-pets",
    hints=said("1=pet", "2=background", "3=void"),
)
def oxford_pets_as_said(root):
    pets(root)


@case(truth=dense, splits=SPLITS, layout="voc")
def devkit(root):
    place = root / "VOCdevkit" / "VOC2012"
    for number in range(6):
        image, mask = image_and(dense, number)
        save(place / f"JPEGImages/t{number}.png", image)
        save(place / f"SegmentationClass/t{number}.png", with_palette(mask))
    for split, numbers in SPLITS.items():
        text(place / f"ImageSets/Segmentation/{split}.txt", "".join(f"t{number}\n" for number in numbers))


@case(truth=dense, layout="voc")
def voc_without_val_and_with_tiff_masks(root):
    for number in range(6):
        image, mask = image_and(dense, number)
        save(root / f"JPEGImages/t{number}.png", image)
        save(root / f"SegmentationClass/t{number}.{('tif', 'bmp', 'png')[number % 3]}", mask)
    text(root / "ImageSets/Segmentation/train.txt", "# all of them\n" + "".join(f"t{number}\n" for number in range(6)))


# Folders.


@case(truth=closed, splits=SPLITS)
def mmsegmentation(root):
    for split, numbers in SPLITS.items():
        in_folders(root, closed, f"img_dir/{split}/t{{}}.png", f"ann_dir/{split}/t{{}}.png", numbers)


@case()
def suffix(root):
    in_folders(
        root, closed, "ISIC2018_Task1-2_Training_Input/I_{}.png", "ISIC2018_Task1_Training_GroundTruth/I_{}_segmentation.png"
    )


@case()
def prefix(root):
    in_folders(root, closed, "images/image_{}.png", "masks/mask_{}.png")


@case()
def other_case(root):
    in_folders(root, closed, "Images/IMG_{}.PNG", "Masks/img_{}_Mask.png")


@case()
def double_ending(root):
    in_folders(root, closed, "images/t.{}.png", "masks/t.{}.png_mask.png")


@case()
def channel(root):
    in_folders(root, closed, "imagesTr/case_{:03d}_0000.png", "labelsTr/case_{:03d}.png")


@case()
def one_folder_by_word(root):
    in_folders(root, closed, "data/{}_img.png", "data/{}_seg.png")


@case(truth=any_object)
def one_folder_by_format(root):
    for number in range(6):
        image, mask = image_and(any_object, number)
        save(root / f"crack_{number}.jpg", image, quality=100)
        save(root / f"crack_{number}.png", mask)


@case()
def a_folder_a_sequence(root):
    in_folders(root, closed, "images/seq{0}/cam/00001.png", "masks/seq{0}/cam/00001.png")


@case()
def sequences_with_folders(root):
    in_folders(root, closed, "seq{0}/images/00001.png", "seq{0}/labels/00001.png")


@case()
def inside_other_folders(root):
    in_folders(root, closed, "set-v2/data/images/{}.png", "set-v2/data/labels/{}.png")
    save(root / "__MACOSX/set-v2/._0.png", np.zeros((2, 2), np.uint8))


@case()
def images_above_masks(root):
    in_folders(root, closed, "{}.png", "masks/{}.png")


@case(layout="panoptic", names=NAMES[1:], splits=SPLITS, truth=lambda mask: closed(mask) - np.uint8(1))
def coco_panoptic(root):
    """Ids of segments above 16 bits; ids of categories with gaps; void where there is no segment."""
    categories_of = {1: 1, 2: 18, 3: 44, 4: 184}
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        images, annotations = [], []
        for number in numbers:
            image, mask = image_and(closed, number)
            save(root / f"{split}2017/t{number}.png", image)
            ids = np.where((mask > 0) & (mask < 5), mask.astype(np.int64) * 70_001, 0)
            save(
                root / f"annotations/panoptic_{split}2017/t{number}.png",
                np.dstack([ids % 256, ids // 256 % 256, ids // 65536]).astype(np.uint8),
            )
            images.append({"id": number, "file_name": f"t{number}.png"})
            segments = [
                {"id": k * 70_001, "category_id": categories_of[k], "iscrowd": 0} for k in range(1, 5) if (mask == k).any()
            ]
            annotations.append({"image_id": number, "file_name": f"t{number}.png", "segments_info": segments})
        categories = [{"id": categories_of[k], "name": NAMES[k]} for k in range(1, 5)]
        text(
            root / f"annotations/panoptic_{split}2017.json",
            json.dumps({"images": images, "annotations": annotations, "categories": categories}),
        )


@case(layout="class-masks", names=["background", "bar", "box", "diamond", "disc"], truth=CASES["label_studio"].truth)
def a_folder_a_class(root):
    for number in range(6):
        image, mask = image_and(closed, number)
        save(root / f"images/t{number}.png", image)
        for index in range(1, 5):
            if (mask == index).any() or number % 2:
                save(root / "masks" / NAMES[index] / f"t{number}.png", (mask == index) * np.uint8(255))


@case(layout="class-masks", names=["background", "bar", "box", "diamond", "disc"], truth=CASES["label_studio"].truth)
def masks_named_after_their_class(root):
    """As CelebAMask-HQ: numbers with zeros, folders of some images each, a number for each of several objects."""
    for number in range(6):
        image, mask = image_and(closed, number)
        save(root / f"Faces-img/{number}.png", image)
        for index in range(1, 5):
            inside = mask == index
            for part in range(2 if index == 3 else 1):
                half = inside & (np.indices(mask.shape)[1] % 2 == part) if index == 3 else inside
                last = f"_{part}" if index == 3 else ""
                save(root / f"mask-anno/{number // 2}/{number:05d}_{NAMES[index]}{last}.png", half * np.uint8(255))


@case(layout="class-masks", names=["background", "bar", "box", "diamond", "disc"], truth=CASES["label_studio"].truth)
def masks_named_after_their_class_and_mask(root):
    """With a mask whose image is not there."""
    masks_named_after_their_class(root)
    for path in sorted(root.glob("mask-anno/*/*.png")):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    save(root / "mask-anno/9/00099_disc_mask.png", np.full((48, 64), 255, np.uint8))


@case()
def folders_of_axes(root):
    """Slices of volumes: a folder y of images is no folder of masks."""
    for number in range(6):
        image, mask = image_and(closed, number)
        save(root / f"images/{'xyz'[number // 2]}/{number}.png", image)
        save(root / f"masks/{'xyz'[number // 2]}/{number}.png", mask)


@case()
def folders_whose_names_say_nothing(root):
    """The masks are the files of few colors."""
    in_folders(root, closed, "pictures/{}.png", "painted/{}.png")


@case(splits=SPLITS)
def folders_x_and_y(root):
    in_folders(root, closed, "x_train/{}.png", "y_train/{}.png", range(4))
    in_folders(root, closed, "x_val/{}.png", "y_val/{}.png", range(4, 6))


@case(hints=lambda root: Hints(pair="scan{stem}.png=drawn-{stem}_v2.png"))
def pairs_as_said(root):
    in_folders(root, closed, "images/scan{}.png", "masks/drawn-{}_v2.png")


@case(hints=lambda root: Hints(masks="training/1st_manual"), truth=any_object)
def masks_as_said_from_the_top(root):
    """As DRIVE: all names of a kind have words of their own, and there is a folder of other masks."""
    in_folders(root, any_object, "training/images/{}_training.tif", "training/1st_manual/{}_manual1.gif")
    in_folders(root, lambda mask: mask * 0 + 255, "training/images/{}_training.tif", "training/mask/{}_training_mask.gif")
    save(root / "test/images/9_test.tif", np.zeros((48, 64, 3), np.uint8))


# Masks of every kind.


@case()
def floating_point_masks(root):
    in_folders(root, lambda mask: closed(mask).astype(np.float32), mask="masks/t{}.tif")


def levels(*values):
    table = np.array(values)
    return lambda mask: table.astype(np.uint8 if table.max() < 256 else np.uint16)[np.minimum(closed(mask), len(values) - 1)]


def upto(count):
    return lambda mask: np.minimum(closed(mask), count - 1)


@case(truth=upto(3))
def gray_levels_to_255(root):
    in_folders(root, levels(0, 128, 255))


@case(truth=upto(4))
def gray_levels_that_are_not_even(root):
    in_folders(root, levels(0, 100, 200, 255))


@case(truth=upto(2), names=BINARY)
def sixteen_bits(root):
    in_folders(root, levels(0, 65535))


@case(truth=upto(4))
def sixteen_bits_of_eight(root):
    in_folders(root, levels(0, 85 * 257, 170 * 257, 65535), mask="masks/t{}.tif")


@case(truth=upto(2))
def one_bit(root):
    in_folders(root, lambda mask: closed(mask) > 0)


@case(truth=closed)
def transparent_background(root):
    colors = np.dstack([COLORS[None], np.full((1, 5, 1), 255, np.uint8)])[0]
    colors[0] = 77, 78, 79, 0
    in_folders(root, lambda mask: colors[closed(mask)])


CASES["transparent_background"].truth = lambda mask: np.array([0, 3, 2, 4, 1], np.uint8)[closed(mask)]


@case(truth=closed)
def indices_saved_as_rgb(root):
    in_folders(root, lambda mask: np.repeat(closed(mask)[..., None], 3, 2))


def wide(form):
    """The toy's mask, three times as large: compression blurs what is smaller."""
    return lambda mask: form(mask).repeat(4, 0).repeat(4, 1)


def lossy(root, form, **options):
    for number in range(6):
        image, mask = toy_sample(number)
        save(root / f"images/t{number}.png", image.repeat(4, 0).repeat(4, 1))
        save(root / f"masks/t{number}.jpg", wide(form)(mask), **options)


@case(truth=wide(any_object), names=BINARY, edges=True)
def jpeg_masks(root):
    lossy(root, lambda mask: any_object(mask) * np.uint8(255), quality=80)


@case(truth=wide(upto(3)), edges=True)
def jpeg_masks_of_three_levels(root):
    lossy(root, levels(0, 128, 255), quality=90)


@case(truth=wide(upto(3)), names=["ground", "disc", "rest"], edges=True)
def jpeg_masks_of_colors(root):
    lossy(root, lambda mask: COLORS[upto(3)(mask)], quality=90)
    rows = "".join(f"{n},{r},{g},{b}\n" for n, (r, g, b) in zip(("ground", "disc", "rest"), COLORS[:3], strict=True))
    text(root / "class_dict.csv", f"name,r,g,b\n{rows}")


@case(
    truth=lambda mask: np.array([0, 1, 2, 255, 255], np.uint8)[closed(mask)], hints=said("0=sky", "1=road", "2=car", "3-4=void")
)
def a_label_to_ignore(root):
    in_folders(root, closed, "train/t{}.png", "trainannot/t{}.png")


CASES["a_label_to_ignore"].names = ["sky", "road", "car"]


@case(
    truth=lambda mask: np.array([0, 1, 1, 2, 2], np.uint8)[closed(mask)],
    names=["ground", "round", "other"],
    hints=said("0,0,0=ground", "250,50,83=round", "42,125,209=round", "255,204,51=other", "9,200,7=other"),
)
def merged_colors(root):
    in_folders(root, lambda mask: COLORS[closed(mask)])


@case(
    truth=lambda mask: (closed(mask) > 0).astype(np.uint8), names=["ground", "thing"], hints=said("0=ground", "1-65535=thing")
)
def instances_as_said(root):
    in_folders(root, lambda mask: closed(mask).astype(np.uint16) * np.uint16(999))


@case(truth=lambda mask: dense(mask)[::2, ::2].repeat(2, 0).repeat(2, 1), hints=lambda root: Hints(resize_masks=True))
def masks_of_half_size(root):
    in_folders(root, lambda mask: with_palette(np.ascontiguousarray(dense(mask)[::2, ::2])))


@case(truth=lambda mask: (blurred(mask) >= 100).astype(np.uint8), names=BINARY, hints=lambda root: Hints(threshold=100))
def smooth_edges_cut(root):
    in_folders(root, blurred)


def blurred(mask):
    image = Image.fromarray(any_object(mask) * np.uint8(255))
    return np.asarray(image.resize((32, 24), Image.Resampling.BILINEAR).resize((64, 48), Image.Resampling.BILINEAR))


@case(truth=upto(2), names=BINARY, hints=lambda root: Hints(ignore_exif=True))
def images_turned_by_exif(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(6):
        image, mask = image_and(levels(0, 255), number)
        save(root / f"images/t{number}.{('png', 'jpg')[number % 2]}", image, exif=exif)
        save(root / f"masks/t{number}.png", mask)


# Tables, lists, and lists of names.


def shuffled(number):
    return (number + 2) % 6


def pictures(root, image="a/photo_{}.png", mask="b/{}_out.png", renamed=lambda number: number):
    """Toy pictures, with the masks' numbers changed."""
    for number in range(6):
        picture, made = image_and(closed, number)
        save(root / image.format(number), picture)
        save(root / mask.format(renamed(number)), made)


@case(layout="index")
def pairs_in_a_csv(root):
    pictures(root, "images/{}.png", "masks/{}.png", shuffled)
    text(root / "pairs.csv", "image;mask\n" + "".join(f"/old/images/{n}.png;masks/{shuffled(n)}.png\n" for n in range(6)))


@case(layout="index", splits=SPLITS)
def pairs_and_splits_in_a_csv(root):
    pictures(root)
    rows = [f"{split},a/photo_{n}.png,b/{n}_out.png\n" for split, part in SPLITS.items() for n in part]
    text(root / "index.csv", "Set,picture,label\n" + "".join(rows).replace("train", "Training"))


@case(layout="index", splits=SPLITS)
def pairs_in_a_json_of_splits(root):
    pictures(root)
    found = {s: [{"image": f"./a/photo_{n}.png", "label": f"./b/{n}_out.png"} for n in part] for s, part in SPLITS.items()}
    text(root / "dataset.json", {"name": "toy", "training": found["train"], "validation": found["val"]})


@case(layout="index", splits=SPLITS)
def pairs_in_lists_of_two_columns(root):
    pictures(root)
    for split, part in SPLITS.items():
        text(root / f"{split}.txt", "".join(f"a/photo_{n}.png b/{n}_out.png\n" for n in part))


@case(layout="index")
def pairs_in_json_lines(root):
    pictures(root, "train/{}.png", "train/m{}.png", shuffled)
    lines = [json.dumps({"file_name": f"{n}.png", "mask": f"m{shuffled(n)}.png"}) for n in range(6)]
    text(root / "train/metadata.jsonl", "\n".join(lines))


@case(splits=SPLITS)
def lists_at_the_top(root):
    in_folders(root, closed)
    text(root / "train.txt", "".join(f"images/t{n}.png\n" for n in SPLITS["train"]))
    text(root / "val_list.txt", "t4\nt5\n")
    text(root / "notes.txt", "t4\n")


@case(splits=SPLITS)
def a_list_of_val_in_a_folder(root):
    in_folders(root, closed, "set/images/t{}.png", "set/labels/t{}.png")
    text(root / "set/valid.txt", "t4.png\nt5.png\n")
    text(root / "readme/none.md", "")


@case(splits=SPLITS)
def splits_in_a_csv(root):
    in_folders(root, closed)
    rows = [f"{n},t{n}.png,{split}\n" for split, part in SPLITS.items() for n in part]
    text(root / "split.csv", "id,filename,split\n" + "".join(rows))


@case(splits=SPLITS, truth=any_object, names=BINARY)
def folders_named_like_traincrop(root):
    for split, part in SPLITS.items():
        for number in part:
            image, mask = image_and(any_object, number)
            save(root / f"{split}crop/{number}.jpg", image, quality=100)
            save(root / f"{split}crop/{number}.png", mask * np.uint8(255))


@case()
def masks_in_a_folder_below(root):
    """As SYNTHIA has GT/COLOR, and Mapillary v2.0/labels: no folder of a class."""
    in_folders(root, lambda mask: COLORS[closed(mask)], "RGB/{}.png", "GT/COLOR/{}.png")


CASES["masks_in_a_folder_below"].truth = CASES["transparent_background"].truth


@case(names=NAMES)
def names_in_a_list_below(root):
    in_folders(root, lambda mask: COLORS[closed(mask)], "set/images/{}.png", "set/masks/{}.png")
    rows = [f"{name}, {', '.join(map(str, color))}\n" for name, color in zip(NAMES, COLORS.tolist(), strict=True)]
    text(root / "set/class_dict_seg.csv", "name, r, g, b\n" + "".join(rows))


@case(names=NAMES)
def names_of_nnunet(root):
    in_folders(root, closed, "imagesTr/t{}_0000.png", "labelsTr/t{}.png")
    text(root / "dataset.json", {"labels": {name: index for index, name in enumerate(NAMES)}, "numTraining": 6})


@case(names=["ground", "disc", "box", "diamond"], truth=lambda mask: np.array([0, 1, 2, 3, 255], np.uint8)[closed(mask)])
def names_of_mapillary(root):
    in_folders(root, lambda mask: with_palette(closed(mask)), "training/images/{}.png", "training/v2.0/labels/{}.png")
    names = ["Ground", *[f"thing--{name}" for name in NAMES[1:4]], "Unlabeled"]
    labels = [{"name": n, "readable": n.rpartition("-")[2].lower(), "color": COLORS[i].tolist()} for i, n in enumerate(names)]
    text(root / "config_v2.0.json", {"labels": labels, "version": "2.0"})


# Names and folders of published sets.


@case(layout="parts", names=BINARY, truth=any_object)
def a_folder_an_image(root):
    """As the Data Science Bowl has it: a binary mask for each object."""
    for number in range(6):
        image, mask = image_and(closed, number)
        save(root / f"stage1_train/t{number}/images/t{number}.png", image)
        for index in range(1, 5):
            save(root / f"stage1_train/t{number}/masks/{index}f.png", (mask == index) * np.uint8(255))


@case(layout="parts", names=BINARY, truth=any_object)
def further_masks_by_number(root):
    """As BUSI has them."""
    for number in range(6):
        image, mask = image_and(closed, number)
        save(root / f"benign/benign ({number}).png", image)
        for index in range(1, 5):
            ending = f"_{index - 1}" if index > 1 else ""
            save(root / f"benign/benign ({number})_mask{ending}.png", (mask == index) * np.uint8(255))


@case(splits=SPLITS)
def last_words_of_masks(root):
    """As FloodNet and Freiburg Forest have them."""
    for split, numbers in SPLITS.items():
        in_folders(root, closed, f"{split}/{split}-org-img/{{}}.png", f"{split}/{split}-label-img/{{}}_lab.png", numbers)


@case(truth=any_object)
def last_words_with_numbers(root):
    """As DRIVE has them, with a mask of the field of view that is no mask of classes."""
    in_folders(root, levels(0, 255, 255, 255, 255), "set/images/{}_training.tif", "set/1st_manual/{}_manual1.gif")
    for number in range(6):
        save(root / f"set/mask/{number}_training_mask.gif", np.full(toy_sample(0)[1].shape, 255, np.uint8))


@case(splits=SPLITS)
def several_kinds_of_masks(root):
    """As ACDC has them."""
    for split, numbers in SPLITS.items():
        for kind, form in (("labelColor", lambda mask: COLORS[closed(mask)]), ("labelTrainIds", closed), ("labelIds", dense)):
            image = f"rgb_anon/{split}/a/a_{{}}_rgb_anon.png"
            in_folders(root, form, image, f"gt/{split}/a/a_{{}}_gt_{kind}.png", numbers)


@case()
def satellite_images(root):
    in_folders(root, closed, "train/{}_sat.png", "train/{}_mask.png")


@case()
def words_without_a_space(root):
    in_folders(root, closed, "PNGImages/{}.png", "PedMasks/{}_mask.png")


@case()
def ground_truth_of_an_original(root):
    in_folders(root, closed, "PNG/Original/{}.png", "PNG/Ground Truth/{}.png")
    in_folders(root, closed, "TIF/Original/{}.tif", "TIF/Ground Truth/{}.tif")


@case()
def images_of_any_name_beside_the_masks(root):
    in_folders(root, closed, "top/area{}.png", "gts for all/area{}.png")


@case()
def semantic_beside_other_kinds(root):
    in_folders(root, closed, "training/image_2/{}_10.png", "training/semantic/{}_10.png")
    in_folders(root, closed, "training/image_2/{}_10.png", "training/semantic_rgb/{}_10.png")


@case(splits={"train": [0, 1, 2], "val": [3], "test": [4, 5]})
def train_val_and_test(root):
    """As SUIM and LIP have them."""
    for folder, numbers in (("TrainVal_images/train", range(3)), ("TrainVal_images/val", [3]), ("TEST_images", [4, 5])):
        masks = folder.replace("images", "annotations")
        in_folders(root, closed, f"{folder}/{{}}.png", f"{masks}/{{}}.png", numbers)


@case()
def val_and_test_alone(root):
    for folder, numbers in (("val", range(4)), ("test", [4, 5])):
        in_folders(root, closed, f"{folder}/images/{{}}.png", f"{folder}/masks/{{}}.png", numbers)


@case(splits={"train": [0, 1], "val": [2, 3], "test": [4, 5]})
def labs_of_splits(root):
    """As DeepCrack has them."""
    for split, numbers in {"train": [0, 1], "val": [2, 3], "test": [4, 5]}.items():
        in_folders(root, closed, f"{split}_img/{{}}.png", f"{split}_lab/{{}}.png", numbers)
