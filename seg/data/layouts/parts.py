"""Several binary masks of each image, one for each object: they are joined to one class."""

from __future__ import annotations

import re
from functools import cached_property, partial
from pathlib import Path

from ...errors import UserError
from ...labels import LabelSet
from .base import Sample, Splits, flat_id, label_set, stem
from .binary import draw_binary, is_binary
from .folder_names import Key
from .folders import Folders
from .pairs import MASK_WORDS, words

_LOOKED_AT = 24


class Parts(Folders):
    """A folder of masks for each image, as the Data Science Bowl has it; or x.png with x_mask.png, x_mask_1.png."""

    name = "parts"

    @cached_property
    def parts(self) -> dict[Key, dict[Path, list[Path]]]:
        """The masks of each image."""
        if self.hints.pair or self.hints.threshold is not None:
            return {}
        found = self._folders() or self._numbered()
        every = [masks for part in found.values() for masks in part.values()]
        several = any(len(masks) > 1 for masks in every)
        return found if several and all(is_binary(path) for masks in every[:_LOOKED_AT] for path in masks[:4]) else {}

    def _folders(self) -> dict[Key, dict[Path, list[Path]]]:
        """Folders of one image each, with a folder of masks that have other names."""
        found: dict[Key, dict[Path, list[Path]]] = {}
        for key, places in self.places.items():
            images = [place.path / name for place in places if place.role == "image" for name in place.files]
            masks = [place.path / name for place in places if place.role == "mask" for name in place.files]
            if not masks:
                continue
            if len(images) != 1 or not key[1]:
                return {}
            found[key] = {images[0]: masks}
        return found if len(found) > 1 else {}

    def _numbered(self) -> dict[Key, dict[Path, list[Path]]]:
        """Masks named after their image and a word for mask, some with a number after it."""
        found: dict[Key, dict[Path, list[Path]]] = {}
        more = 0
        for key, places in self.places.items():
            images = {stem(name): place.path / name for place in places for name in place.files}
            for place in places:
                for name in place.files:
                    parts = re.fullmatch(r"(.+?)[_-]([a-zA-Z]+)(?:[_-](\d+))?", stem(name))
                    if parts and words(parts[2])[0] in MASK_WORDS and parts[1] in images:
                        found.setdefault(key, {}).setdefault(images[parts[1]], []).append(place.path / name)
                        more += parts[3] is not None
        return found if more else {}

    def matches(self) -> bool:
        return bool(self.parts)

    def samples(self) -> Splits:
        if not self.parts:
            raise UserError(f"{self.folder}: no image has several binary masks, such as x_mask.png and x_mask_1.png")
        splits: Splits = {}
        for (split, rest), part in self.parts.items():
            for image, masks in part.items():
                drawn = partial(draw_binary, dict.fromkeys(masks, 1))
                above = rest[:-1] if rest and rest[-1] == stem(image.name) else rest
                splits.setdefault(split, {})[flat_id(*above, stem(image.name))] = Sample(image, drawn, masks[0])
        count = sum(map(len, splits.values()))
        total = sum(len(masks) for part in self.parts.values() for masks in part.values())
        self.notes.append(f"{count} images with {total} masks, each of an object: those of an image are joined to one class")
        return splits

    def labels(self) -> LabelSet | None:
        return label_set(["background", "foreground"], str(self.folder))
