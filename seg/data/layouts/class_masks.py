"""A binary mask of each class for each image: in a folder of the class's name, or named IMAGE_CLASS.png."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path

from ...errors import UserError
from ...labels import LabelSet
from .base import Sample, Splits, flat_id, label_set, stem, with_background
from .binary import draw_binary, is_binary
from .folder_names import Key
from .folders import Folders
from .pairs import MASK_WORDS, pair_names

_LOOKED_AT = 24
_MASK_WORD = re.compile(rf"(?i)(?<![^_-])({'|'.join(sorted(MASK_WORDS))})(?![^_-])")
Masks = dict[Key, dict[Path, dict[Path, str]]]
"""The class of each mask of an image."""


class ClassMasks(Folders):
    """masks/CLASS/x.png, or masks/x_CLASS.png as CelebAMask-HQ has it; a number may follow, for several objects."""

    name = "class-masks"

    @cached_property
    def masks(self) -> Masks:
        """The masks of each image, if they are of several classes."""
        if self.found or self.hints.threshold is not None:
            return {}
        return self._named() or self._folders()

    def _folders(self) -> Masks:
        """Masks in a folder for each class."""
        found: Masks = {}
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
            for name, place in sorted(classes.items()):
                for image, mask in pair_names(images.files, place.files, self.hints.pair).masks.items():
                    found.setdefault((split, rest), {}).setdefault(images.path / image, {})[place.path / mask] = name
        return found

    def _named(self) -> Masks:
        """Masks with the name of their image, then that of their class."""
        found: Masks = {}
        for (split, rest), places in self.places.items() if not self.hints.pair else ():
            images = {_plain(stem(name)): place.path / name for place in places if place.role != "mask" for name in place.files}
            below = [more for (part, other), more in self.places.items() if part == split and other[: len(rest)] == rest]
            masks = [place.path / name for more in below for place in more if place.role == "mask" for name in place.files]
            part: dict[Path, dict[Path, str]] = {}
            for mask in masks if images else ():
                image, name = next(((i, n) for i, n in _splits(stem(mask.name)) if i in images), ("", ""))
                if name:
                    part.setdefault(images[image], {})[mask] = name
            count = sum(map(len, part.values()))
            if 2 * count > len(masks):
                found[split, rest] = part
                self.left_out(len(masks) - count, len(masks), "masks have no image")
                self.left_out(len(images) - len(part), len(images), "images have no mask")
        every = [each for part in found.values() for each in part.values()]
        used = Counter(name for each in every for name in {*each.values()})
        usual = all(any(used[name] > 1 for name in each.values()) for each in every)
        several = any(len({*each.values()}) > 1 for each in every)
        return found if several and usual and _are_binary(every) else {}

    def matches(self) -> bool:
        return bool(self.masks)

    @property
    def classes(self) -> list[str]:
        """Background, then the classes in alphabetical order."""
        return with_background(
            sorted({name for part in self.masks.values() for each in part.values() for name in each.values()})
        )

    def samples(self) -> Splits:
        if not self.masks:
            raise UserError(f"{self.folder}: no binary masks of several classes, such as masks/cat/x.png or masks/x_cat.png")
        splits: Splits = {}
        classes = self.classes
        for (split, rest), part in self.masks.items():
            for image, each in part.items():
                drawn = partial(draw_binary, {path: classes.index(name) for path, name in each.items()})
                splits.setdefault(split, {})[flat_id(*rest, stem(image.name))] = Sample(image, drawn, next(iter(each)))
        self.notes.append(f"a binary mask for each class: {', '.join(classes[1:])}; all other pixels are background")
        self.find_lists(splits)
        return splits

    def labels(self) -> LabelSet | None:
        return label_set(self.classes, str(self.folder))


def _plain(name: str) -> str:
    """A name; of a number without leading zeros."""
    return str(int(name)) if name.isascii() and name.isdigit() else name


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """The name of an image and of a class that a mask's name may consist of, the longest image first.

    Words for mask and a last number, of one of several objects, are no part of the class.
    """
    for place in reversed([found.start() for found in re.finditer("[_-]", name)]):
        part = re.sub(r"([_-]+\d*)+$", "", re.sub(_MASK_WORD, "", name[place + 1 :])).lstrip("_-")
        if part and not part.isdigit():
            yield _plain(name[:place]), part


def _are_binary(every: Iterable[dict[Path, str]]) -> bool:
    return all(is_binary(path) for each in [*every][:_LOOKED_AT] for path in [*each][:4])
