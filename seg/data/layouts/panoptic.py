"""COCO's panoptic annotations: a JSON of segments per split, and a folder of PNGs whose colors are the segments' numbers."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...errors import UserError
from ...files import read_json
from ...labels import VOID, LabelSet
from ..images import decode
from ..masks import MASK_FORMATS
from . import names
from .base import Layout, Sample, Splits, find_images, flat_id, label_set, split_name, stem
from .coco import holds_segments


class Panoptic(Layout):
    """annotations/panoptic_SPLIT.json, with the PNGs in annotations/panoptic_SPLIT/. Crowds and unlabelled pixels are void."""

    name = "panoptic"

    @cached_property
    def files(self) -> list[str]:
        """The JSON files of segments."""
        return [name for name in self.tree.files if name.lower().endswith(".json") and holds_segments(self.folder / name)]

    def matches(self) -> bool:
        return bool(self.files)

    @cached_property
    def contents(self) -> dict[str, dict[str, Any]]:
        """The contents of the JSON files, checked."""
        return {name: _read(self.folder / name) for name in self.files}

    @cached_property
    def classes(self) -> dict[int, str]:
        """The name of each category that is not void, by id, in the order of the ids."""
        found = {entry["id"]: entry["name"] for data in self.contents.values() for entry in data["categories"]}
        return {number: found[number] for number in sorted(found) if not names.is_void(found[number])}

    def labels(self) -> LabelSet:
        return label_set(
            dict.fromkeys(self.classes.values()), str(self.folder / self.files[0]) if self.files else str(self.folder)
        )

    def samples(self) -> Splits:
        if not self.files:
            raise UserError(f"{self.folder}: no panoptic annotations (a JSON file with segments_info, and a folder of PNGs)")
        order = list(dict.fromkeys(self.classes.values()))
        classes = {number: order.index(name) for number, name in self.classes.items()}
        files = {*self.tree.files}
        pictures = find_images(self.tree, self.hints)
        found: Splits = {}
        absent = total = 0
        for name, data in self.contents.items():
            path = self.folder / name
            images = {image["id"]: image["file_name"] for image in data["images"]}
            split = next((s for part in (path.stem, path.parent.name) for w in part.split("_") if (s := split_name(w))), None)
            for entry in data["annotations"]:
                total += 1
                drawn_in = PurePosixPath(name).with_suffix("") / entry["file_name"]
                mask = self.folder / drawn_in
                base = PurePosixPath(images.get(entry["image_id"], "")).name
                candidates = [one for one in pictures.get(base, []) if one != mask]
                image = next((one for one in candidates if split in map(split_name, one.parts)), next(iter(candidates), None))
                if image is None or str(drawn_in) not in files:
                    absent += 1
                    continue
                drawn = partial(_draw, mask, entry["segments_info"], classes)
                found.setdefault(split, {})[flat_id(stem(base))] = Sample(image, drawn, mask)
        if not found:
            raise UserError(
                f"{self.folder / self.files[0]}: none of its {total} images was found with its PNG; put the PNGs into "
                f"{PurePosixPath(self.files[0]).stem} beside it, or give the folder of the images by --images"
            )
        self.notes.append(f"{', '.join(self.files)}: {total - absent} images; crowds and unlabelled pixels are void")
        self.left_out(absent, total, "images or their PNGs are not there")
        return found


def _read(path: Path) -> dict[str, Any]:
    """The contents of a file. Raises UserError, with the place, if it does not have the format."""
    data = read_json(path, "panoptic annotations")
    wanted: dict[str, dict[str, type]] = {
        "images": {"id": int, "file_name": str},
        "annotations": {"image_id": int, "file_name": str, "segments_info": list},
        "categories": {"id": int, "name": str},
    }
    for key, fields in wanted.items():
        entries = data.get(key)
        if not isinstance(entries, list):
            raise UserError(f"{path}: panoptic annotations must have a list '{key}'")
        for number, entry in enumerate(entries):
            for name, kind in fields.items():
                if not isinstance(entry, dict) or not isinstance(entry.get(name), kind):
                    raise UserError(f"{path}: {key}[{number}] has no valid '{name}'; export the file again")
    known = {entry["id"] for entry in data["categories"]}
    for number, entry in enumerate(data["annotations"]):
        for segment in entry["segments_info"]:
            numbers = (segment.get("id"), segment.get("category_id")) if isinstance(segment, dict) else (None, None)
            if not all(isinstance(one, int) for one in numbers) or numbers[1] not in known:
                raise UserError(
                    f"{path}: annotations[{number}]: a segment must have an id, and a category_id of the list 'categories'"
                )
    return data


def _draw(path: Path, segments: list[dict[str, Any]], classes: dict[int, int]) -> np.ndarray:
    """The mask of an image: uint8 [H, W], class index or 255. A color (R, G, B) is the segment R + 256 G + 65536 B.

    Raises:
        UserError: a color is the number of no segment.
    """
    pixels = np.asarray(decode(path, MASK_FORMATS).convert("RGB")).astype(np.int64)
    numbers, where = np.unique(pixels @ np.array([1, 256, 65536]), return_inverse=True)
    table = {0: VOID}
    for segment in segments:
        table[segment["id"]] = VOID if segment.get("iscrowd") else classes.get(segment["category_id"], VOID)
    unknown = [number for number in numbers.tolist() if number not in table]
    if unknown:
        raise UserError(f"{path}: segment {unknown[0]} is not in the JSON's segments_info; export both again")
    values = np.array([table[number] for number in numbers.tolist()], np.uint8)
    mask: np.ndarray = values[where].reshape(pixels.shape[:2])
    return mask
