"""Predictions for annotation tools: labelme's JSON of shapes, and COCO's JSON of instances."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..labels import LabelSet
from .regions import Region, regions

LABELME = "5.5.0"
"""Version of labelme whose format is written; later ones read it."""


class Outlines(NamedTuple):
    """Settings of the conversion of regions to polygons."""

    tolerance: float = 1.0
    """Largest distance between a region's border and its polygon, in pixels."""
    least_area: int = 1
    """Smallest region that is written, in pixels."""


class CocoImage(NamedTuple):
    """An image and its regions."""

    name: str
    height: int
    width: int
    annotations: list[dict[str, Any]]
    """COCO annotations with class indices, without ids."""


def labelme(mask: np.ndarray, labels: LabelSet, image: str, outlines: Outlines) -> dict[str, Any]:
    """Return a mask as a labelme annotation: a polygon for each region; later polygons cover earlier ones.

    labelme's polygons have no holes: the content of a hole is a later polygon, also if it is background.

    Args:
        mask: uint8 [H, W], class indices.
        labels: of the classes.
        image: path of the image, relative to the folder of the annotation.
        outlines: of the polygons.
    """
    covered = np.zeros(mask.shape, bool)
    shapes = []
    for region, filled in sorted(((r, _filled(r)) for r in regions(mask)), key=lambda pair: -pair[1].sum()):
        window = covered[region.window]
        needed = region.index != labels.background or window[region.pixels].any()
        if needed and region.area >= outlines.least_area:
            window |= filled
            points = region.outer_pixels(outlines.tolerance).tolist()
            shape: dict[str, Any] = {"label": labels.names[region.index], "points": points, "group_id": None}
            shapes.append(shape | {"description": "", "shape_type": "polygon", "flags": {}, "mask": None})
    size = {"imageHeight": mask.shape[0], "imageWidth": mask.shape[1]}
    return {"version": LABELME, "flags": {}, "shapes": shapes, "imagePath": image, "imageData": None, **size}


def _filled(region: Region) -> np.ndarray:
    """The region's box, with its holes filled: bool [H, W]."""
    found = np.zeros(region.pixels.shape, np.uint8)
    outlines, _ = cv2.findContours(region.pixels.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(found, outlines, -1, 1, cv2.FILLED) > 0


def coco_image(mask: np.ndarray, labels: LabelSet, name: str, outlines: Outlines) -> CocoImage:
    """Return a mask as COCO annotations: one for each region that is not background. A line to each hole and back cuts it out.

    Args:
        mask: uint8 [H, W], class indices.
        labels: of the classes.
        name: of the image.
        outlines: of the polygons.
    """
    found = []
    for region in regions(mask):
        if region.index != labels.background and region.area >= outlines.least_area:
            polygon = region.polygon(outlines.tolerance).round(2).ravel().tolist()
            segmentation: dict[str, Any] = {"category_id": region.index, "segmentation": [polygon], "area": region.area}
            found.append(segmentation | {"bbox": region.box, "iscrowd": 0})
    return CocoImage(name, mask.shape[0], mask.shape[1], found)


def coco(images: Iterable[CocoImage], labels: LabelSet) -> dict[str, Any]:
    """Return the file of all images. Categories are numbered from 1, in the order of the classes, without background."""
    classes = [index for index in range(len(labels)) if index != labels.background]
    ids = {index: number for number, index in enumerate(classes, 1)}
    content: dict[str, Any] = {"info": {"description": "predicted by seg"}, "licenses": []}
    content["categories"] = [{"id": ids[i], "name": labels.names[i], "supercategory": ""} for i in classes]
    content["images"], content["annotations"] = [], []
    for number, image in enumerate(images, 1):
        content["images"].append({"id": number, "file_name": image.name, "height": image.height, "width": image.width})
        for annotation in image.annotations:
            numbers = {"id": len(content["annotations"]) + 1, "image_id": number, "category_id": ids[annotation["category_id"]]}
            content["annotations"].append(annotation | numbers)
    return content
