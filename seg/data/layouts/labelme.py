"""labelme's annotations: a JSON file of shapes for each image; and the output of labelme_json_to_dataset."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ...errors import UserError
from ...files import read_json, read_lines
from ...labels import VOID, LabelSet
from ..images import decode, read_header
from ..masks import MASK_FORMATS
from . import names
from .base import Embedded, Layout, Sample, Splits, find_images, flat_id, label_set, split_name, stem, with_background

LINE_WIDTH, POINT_SIZE = 10, 5
"""Width of lines and radius of points in pixels, as labelme draws them."""
_LARGEST_SIDE = 100_000


class Labelme(Layout):
    """NAME.json of shapes beside NAME.jpg, in one folder, a folder per split, or folders of their own."""

    name = "labelme"

    @cached_property
    def files(self) -> list[str]:
        """The JSON files that hold shapes."""
        return [name for name in self.tree.files if name.lower().endswith(".json") and _has_shapes(self.folder / name)]

    def matches(self) -> bool:
        return bool(self.files)

    @cached_property
    def annotations(self) -> dict[str, dict[str, Any]]:
        """The contents of the JSON files."""
        return {name: read_annotation(self.folder / name) for name in self.files}

    @cached_property
    def classes(self) -> list[str]:
        """Class names, background first, then in the order of a list of names, or alphabetically."""
        used = {str(shape["label"]) for data in self.annotations.values() for shape in data["shapes"]}
        for name in ("labels.txt", "class_names.txt", "classes.txt"):
            if (self.folder / name).is_file():
                listed = [line for line in read_lines(self.folder / name) if not names.is_void(line)]
                return with_background([*listed, *sorted(used - {*listed, *names.VOID_NAMES})])
        return with_background(sorted(name for name in used if not names.is_void(name)))

    def labels(self) -> LabelSet:
        return label_set(self.classes, str(self.folder))

    def samples(self) -> Splits:
        if not self.files:
            raise UserError(f"{self.folder}: no labelme annotations (JSON files with 'shapes')")
        images = find_images(self.tree, self.hints)
        found: Splits = {}
        used: set[Path] = set()
        for name, data in self.annotations.items():
            path = self.folder / name
            image = _image_of(path, data, images)
            if isinstance(image, Path):
                used.add(image)
            folders = PurePosixPath(name).parts[:-1]
            split = next((s for s in map(split_name, folders) if s), None)
            rest = [part for part in folders if not split_name(part) and part.lower() not in _PLAIN]
            item = flat_id(*rest, stem(PurePosixPath(name).name))
            found.setdefault(split, {})[item] = Sample(image, partial(draw, data, self.classes, path, image), path)
        count = sum(len(paths) for paths in images.values()) - len(used)
        self.notes.append(f"{len(self.files)} annotations of labelme; their shapes are drawn in the order of the file")
        self.left_out(count, count + len(used), "images have no annotation")
        return found


_PLAIN = frozenset({"json", "jsons", "labels", "annotations", "images", "labelme"})
"""Folders that are not a part of an image's id."""


def _has_shapes(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 16)
            return b'"shapes"' in head or (b'"imageData"' in head and b'"shapes"' in file.read())
    except OSError:
        return False


def read_annotation(path: Path) -> dict[str, Any]:
    """A labelme annotation, with its shapes checked.

    Raises:
        UserError: the file is not a labelme annotation, or a shape cannot be drawn; the message names the shape.
    """
    data = read_json(path, "a labelme annotation")
    shapes = data.get("shapes")
    if not isinstance(shapes, list):
        raise UserError(f"{path}: a labelme annotation must have a list 'shapes'")
    for number, shape in enumerate(shapes):
        fits = isinstance(shape, dict) and isinstance(shape.get("label"), str) and _points(shape.get("points"))
        kind = shape.get("shape_type", "polygon") if isinstance(shape, dict) else None
        if not fits or not isinstance(kind, str) or kind not in _LEAST_POINTS or len(shape["points"]) < _LEAST_POINTS[kind]:
            known = ", ".join(_LEAST_POINTS)
            raise UserError(
                f"{path}: shape {number} cannot be drawn; it must have a label, points [[x, y], ...] and a shape_type of "
                f"{known}"
            )
    return data


_LEAST_POINTS = {
    **{"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "point": 1, "points": 1, "mask": 2},
    **{"rotation": 4, "oriented_rectangle": 4, "ellipse": 2},
}


def _points(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(point, list) and len(point) == 2 and all(_is_coordinate(number) for number in point) for point in value
    )


def _is_coordinate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e6


def _image_of(path: Path, data: dict[str, Any], images: dict[str, list[Path]]) -> Path | Embedded:
    """The image of an annotation: by its path, by its name in any folder, by the annotation's name, or inside the file."""
    said = data.get("imagePath")
    name = PurePosixPath(said.replace("\\", "/")) if isinstance(said, str) else PurePosixPath("")
    beside = path.parent / name
    if name.name and "\0" not in str(name) and len(str(name)) < 1000 and beside.is_file():
        return beside
    candidates = images.get(name.name, []) or [p for n, paths in images.items() for p in paths if stem(n) == path.stem]
    near = [candidate for candidate in candidates if candidate.parent == path.parent] or candidates
    if len(near) == 1:
        return near[0]
    content = data.get("imageData")
    if isinstance(content, str) and content:
        try:
            return Embedded(base64.b64decode(content, validate=True), Path(name.name).suffix.lower() or ".png")
        except (binascii.Error, ValueError) as error:
            raise UserError(f"{path}: its imageData is not base64; add the image {name}") from error
    if near:
        raise UserError(f"{path}: {len(near)} images are named {near[0].name}, {near[0]} and {near[1]}; rename all but one")
    raise UserError(f"{path}: no image {name or path.stem}; give the folder of the images by --images")


def draw(data: dict[str, Any], classes: Sequence[str], path: Path, image: Path | Embedded) -> np.ndarray:
    """The mask of an annotation: uint8 [H, W]. Shapes are drawn in their order; later ones cover earlier ones.

    Raises:
        UserError: a mask inside the annotation is damaged.
    """
    size: tuple[Any, ...] = data.get("imageWidth"), data.get("imageHeight")
    if not all(isinstance(side, int) and 0 < side <= _LARGEST_SIDE for side in size) and isinstance(image, Path):
        size = read_header(image)[:2]
    if not all(isinstance(side, int) and 0 < side <= _LARGEST_SIDE for side in size) or size[0] * size[1] > 200_000_000:
        raise UserError(f"{path}: its imageWidth and imageHeight are not the size of an image")
    canvas = Image.new("L", (int(size[0]), int(size[1])), 0)
    for number, shape in enumerate(data["shapes"]):
        name = shape["label"]
        index = VOID if names.is_void(name) else classes.index(name)
        if shape.get("shape_type") == "mask":
            _paste(canvas, shape, index, f"{path}: shape {number}")
        else:
            draw_shape(ImageDraw.Draw(canvas), shape.get("shape_type", "polygon"), shape["points"], index)
    return np.array(canvas)


def draw_shape(draw: ImageDraw.ImageDraw, kind: str, points: Sequence[Sequence[float]], fill: int) -> None:
    """Draw one shape as labelme does: pixels on the outline belong to it; lines are `LINE_WIDTH` wide."""
    xy = [(float(x), float(y)) for x, y in points]
    if kind in ("rectangle", "ellipse"):
        (left, right), (top, bottom) = (sorted(side) for side in zip(xy[0], xy[1], strict=True))
        (draw.rectangle if kind == "rectangle" else draw.ellipse)([left, top, right, bottom], outline=fill, fill=fill)
    elif kind == "circle":
        (x, y), edge = xy[0], xy[1]
        radius = math.dist(xy[0], edge)
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=fill, fill=fill)
    elif kind in ("line", "linestrip"):
        draw.line(xy, fill=fill, width=LINE_WIDTH)
    elif kind in ("point", "points"):
        for x, y in xy:
            draw.ellipse([x - POINT_SIZE, y - POINT_SIZE, x + POINT_SIZE, y + POINT_SIZE], outline=fill, fill=fill)
    else:
        draw.polygon(xy, outline=fill, fill=fill)


def _paste(canvas: Image.Image, shape: dict[str, Any], index: int, place: str) -> None:
    """Draw a shape that holds a mask of its bounding box, as a PNG in base64."""
    try:
        content = base64.b64decode(shape["mask"], validate=True)
    except (KeyError, TypeError, binascii.Error, ValueError) as error:
        raise UserError(f"{place}: its mask is not base64") from error
    mask = decode(io.BytesIO(content), ("PNG",), place).convert("L").point(lambda value: 255 * (value > 0))
    left, top = (round(min(point[axis] for point in shape["points"])) for axis in (0, 1))
    canvas.paste(index, (left, top, left + mask.width, top + mask.height), mask)


class JsonToDataset(Layout):
    """labelme_json_to_dataset's output: a folder NAME_json per image with img.png, label.png and label_names.txt."""

    name = "labelme-dataset"

    @cached_property
    def found(self) -> list[str]:
        """The folders of images."""
        wanted = {"img.png", "label.png", "label_names.txt"}
        return [folder for folder, files in self.tree.folders.items() if wanted <= {*files}]

    def matches(self) -> bool:
        return bool(self.found)

    @cached_property
    def listed(self) -> dict[str, list[str]]:
        """The names in each folder's list, for the values 0, 1, 2, ..."""
        return {folder: read_lines(self.folder / folder / "label_names.txt") for folder in self.found}

    def labels(self) -> LabelSet:
        lists = list(self.listed.values())
        every = lists[0] if all(each == lists[0] for each in lists) else sorted({name for each in lists for name in each})
        every = [name for name in every if not names.is_void(name)]
        return label_set(with_background(every), str(self.folder))

    def samples(self) -> Splits:
        if not self.found:
            raise UserError(f"{self.folder}: no folders with img.png, label.png and label_names.txt")
        classes = self.labels().names
        found: Splits = {}
        for folder, listed in self.listed.items():
            place = self.folder / folder
            table = [VOID if names.is_void(name) else classes.index(name) for name in listed]
            parts = PurePosixPath(folder).parts
            split = next((s for s in map(split_name, parts[:-1]) if s), None)
            item = flat_id(*(p for p in parts[:-1] if not split_name(p)), (parts[-1] if parts else "img").removesuffix("_json"))
            mask = partial(_renumber, place / "label.png", table)
            found.setdefault(split, {})[item] = Sample(place / "img.png", mask, place / "label.png")
        return found


def _renumber(path: Path, table: list[int]) -> np.ndarray:
    """A mask whose values are positions in the list beside it, as class indices."""
    image = decode(path, MASK_FORMATS)
    values = np.asarray(image.convert("RGB"))[..., 0] if image.mode in ("RGB", "RGBA") else np.asarray(image)
    wrong = (values >= len(table)) & (values != VOID)
    if wrong.any():
        raise UserError(
            f"{path}: value {values[wrong][0]}, but label_names.txt lists {len(table)} names; export this folder again"
        )
    lookup = np.full(256, VOID, np.uint8)
    lookup[: len(table)] = table
    return lookup[values.astype(np.int64)]
