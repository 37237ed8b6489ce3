"""Writes predictions: pictures, and polygons for annotation tools."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from .. import distributed, visualize
from ..data.voc import mask_picture
from ..files import atomic_write, write_json, write_text
from ..labels import LabelSet
from .annotations import CocoImage, Outlines, coco, coco_image, labelme
from .confidence import Confidence

MODES = ("overlay", "palette", "side-by-side", "index", "confidence", "labelme", "coco")
CONFIDENCE_FOLDERS = ("probability", "entropy")
"""Folders of the gray images of `confidence`; 255 is 1."""
COCO_FILE, LABELME_CLASSES = "annotations.json", "labels.txt"


class Writer:
    """Writes predictions into a folder, in one of `MODES`.

    Args:
        folder: the folder.
        mode: `overlay` (with a legend), `palette` (P-mode mask), `side-by-side` (image and overlay), `index` (gray mask),
            `confidence` (heat maps of largest probability and entropy, and gray images of them in `CONFIDENCE_FOLDERS`),
            `labelme` (a JSON file of polygons for each image, and `LABELME_CLASSES`), `coco` (`COCO_FILE` for all images).
        labels: of the classes.
        outlines: of polygons.
    """

    def __init__(self, folder: Path, mode: str, labels: LabelSet, outlines: Outlines):
        self.folder, self.mode, self.labels, self.outlines = folder, mode, labels, outlines
        self.suffix = ".json" if mode == "labelme" else ".png"
        self.images: list[CocoImage] = []

    def __call__(self, target: Path, source: Path, pixels: np.ndarray, found: np.ndarray | Confidence) -> None:
        """Write the outputs of one image.

        Args:
            target: the file, with `suffix`.
            source: the file of the image.
            pixels: of the image, uint8 [h, w, 3].
            found: the mask uint8 [h, w], class indices; in mode `confidence` a Confidence.
        """
        if isinstance(found, Confidence):
            self._write_confidence(target, pixels, found)
            return
        mask = found
        if self.mode == "coco":
            name = target.relative_to(self.folder).with_suffix(source.suffix).as_posix()
            self.images.append(coco_image(mask, self.labels, name, self.outlines))
        elif self.mode == "labelme":
            seen_from = Path(os.path.relpath(source, target.parent)).as_posix()
            write_json(target, labelme(mask, self.labels, seen_from, self.outlines))
        else:
            with atomic_write(target) as temporary:
                picture(pixels, mask, self.labels, self.mode).save(temporary)

    def _write_confidence(self, target: Path, pixels: np.ndarray, found: Confidence) -> None:
        values = (found.probability, found.entropy)
        pictures = {target: visualize.confidence_picture(pixels, *values)}
        for folder, one in zip(CONFIDENCE_FOLDERS, values, strict=True):
            pictures[self.folder / folder / target.relative_to(self.folder)] = (one * 255).round().astype(np.uint8)
        for path, drawn in pictures.items():
            with atomic_write(path) as temporary:
                Image.fromarray(drawn).save(temporary)

    def finish(self, written: list[Path]) -> list[Path]:
        """Write the outputs for all images together. All processes must call this. Returns this process's files."""
        if self.mode == "labelme" and written and distributed.is_main():
            # For `labelme --labels` and seg data init: all classes in their order, also those in no image.
            write_text(self.folder / LABELME_CLASSES, "".join(f"{name}\n" for name in self.labels.names))
        if self.mode != "coco":
            return written
        images = sorted(image for part in distributed.all_gather(self.images) for image in part)
        if not distributed.is_main():
            return []
        write_json(self.folder / COCO_FILE, coco(images, self.labels))
        return [self.folder / COCO_FILE]


def picture(image: np.ndarray, mask: np.ndarray, labels: LabelSet, mode: str) -> Image.Image:
    """Draw an image uint8 [h, w, 3] and its mask uint8 [h, w], in a mode of pictures."""
    if mode == "overlay":
        return Image.fromarray(visualize.with_legend(visualize.overlay(image, mask, labels), [mask], labels))
    if mode == "side-by-side":
        return Image.fromarray(visualize.comparison(image, mask, labels))
    return mask_picture(mask, labels if mode == "palette" else None)
