"""VOC layout, also as exported by CVAT and labelme."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import UserError
from ...labels import VOC, VOID, LabelSet
from .. import voc
from ..inventory import IMAGE_SUFFIXES, MASK_SUFFIXES, FileIndex
from . import names
from .base import Entry, Hints, Layout, Sample, Splits, Tree, existing_folder, label_set
from .pairs import pair_names
from .splits import read_split_lists


class VocLayout(Layout):
    """JPEGImages, SegmentationClassAug or SegmentationClass, and lists in ImageSets/Segmentation."""

    name = "voc"
    mask_folders: Sequence[str] = voc.MASKS

    def __init__(self, tree: Tree, hints: Hints):
        super().__init__(tree, hints)
        asked = hints.images or hints.masks or hints.pair or hints.threshold or hints.resize_masks or hints.ignore_exif
        self.in_place = not asked and self.mask_folder is not None and self.mask_folder.name in voc.MASKS

    @cached_property
    def mask_folder(self) -> Path | None:
        """The folder of the masks: the first that holds any."""
        if self.hints.masks:
            return existing_folder(self.folder, self.hints.masks, "--masks")
        folders = [name for name in self.mask_folders if any(self._holds(folder, name) for folder in self.tree.folders)]
        return self.folder / folders[0] if folders else None

    def _holds(self, folder: str, name: str) -> bool:
        inside = folder == name or folder.startswith(name + "/")
        return inside and any(file.lower().endswith(MASK_SUFFIXES) for file in self.tree.folders[folder])

    @property
    def image_folder(self) -> Path | None:
        """The folder of the images."""
        if self.hints.images:
            return existing_folder(self.folder, self.hints.images, "--images")
        return self.folder / voc.IMAGES if self.tree.has_folder(voc.IMAGES) else None

    def matches(self) -> bool:
        return self.mask_folder is not None and self.image_folder is not None and not self.hints.pair

    def samples(self) -> Splits:
        images, masks = self._images(), FileIndex(self._masks(), MASK_SUFFIXES)
        common = [item for item in images if item in masks]
        if common:
            pairs = {item: masks[item] for item in common}
        else:
            named = pair_names(images, masks, self.hints.pair).masks
            pairs = {item: masks[mask] for item, mask in named.items()}
        for item in pairs:
            for index in (images, masks):
                if item in index.doubles:
                    raise UserError(index.ambiguous(item))
        if not pairs:
            held = ", ".join(next(iter(index.names.values()), "nothing") for index in (images, masks))
            raise UserError(
                f"{masks.folder}: no mask has the name of an image in {images.folder} (for example {held}); rename the files"
            )
        self.notes.append(f"{images.folder} with {masks.folder}: {len(pairs)} images")
        for index, what in ((images, "images"), (masks, "masks")):
            rest = len(index) - len(pairs)
            if rest:
                self.notes.append(f"{index.folder}: {rest} of {len(index)} {what} have no partner and are left out")
        found = {item: Sample.of(images[item], mask) for item, mask in pairs.items()}
        self.lists = read_split_lists(self, [self.folder / voc.LISTS], found)
        self._first = [sample.mask for sample in found.values() if isinstance(sample.mask, Path)][:20]
        self._official = all(re.fullmatch(r"(20\d\d|19\d\d)_\d{6}", item) for item in found)
        return {None: found}

    def labels(self) -> LabelSet | None:
        """PASCAL VOC's own classes, for its images with its palette."""
        return VOC if self._official and not self.entries()[0] and all(map(_is_voc_mask, self._first)) else None

    def entries(self) -> tuple[list[Entry], str]:
        path = next((self.folder / name for name in names.LISTS if (self.folder / name).is_file()), None)
        return (names.read_names(path), str(path)) if path else ([], str(self.folder))

    def _images(self) -> FileIndex:
        folder = self.image_folder
        if folder is None:
            raise UserError(
                f"{self.folder}: masks without images (no folder {voc.IMAGES}); give the folder of the images by --images"
            )
        return FileIndex(folder, IMAGE_SUFFIXES)

    def _masks(self) -> Path:
        if self.mask_folder is None:
            raise UserError(f"{self.folder}: no folder {' or '.join(self.mask_folders)} with masks; give it by --masks")
        return self.mask_folder


def _is_voc_mask(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            palette = image.getpalette("RGB") if image.mode == "P" else None
            values = np.unique(np.asarray(image))
    except (OSError, ValueError, SyntaxError):
        return False
    return bool(palette and palette[:63] == VOC.palette[:21].ravel().tolist() and set(values.tolist()) <= {*range(21), VOID})


class Cvat(VocLayout):
    """CVAT's segmentation mask 1.1: VOC layout with labelmap.txt; images only if they were exported too."""

    name = "cvat"

    def matches(self) -> bool:
        return (self.folder / "labelmap.txt").is_file() and self.mask_folder is not None

    @property
    def image_folder(self) -> Path | None:
        found = super().image_folder
        return found or (self.folder / "images" if self.tree.has_folder("images") else None)

    def labels(self) -> LabelSet | None:
        return None


class LabelmeVoc(VocLayout):
    """labelme2voc's output: class_names.txt, and masks in SegmentationClassPNG or, of newer versions, SegmentationClass."""

    name = "labelme-voc"
    mask_folders = ("SegmentationClassPNG", "SegmentationClass")

    def matches(self) -> bool:
        return (self.folder / "class_names.txt").is_file() and super().matches()

    def labels(self) -> LabelSet | None:
        path = self.folder / "class_names.txt"
        found = [name for name, _ in names.read_names(path)]
        found = found[names.is_void(found[0]) :] if found else []  # __ignore__ is -1, which is stored as 255
        return label_set(found, str(path), {i: i for i in range(len(found))} | {VOID: VOID})
