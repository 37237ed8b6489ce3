"""Masks of VOC's classes from the instances of COCO, to train on before VOC.

COCO/annotations/instances_SPLIT2017.json   COCO/SPLIT2017/*.jpg   (the official archives, unpacked)

Protocol: arXiv 1706.05587, section 4.1: images of the 20 classes with more than 1,000 labeled pixels. Its training images,
trainval without minival, are train2017; minival is val2017.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...files import link, write_text
from ...labels import VOC
from ...threads import prefetch
from ..layouts.coco import Region, draw, read_annotations
from ..voc import IMAGES, LISTS, MASKS
from .masks import put_mask

SMALLEST = 1000
"""An image is used if more pixels than this number have one of VOC's classes."""
RENAMED = {
    "airplane": "aeroplane",
    "couch": "sofa",
    "dining table": "diningtable",
    "motorcycle": "motorbike",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}
"""VOC's names of COCO's categories, where they differ."""
OWN = MASKS[1]


@dataclass(frozen=True)
class PreparedCoco:
    """The result of `prepare_coco`."""

    path: Path
    """The data set."""
    images: dict[str, int]
    """Number of images of each split."""
    few: dict[str, int]
    """Number of images with the classes that have too few pixels of them."""


def prepare_coco(
    coco: str | Path, out: str | Path | None = None, *, progress: Callable[[int, int], None] | None = None
) -> PreparedCoco:
    """Write a data set in VOC layout with masks of VOC's 20 classes from COCO's instances.

    Crowds are void where there is no other object. Small objects stay visible on large ones. Correct existing masks are kept.
    Each list is written after its masks: an interrupted run has no list, and the next run continues.

    Args:
        coco: folder of COCO 2017.
        out: the folder to write; None: COCO/voc. Images become links.
        progress: called with (images done, images) of a split.

    Raises:
        UserError: annotations or an image are missing or damaged, or the data set cannot be written.
    """
    coco = Path(coco)
    out = Path(out or coco / "voc")
    images, few = {}, {}
    for split in ("train", "val"):
        images[split], few[split] = _prepare_split(coco, out, split, progress)
    return PreparedCoco(out, images, few)


def _prepare_split(coco: Path, out: Path, split: str, progress: Callable[[int, int], None] | None) -> tuple[int, int]:
    """Write the masks and the list of a split; return the numbers of images in it and of those with too few pixels."""
    path, folder = coco / "annotations" / f"instances_{split}2017.json", coco / f"{split}2017"
    for place in (path, folder):
        if not place.exists():
            raise UserError(f"{place}: not found; --coco names the folder with annotations/, train2017/ and val2017/")
    there = {*os.listdir(folder)}
    sizes, regions = _read_regions(path)

    def make(number: int) -> str | None:
        name, size = sizes[number]
        if name not in there:
            raise UserError(f"{folder / name}: no such image, but {path.name} lists it; extract the archive again")
        mask = draw(regions[number], size, f"{path}: image {name}")
        if np.count_nonzero((mask > 0) & (mask < len(VOC))) <= SMALLEST:
            return None
        item = Path(name).stem
        link(folder / name, out / IMAGES / name)
        put_mask(out / OWN / f"{item}.png", mask)
        return item

    found = []
    for done, item in enumerate(prefetch(make, sorted(regions), 2 * (os.cpu_count() or 1)), 1):
        found += [item] if item else []
        if progress:
            progress(done, len(regions))
    write_text(out / LISTS / f"{split}.txt", "".join(f"{item}\n" for item in found))
    return len(found), len(regions) - len(found)


def _read_regions(path: Path) -> tuple[dict[int, tuple[str, tuple[int, int]]], dict[int, list[Region]]]:
    """Name and (height, width) of each image, and the regions of VOC's classes of each image that has some, by its id."""
    data = read_annotations(path)
    indices = {}
    for category in data["categories"]:
        name = RENAMED.get(category["name"], category["name"])
        if name in VOC.names:
            indices[category["id"]] = VOC.names.index(name)
    if len(indices) != len(VOC) - 1:
        absent = {*VOC.names[1:]} - {VOC.names[index] for index in indices.values()}
        raise UserError(f"{path}: has no category for {', '.join(sorted(absent))}; give COCO's own instances")
    sizes = {image["id"]: (image["file_name"], (image["height"], image["width"])) for image in data["images"]}
    regions: dict[int, list[Region]] = {}
    for annotation in data["annotations"]:
        if annotation["category_id"] in indices and annotation.get("segmentation"):
            number = annotation["image_id"]
            if number not in sizes:
                raise UserError(
                    f"{path}: annotation {annotation.get('id')} is of image {number}, which is not in its list 'images'; "
                    "the file is not complete: extract COCO's archive again"
                )
            regions.setdefault(number, []).append(Region.of(annotation, indices[annotation["category_id"]]))
    return sizes, regions
