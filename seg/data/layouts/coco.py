"""COCO's annotations: a JSON of images, annotations and categories per split, and folders of images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...errors import UserError
from ...files import read_json
from ...labels import VOID, LabelSet
from . import names
from .base import Layout, Sample, Splits, find_images, flat_id, label_set, split_name, stem, with_background
from .polygons import fill_polygon
from .rle import decode_rle

_LARGEST = 200_000_000
"""Pixels of an image."""
_KEYS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class Region:
    """A part of an image that has one class."""

    category: int
    segmentation: Any
    crowd: bool
    area: float
    number: int

    @classmethod
    def of(cls, annotation: dict[str, Any], category: int) -> Region:
        """The region of an annotation, of the class of an index; a crowd is void."""
        crowd, area, number = bool(annotation.get("iscrowd")), annotation.get("area"), annotation.get("id")
        return cls(
            VOID if crowd else category,
            annotation["segmentation"],
            crowd,
            float(area) if isinstance(area, int | float) else 0.0,
            number if isinstance(number, int) else 0,
        )


class Coco(Layout):
    """annotations/instances_SPLIT.json, or _annotations.coco.json beside the images."""

    name = "coco"

    @cached_property
    def files(self) -> list[str]:
        """The JSON files with images, annotations and categories; of COCO's own kinds only instances."""
        found = [name for name in self.tree.files if name.lower().endswith(".json") and _is_coco(self.folder / name)]
        found = [name for name in found if not re.match(r"(captions|person_keypoints|image_info)", PurePosixPath(name).name)]
        other = [name for name in found if holds_segments(self.folder / name)]
        if other and len(other) < len(found):
            self.notes.append(f"{', '.join(other)}: panoptic annotations are left out; --layout panoptic reads them")
        return [name for name in found if name not in other]

    def matches(self) -> bool:
        return bool(self.files)

    @cached_property
    def contents(self) -> dict[str, dict[str, Any]]:
        """The contents of the JSON files, checked."""
        return {name: read_annotations(self.folder / name) for name in self.files}

    @cached_property
    def categories(self) -> dict[tuple[str, int], str]:
        """Name of each category, by file and id. A category that only groups the others, such as Roboflow's 0, is left out."""
        found = {}
        for name, data in self.contents.items():
            used = {annotation["category_id"] for annotation in data["annotations"]}
            above = [category.get("supercategory") for category in data["categories"] if category["id"] in used]
            for category in data["categories"]:
                if category["id"] in used or category["name"] not in above:
                    found[name, category["id"]] = category["name"]
        return found

    @cached_property
    def classes(self) -> list[str]:
        """Class names: background, then the categories by id."""
        ranked = sorted(self.categories.items(), key=lambda pair: (pair[0][1], pair[1]))
        return with_background(dict.fromkeys(name for _, name in ranked if not names.is_void(name)))

    def labels(self) -> LabelSet:
        return label_set(self.classes, str(self.folder / self.files[0]) if self.files else str(self.folder))

    def samples(self) -> Splits:
        if not self.files:
            raise UserError(f"{self.folder}: no COCO annotations (a JSON file with images, annotations and categories)")
        found: Splits = {}
        files = find_images(self.tree, self.hints)
        first = self.folder / self.files[0]
        absent = total = boxes = 0
        for name, data in self.contents.items():
            path = self.folder / name
            split = _split_of(name)
            regions: dict[int, list[Region]] = {}
            for annotation in data["annotations"]:
                if not annotation.get("segmentation"):
                    boxes += 1
                    continue
                regions.setdefault(annotation["image_id"], []).append(self._region(name, annotation, path))
            for image in data["images"]:
                total += 1
                file = _find(image["file_name"], path, split, files)
                if file is None:
                    absent += 1
                    continue
                here = regions.get(image["id"], [])
                drawn = partial(draw, here, (image["height"], image["width"]), f"{path}: image {image['file_name']}")
                item = flat_id(*_folders(image["file_name"]), stem(PurePosixPath(image["file_name"].replace("\\", "/")).name))
                found.setdefault(split, {})[item] = Sample(file, drawn, path)
        if not any(found.values()):
            raise UserError(f"{first}: none of its {total} images was found; give their folder by --images")
        if boxes and not any(a.get("segmentation") for data in self.contents.values() for a in data["annotations"]):
            raise UserError(
                f"{first}: its annotations are boxes without segmentation, which give no masks; export segmentations"
            )
        self.notes.append(
            f"{', '.join(self.files)}: {total - absent} images; pixels outside all regions are background; crowds are void"
        )
        self.left_out(absent, total, "images are not there")
        every = sum(len(data["annotations"]) for data in self.contents.values())
        self.left_out(boxes, every, "annotations have no segmentation")
        return found

    def _region(self, name: str, annotation: dict[str, Any], path: Path) -> Region:
        key = (name, annotation["category_id"])
        if key not in self.categories:
            raise UserError(
                f"{path}: annotation {annotation.get('id')} has category {annotation['category_id']}, which is not in its "
                "list 'categories'; add the category to the list or delete the annotation"
            )
        label = self.categories[key]
        index = VOID if names.is_void(label) else self.classes.index(label)
        return Region.of(annotation, index)


def draw(regions: Sequence[Region], size: tuple[int, int], place: str) -> np.ndarray:
    """The mask of an image of size (H, W): uint8. Crowds first, then from large to small, so that small objects stay visible.

    Raises:
        UserError: a region is not polygons or RLE of the image's size.
    """
    mask = np.zeros(size, np.uint8)
    for region in sorted(regions, key=lambda region: (not region.crowd, -region.area)):
        where = f"{place}: annotation {region.number}"
        if isinstance(region.segmentation, dict):
            mask[decode_rle(region.segmentation, size, where)] = region.category
        else:
            for polygon in region.segmentation if isinstance(region.segmentation, list) else [None]:
                fill_polygon(mask, polygon, region.category, where)
    return mask


def _is_coco(path: Path) -> bool:
    """Whether a JSON file starts with keys of COCO, or is named so."""
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 16)
    except OSError:
        return False
    keys = sum(f'"{key}"'.encode() in head for key in (*_KEYS, "info", "licenses"))
    named = re.search(r"instances|coco", path.name, re.IGNORECASE)
    if b'"items"' in head and b'"images"' not in head:  # Datumaro's
        return False
    return head.lstrip()[:1] == b"{" and keys >= (1 if named else 2)


def holds_segments(path: Path) -> bool:
    """Whether a JSON file has panoptic annotations. They may be the last in it: a file of such a name is read whole."""
    try:
        with path.open("rb") as file:
            return b'"segments_info"' in file.read(-1 if "panoptic" in path.name.lower() else 1 << 16)
    except OSError:
        return False


def read_annotations(path: Path) -> dict[str, Any]:
    """The contents of a COCO file. Raises UserError, with the place, if it does not have COCO's format."""
    data = read_json(path, "COCO annotations")
    for key in _KEYS:
        if not isinstance(data.get(key), list):
            raise UserError(f"{path}: COCO annotations must have a list '{key}'")
    wanted: dict[str, dict[str, type]] = {
        "images": {"id": int, "file_name": str, "height": int, "width": int},
        "annotations": {"image_id": int, "category_id": int},
        "categories": {"id": int, "name": str},
    }
    for key, fields in wanted.items():
        for number, entry in enumerate(data[key]):
            for name, kind in fields.items():
                value = entry.get(name) if isinstance(entry, dict) else None
                if not isinstance(value, kind) or isinstance(value, bool):
                    raise UserError(f"{path}: {key}[{number}]: '{name}' must be {'an integer' if kind is int else 'a text'}")
    for image in data["images"]:
        if not (image["height"] > 0 and image["width"] > 0 and image["height"] * image["width"] <= _LARGEST):
            size = f"{image['width']}x{image['height']}"
            raise UserError(f"{path}: image {image['file_name']}: {size} pixels is not the size of an image")
    return data


def _split_of(name: str) -> str | None:
    """The split named by a JSON file, or else by its folder."""
    parts = PurePosixPath(name)
    said = [split_name(word) for word in re.findall(r"[A-Za-z]+\d*", parts.stem)]
    return next((split for split in (*said, *map(split_name, reversed(parts.parts[:-1]))) if split), None)


def _folders(name: str) -> tuple[str, ...]:
    parts = PurePosixPath(name.replace("\\", "/")).parts[:-1]
    return tuple(part for part in parts if part not in ("/", "..", "images") and not split_name(part))


def _find(name: str, annotations: Path, split: str | None, files: dict[str, list[Path]]) -> Path | None:
    """The image of a name: the file whose path ends with it; of several, one in the split's folder or beside the JSON."""
    wanted = PurePosixPath(name.replace("\\", "/"))
    candidates = files.get(wanted.name, [])

    def rank(path: Path) -> tuple[int, bool, bool]:
        ends = sum(a == b for a, b in zip(reversed(path.parts), reversed(wanted.parts), strict=False))
        return ends, split is not None and split in map(split_name, path.parts[:-1]), path.parent == annotations.parent

    return max(candidates, key=rank) if candidates else None
