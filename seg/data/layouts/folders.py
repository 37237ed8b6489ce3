"""Folders of images and masks with usual names, in any arrangement; and images and masks in one folder.

The names of a file's folders tell whether it is an image or a mask (images, labels, GroundTruth), and its split (train,
val2017). All other folder names, such as a sequence, must be the same for an image and its mask.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from ...errors import UserError
from ..inventory import IMAGE_SUFFIXES, is_image
from .base import Entry, Layout, Sample, Splits, Tree, existing_folder, flat_id, stem
from .binary import is_binary
from .content import pair_by_content
from .folder_names import Key, Place, refuse_doubles, refuse_numbered, understand_folder
from .names import listed_names
from .pairs import has_mask_word, pair_names
from .splits import read_split_lists
from .tables import read_split_tables
from .unread import unread_format


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
                inside = root.resolve().is_relative_to(self.folder.resolve())
                parts = root.resolve().relative_to(self.folder.resolve()).parts if inside else root.parts[-1:]
                self._add(found, Tree(root), role, understand_folder(parts)[2])
        if not (self.hints.images and self.hints.masks):
            missing = "mask" if self.hints.images else "image" if self.hints.masks else None
            self._add(found, self.tree, missing, None, only=missing)
        if not any(split == "train" for split, _ in found):  # folders of a single split are not splits
            merged: dict[Key, list[Place]] = {}
            several = len({split for split, _ in found if split}) > 1
            for (split, rest), places in found.items():
                merged.setdefault((None, (*rest, split) if several and split else rest), []).extend(places)
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
            for place in places if not self.hints.pair else ():
                refuse_numbered(place)
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
        pairs = pairs or self._below() or self._flat() or self._beside()
        if not pairs and not self.hints.masks:
            for key, places in self.places.items():
                for place in places:
                    best = self._within(place)
                    if best:
                        pairs.setdefault(key, []).extend(best)
        return self._in_one_format(pairs or self._by_content())

    def _by_content(self) -> dict[Key, list[tuple[Path, Path]]]:
        """Images and masks in folders whose names say nothing, such as trainA and trainB."""
        pairs = {} if self.hints.images or self.hints.masks else pair_by_content(self.places, self.hints.pair)
        for part in pairs.values():
            image, mask = part[0]
            shown = f"{image.parent} with {mask.parent}: {len(part)} images"
            self.notes.append(f"{shown}; taken as masks because its files have few colors")
        return pairs

    def _in_one_format(self, pairs: dict[Key, list[tuple[Path, Path]]]) -> dict[Key, list[tuple[Path, Path]]]:
        """The pairs without those of a folder such as TIF that repeats one such as PNG."""
        seen: dict[Key, tuple[str, set[str]]] = {}
        kept = {}
        for (split, rest), part in pairs.items():
            plain = tuple(name for name in rest if f".{name.lower()}" not in IMAGE_SUFFIXES)
            images = {stem(image.name) for image, _ in part}
            first, known = seen.setdefault((split, plain), ("/".join(rest), images))
            if plain != rest and known == images and first != "/".join(rest):
                self.notes.append(f"{'/'.join(rest)}: has the same {len(images)} images as {first}; left out")
                continue
            kept[split, rest] = part
        return kept

    def _below(self) -> dict[Key, list[tuple[Path, Path]]]:
        """Images with masks in a folder below, such as GT/COLOR, that is not one of several folders of binary masks."""
        pairs: dict[Key, list[tuple[Path, Path]]] = {}
        for (split, rest), places in self.places.items():
            masks = [
                place
                for (part, other), more in self.places.items()
                for place in more
                if place.role == "mask" and part == split and len(other) == len(rest) + 1 and other[:-1] == rest
            ]
            if any(place.role == "mask" for place in places) or all(is_binary(m.path / n) for m in masks for n in m.files[:4]):
                continue
            for first in places:
                made = [pair_names(first.files, second.files, self.hints.pair) for second in masks]
                fits = [(second.path, one) for second, one in zip(masks, made, strict=True) if one.masks]
                if len(fits) > 1:
                    shown = ", ".join(str(path.relative_to(self.folder)) for path, _ in fits)
                    raise UserError(f"{first.path}: masks that are not binary in several folders; give one by --masks: {shown}")
                for path, one in fits:
                    pairs.setdefault((split, rest), []).extend((first.path / a, path / b) for a, b in one.masks.items())
                    self.notes.append(f"{first.path} with {path}: {len(one.masks)} images")
        return pairs

    def _beside(self) -> dict[Key, list[tuple[Path, Path]]]:
        """Images in a folder of any name beside that of the masks, such as top and gts."""
        found: dict[str, dict[Key, list[tuple[Path, Path]]]] = {}
        for (split, rest), places in self.places.items():
            for second in [place for place in places if place.role == "mask"]:
                for (part, other), more in self.places.items():
                    extra = next((o for i, o in enumerate(other) if other[:i] + other[i + 1 :] == rest), None)
                    for first in more if part == split and extra else ():
                        made = pair_names(first.files, second.files, self.hints.pair).masks
                        if not first.role and 2 * len(made) >= len(second.files):
                            pairs = found.setdefault(str(extra), {}).setdefault((split, rest), [])
                            pairs += [(first.path / a, second.path / b) for a, b in made.items()]
        if len(found) > 1:
            raise UserError(f"{self.folder}: several folders may have the images; give one by --images: {', '.join(found)}")
        for name, keyed in found.items():
            images = sum(map(len, keyed.values()))
            self.notes.append(f"images in {name}, beside the masks: {images} images")
        return next(iter(found.values()), {})

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

    def matches(self) -> bool:
        return bool(self.found)

    def samples(self) -> Splits:
        if not self.matches():
            raise UserError(self._refusal())
        splits: Splits = {}
        for (split, rest), pairs in self.found.items():
            part = splits.setdefault(split, {})
            for image, mask in pairs:
                part[flat_id(*rest, stem(image.name))] = Sample.of(image, mask)
        self.find_lists(splits)
        return splits

    def find_lists(self, splits: Splits) -> None:
        """Take the splits of lists or tables, if folders give none."""
        if splits.keys() == {None}:
            lists = [self.folder / name for name in ("ImageSets/Segmentation", "splits", "lists")]
            self.lists = read_split_lists(self, [path for path in lists if path.is_dir()], splits[None])
            self.lists = self.lists or read_split_tables(self, splits[None])

    def entries(self) -> tuple[list[Entry], str]:
        return listed_names(self.tree)

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
            names = [name for place in masks for name in place.files]
            if sum(stem(name).startswith((f"{stem(image)}_", f"{stem(image)}-")) for name in names) > 1:
                return (
                    f"{masks[0].path}: {image} has several masks, such as {mask}; if each is a class, put its masks into a "
                    f"folder of its name, such as {masks[0].path.name}/cat; or choose one for each image "
                    "by --pair '{stem}_mask.png'"
                )
            return (
                f"{masks[0].path}: no mask has the name of an image in {images[0].path} (for example {held}); describe "
                "the names by --pair '{stem}_mask.png', or rename the files"
            )
        if not masks and (text := unread_format(self.tree)):
            return text
        return (
            f"{self.folder}: no images with masks found; expected images/ and masks/, or train/ and train_labels/, or the "
            "layout of an annotation tool (see --layout); give the two folders by --images and --masks, or say how masks "
            "in the folder of the images are named by --pair '{stem}_mask.png'"
        )
