"""Published data sets, recognized by their folders and file names: Cityscapes, ADE20K, CamVid and the Oxford pets."""

from __future__ import annotations

import csv
import re
from functools import cached_property
from pathlib import PurePosixPath

from ...errors import UserError
from ...files import read_lines
from ...labels import ADE20K, CAMVID, CITYSCAPES, CITYSCAPES_TRAIN_IDS, VOID, LabelSet
from .base import Layout, Sample, Splits, label_set, split_name, stem
from .folders import Folders
from .names import find_list
from .raw_masks import look
from .splits import read_split_lists


class Cityscapes(Layout):
    """leftImg8bit/SPLIT/CITY/X_leftImg8bit.png, and gtFine/SPLIT/CITY/X_gtFine_labelIds.png or _labelTrainIds.png."""

    name = "cityscapes"
    _mask = r"(.+)_(gtFine|gtCoarse)_(labelIds|labelTrainIds)\.png"

    @cached_property
    def kinds(self) -> dict[tuple[str, str], dict[str, str]]:
        """Masks by (gtFine or gtCoarse, labelIds or labelTrainIds), and by the name that they share with their image."""
        found: dict[tuple[str, str], dict[str, str]] = {}
        for name in self.tree.named(self._mask):
            parts = re.fullmatch(self._mask, PurePosixPath(name).name)
            assert parts
            found.setdefault((parts[2], parts[3]), {})[parts[1]] = name
        return found

    @property
    def kind(self) -> tuple[str, str]:
        """The masks that are read: fine before coarse, label ids before train ids."""
        wanted = [(a, b) for a in ("gtFine", "gtCoarse") for b in ("labelIds", "labelTrainIds")]
        return next((kind for kind in wanted if kind in self.kinds), wanted[0])

    def matches(self) -> bool:
        return bool(self.kinds)

    def samples(self) -> Splits:
        images = {PurePosixPath(n).name.rpartition("_leftImg8bit")[0]: n for n in self.tree.named(r".+_leftImg8bit\.\w+")}
        masks = self.kinds.get(self.kind, {})
        found: Splits = {}
        for item, mask in masks.items():
            if item in images:
                split = next((s for s in map(split_name, PurePosixPath(images[item]).parts[:-1]) if s), None)
                found.setdefault(split, {})[item] = Sample.of(self.folder / images[item], self.folder / mask)
        count = sum(map(len, found.values()))
        if not count:
            raise UserError(f"{self.folder}: no images NAME_leftImg8bit.png with masks NAME_{'_'.join(self.kind)}.png")
        self.notes.append(f"masks {'_'.join(self.kind)} of {count} images")
        self.left_out(len(images) - count, len(images), "images have no mask")
        self.left_out(len(masks) - count, len(masks), "masks have no image")
        return found

    def labels(self) -> LabelSet:
        return CITYSCAPES if self.kind[1] == "labelIds" else CITYSCAPES_TRAIN_IDS


class Ade20k(Folders):
    """ADEChallengeData2016: images/training, annotations/training, and so on; 0 is void, 1 to 150 are the classes."""

    name = "ade20k"
    certain = True
    _list = "objectInfo150.txt"

    def matches(self) -> bool:
        full = self.tree.named(r"ADE_(train|val)_\d{8}_seg\.png")
        if full:
            raise UserError(
                f"{self.folder / full[0]}: masks of the full ADE20K, whose colors also number objects, are not supported; "
                "take ADEChallengeData2016, its version of 150 classes"
            )
        marked = (self.folder / self._list).is_file() or (
            self.tree.images
            and all(re.match(r"ADE_(train|val|test)_\d{8}\.", name.rpartition("/")[2]) for name in self.tree.images)
        )
        return bool(marked) and bool(self.found)

    def labels(self) -> LabelSet:
        path = self.folder / self._list
        if not path.is_file():
            return ADE20K
        lines = read_lines(path)
        rows = list(csv.DictReader(lines, delimiter="\t" if lines and "\t" in lines[0] else ","))
        named = {row.get("Idx"): (row.get("Name") or "").split(";")[0].split(",")[0].strip() for row in rows}
        names = [named.get(str(i), "") for i in range(1, len(rows) + 1)]
        if len(names) != 150 or not all(names):
            raise UserError(f"{path}: must list 150 classes, with the columns Idx and Name")
        # Two classes have the name 'door', 'screen' and the like in some versions.
        unique = [name if names.count(name) == 1 else f"{name} {i + 1}" for i, name in enumerate(names)]
        return label_set(unique, str(path), dict((*((i + 1, i) for i in range(150)), (0, VOID))), ADE20K.colors, (0, 0, 0))


class CamVid(Folders):
    """CamVid as SegNet has it: train, trainannot, and so on; 0 to 10 are the classes, 11 is void."""

    name = "camvid"
    certain = True
    _image = r"(\d{4}(TP|E5|R0)_f?\d{5,6}|Seq05VD_f\d{5})"

    def matches(self) -> bool:
        names = [name.rpartition("/")[2] for name in self.tree.images]
        if not names or not all(re.match(self._image, name) for name in names) or find_list(self.tree) or not self.found:
            return False
        masks = [mask for pairs in self.found.values() for _, mask in pairs][:20]
        return all(not one.colored and not one.lossy and one.codes[-1] <= 11 for one in map(look, masks))

    def labels(self) -> LabelSet:
        return CAMVID


class OxfordPets(Layout):
    """images/NAME.jpg, and annotations/trimaps/NAME.png: 1 is the pet, 2 the background, 3 neither, which is void."""

    name = "oxford-pets"

    def matches(self) -> bool:
        return self.tree.has_folder("annotations/trimaps") and self.tree.has_folder("images")

    def samples(self) -> Splits:
        place = "annotations/trimaps"
        masks = {stem(name): self.folder / place / name for name in self.tree.folders.get(place, ()) if name.endswith(".png")}
        images = {stem(name): self.folder / "images" / name for name in self.tree.folders.get("images", ())}
        found = {item: Sample.of(image, masks[item]) for item, image in images.items() if item in masks}
        if not found:
            raise UserError(f"{self.folder}: no images/NAME.jpg with {place}/NAME.png")
        self.notes.append(f"{self.folder / 'images'} with {self.folder / place}: {len(found)} images")
        self.left_out(len(images) - len(found), len(images), "images have no mask")
        self.left_out(len(masks) - len(found), len(masks), "masks have no image")
        self.lists = read_split_lists(self, [self.folder / "annotations"], found, "t[re]*")
        return {None: found}

    def labels(self) -> LabelSet:
        return label_set(["background", "pet"], str(self.folder), {1: 1, 2: 0, 3: VOID})
