"""Folders of images and masks with usual names, in any arrangement; and images and masks in one folder.

The names of a file's folders tell whether it is an image or a mask (images, labels, GroundTruth), and its split (train,
val2017). All other folder names, such as a sequence, must be the same for an image and its mask.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...labels import LabelSet
from ..images import decode
from ..inventory import is_image, same_name
from ..masks import MASK_FORMATS
from . import names
from .base import Entry, Layout, Sample, Splits, Tree, existing_folder, flat_id, label_set, split_name, stem, with_background
from .pairs import IMAGE_WORDS, MASK_WORDS, has_mask_word, pair_names, words
from .raw_masks import gray_levels
from .splits import read_split_lists
from .unread import unread_format

IMAGES = ("images", "image", "imgs", "img", "jpegimages")
MASKS = ("masks", "mask", "labels", "label", "annotations", "segmentationclassaug", "segmentationclass")
"""Names of folders; of several that fit equally well, the first."""
_GLUED = r"(train|training|val|valid|validation|test)(annot|labels?|masks?|gt|images?|imgs?)|(images?|labels?)(tr|ts|val)"
"""Names of SegNet's and nnU-Net's folders."""
_NOT_WORDS = frozenset({"color", "raw", "frame", "frames", "manual", "target", "targets", "ground", "truth"})
"""Words that are specific in a file's name, but not in a folder's."""

Key = tuple[str | None, tuple[str, ...]]
"""Split, and the folders that name neither a split nor images or masks."""


@dataclass
class Place:
    """The files of one folder, and the meaning of its name."""

    path: Path
    files: list[str]
    role: str
    """image, mask, or empty."""
    rank: int
    """Place of the name in the usual names: the lower, the more usual."""


def understand_folder(parts: Iterable[str]) -> tuple[str, int, str | None, tuple[str, ...]]:
    """Role, rank of its name, split and other folders, from the names of the folders above a file."""
    role, rank, split = "", 99, None
    rest = []
    for part in parts:
        plain = re.sub(r"[\W_]+", "", part.lower())
        glued = re.fullmatch(_GLUED, plain)
        found = set(words(part)) | {plain, *(group for group in (glued.groups() if glued else ()) if group)}
        says = "mask" if found & (MASK_WORDS - _NOT_WORDS | {*MASKS, "anndir"}) else ""
        says = says or ("image" if found & (IMAGE_WORDS - _NOT_WORDS | {*IMAGES, "imgdir"}) else "")
        named = next((name for name in (split_name(part), *map(split_name, found)) if name), None)
        if says:
            role = role if role == "mask" else says
            rank = min([rank, *(usual.index(plain) for usual in (IMAGES, MASKS) if plain in usual)])
        split = split or named
        if not says and not named:
            rest.append(part)
    return role, rank, split, tuple(rest)


class Folders(Layout):
    """Folders of images and masks with usual names, or images and masks in one folder."""

    name = "folders"
    certain = False

    @cached_property
    def places(self) -> dict[Key, list[Place]]:
        """The folders with images or masks, by split and by the other folders above."""
        found: dict[Key, list[Place]] = {}
        for flag, named, role in (("--images", self.hints.images, "image"), ("--masks", self.hints.masks, "mask")):
            if named:
                root = existing_folder(self.folder, named, flag)
                self._add(found, Tree(root), role, understand_folder(Path(named).parts[-1:])[2])
        if not (self.hints.images and self.hints.masks):
            missing = "mask" if self.hints.images else "image" if self.hints.masks else None
            self._add(found, self.tree, missing, None, only=missing)
        if not any(split == "train" for split, _ in found):  # folders of a single split are not splits
            merged: dict[Key, list[Place]] = {}
            for (_, rest), places in found.items():
                merged.setdefault((None, rest), []).extend(places)
            return merged
        return found

    def _add(
        self, found: dict[Key, list[Place]], tree: Tree, role: str | None, split: str | None, only: str | None = None
    ) -> None:
        for folder, files in tree.folders.items():
            pictures = [name for name in files if is_image(name)]
            says, rank, part, rest = understand_folder(folder.split("/") if folder else ())
            if only and says != only:
                continue
            if pictures:
                place = Place(tree.folder / folder, pictures, role if role and not only else says, rank)
                found.setdefault((part or split, rest), []).append(place)

    @cached_property
    def found(self) -> dict[Key, list[tuple[Path, Path]]]:
        """Images and masks that belong together."""
        pairs: dict[Key, list[tuple[Path, Path]]] = {}
        for key, places in self.places.items():
            masks = sorted((place for place in places if place.role == "mask"), key=lambda place: place.rank)
            images = sorted((place for place in places if place.role == "image"), key=lambda place: place.rank)
            images += [place for place in places if not place.role]
            for place in [*images, *masks] if images and masks and not self.hints.pair else ():
                if place.role:
                    refuse_doubles(place)
            best: list[tuple[Path, Path]] = []
            chosen = None
            for first in images:
                for second in masks:
                    made = pair_names(first.files, second.files, self.hints.pair)
                    if len(made.masks) > len(best):
                        best = [(first.path / image, second.path / mask) for image, mask in made.masks.items()]
                        chosen = first, second, made.how
            if chosen:
                self._note(*chosen, len(best))
                pairs[key] = best
        pairs = pairs or self._flat()
        if not pairs and not self.hints.masks:
            for key, places in self.places.items():
                for place in places:
                    best = self._within(place)
                    if best:
                        pairs.setdefault(key, []).extend(best)
        return pairs

    def _flat(self) -> dict[Key, list[tuple[Path, Path]]]:
        """Images in folders, such as one for each camera, and all masks in one: named x or camera_x."""
        pairs: dict[Key, list[tuple[Path, Path]]] = {}
        for (split, rest), places in self.places.items():
            masks = [place for place in places if place.role == "mask"]
            images = {
                (*below[len(rest) :], name): (below, place.path / name)
                for (part, below), more in self.places.items()
                if part == split and len(masks) == 1 and len(below) > len(rest) and below[: len(rest)] == rest
                for place in more
                if place.role == "image"
                for name in place.files
            }
            ways = [{key[-1]: found for key, found in images.items()}, {flat_id(*key): found for key, found in images.items()}]
            whole = [
                (named, pair_names(named, masks[0].files, self.hints.pair)) for named in ways if len(named) == len(images) > 0
            ]
            named, made = max(whole, key=lambda way: len(way[1].masks), default=({}, None))
            for image, mask in made.masks.items() if made else ():
                below, path = named[image]
                pairs.setdefault((split, below), []).append((path, masks[0].path / mask))
            if made and made.masks:
                self.notes.append(f"images in folders with {masks[0].path}: {len(made.masks)} images")
                self.left_out(len(images) - len(made.masks), len(images), "images have no mask")
                self.left_out(len(masks[0].files) - len(made.masks), len(masks[0].files), "masks have no image")
        return pairs

    def _note(self, first: Place, second: Place, how: str, count: int) -> None:
        how = "" if how == "the same names" else f", {how}"
        self.notes.append(f"{first.path} with {second.path}: {count} images{how}")
        for place, what in ((first, "images"), (second, "masks")):
            if len(place.files) > count:
                rest = len(place.files) - count
                self.notes.append(f"{place.path}: {rest} of {len(place.files)} {what} have no partner and are left out")

    def _within(self, place: Place) -> list[tuple[Path, Path]]:
        """Images and masks in one folder: a mask has a word for it in its name, or the suffix of a lossless format."""
        marked = [name for name in place.files if has_mask_word(stem(name))]
        others = [name for name in place.files if name not in set(marked)]
        if self.hints.pair:
            made = pair_names(place.files, place.files, self.hints.pair)
            best = {image: mask for image, mask in made.masks.items() if image != mask}
        elif marked and others:
            best = pair_names(others, marked).masks
        else:
            lossy = [name for name in place.files if re.search(r"\.(jpe?g?|jfif|heic|heif|webp)$", name, re.IGNORECASE)]
            best = pair_names(lossy, [name for name in place.files if name not in set(lossy)]).masks
        if best:
            count = len(place.files) - len(best) - len({*best.values()})
            self.notes.append(f"{place.path}: {len(best)} images with their masks in the same folder")
            self.left_out(count, len(place.files), f"files in {place.path} have no partner")
        return [(place.path / image, place.path / mask) for image, mask in best.items()]

    @cached_property
    def by_class(self) -> dict[Key, dict[Path, dict[str, Path]]]:
        """For data sets with one folder of masks per class: the masks by class for each image."""
        found: dict[Key, dict[Path, dict[str, Path]]] = {}
        for (split, rest), places in self.places.items():
            images = next((place for place in places if place.role in ("image", "")), None)
            if not images:
                continue
            classes = {
                other[-1]: place
                for (part, other), more in self.places.items()
                for place in more
                if place.role == "mask" and len(other) == len(rest) + 1 and other[:-1] == rest and part in (split, None)
            }
            masks: dict[Path, dict[str, Path]] = {}
            for name, place in sorted(classes.items()):
                for image, mask in pair_names(images.files, place.files, self.hints.pair).masks.items():
                    masks.setdefault(images.path / image, {})[name] = place.path / mask
            if masks:
                found[split, rest] = masks
        return found

    @property
    def classes(self) -> list[str]:
        """Names of the folders of classes."""
        return sorted({name for masks in self.by_class.values() for each in masks.values() for name in each})

    def matches(self) -> bool:
        return bool(self.found or self.by_class)

    def samples(self) -> Splits:
        if not self.matches():
            raise UserError(self._refusal())
        splits: Splits = {}
        if self.found:
            for (split, rest), pairs in self.found.items():
                part = splits.setdefault(split, {})
                for image, mask in pairs:
                    part[flat_id(*rest, stem(image.name))] = Sample.of(image, mask)
        else:
            background = with_background(self.classes)
            for (split, rest), masks in self.by_class.items():
                part = splits.setdefault(split, {})
                for image, each in masks.items():
                    drawn = {path: background.index(name) for name, path in each.items()}
                    part[flat_id(*rest, stem(image.name))] = Sample(image, partial(draw_binary, drawn), next(iter(drawn)))
            self.notes.append(f"a folder of masks for each class: {', '.join(self.classes)}; all other pixels are background")
        if splits.keys() == {None}:
            lists = [self.folder / name for name in ("ImageSets/Segmentation", "splits", "lists", "")]
            self.lists = read_split_lists(self, [path for path in lists[:3] if path.is_dir()], splits[None])
        return splits

    def labels(self) -> LabelSet | None:
        return None if self.found else label_set(with_background(self.classes), str(self.folder))

    def entries(self) -> tuple[list[Entry], str]:
        path = next((self.folder / name for name in names.LISTS if (self.folder / name).is_file()), None)
        return (names.read_names(path), str(path)) if path else ([], str(self.folder))

    def _refusal(self) -> str:
        """Message about missing images or masks."""
        masks = [place for places in self.places.values() for place in places if place.role == "mask"]
        images = [place for places in self.places.values() for place in places if place.role == "image"]
        if images and masks:
            image, mask, folder = images[0].files[0], masks[0].files[0], images[0].path.name
            if stem(image) == stem(mask):
                return (
                    f"{masks[0].path}: several folders have images of the name {image}; put the masks of {images[0].path} into "
                    f"{masks[0].path / folder}, or name them {folder}_{mask}"
                )
            held = f"{image}, {mask}"
            return (
                f"{masks[0].path}: no mask has the name of an image in {images[0].path} (for example {held}); describe "
                "the names by --pair '{stem}_mask.png', or rename the files"
            )
        if not masks and (text := unread_format(self.tree)):
            return text
        return (
            f"{self.folder}: no images with masks found; expected images/ and masks/, or train/ and train_labels/, or the "
            "layout of an annotation tool (see --layout); give the two folders by --images and --masks"
        )


def refuse_doubles(place: Place) -> None:
    """Raise UserError if two files of a folder differ only in the suffix."""
    found: dict[str, str] = {}
    for name in place.files:
        other = found.setdefault(stem(name), name)
        if other != name:
            raise UserError(same_name(place.path / other, [name]))


def draw_binary(masks: dict[Path, int]) -> np.ndarray:
    """Combine binary masks: uint8 [H, W], the class index where a mask is not 0; where masks overlap, the last one.

    Raises:
        UserError: masks of one image differ in size, or hold more than two values.
    """
    drawn = None
    for path, index in masks.items():
        levels = gray_levels(decode(path, (*MASK_FORMATS, "JPEG")))
        if drawn is None:
            drawn = np.zeros(levels.shape, np.uint8)
        if levels.shape != drawn.shape:
            raise UserError(f"{path}: {levels.shape[1]}x{levels.shape[0]} pixels, unlike other masks of its image")
        drawn[levels > (levels.max() // 2 if levels.max() > 1 else 0)] = index
    assert drawn is not None
    return drawn
