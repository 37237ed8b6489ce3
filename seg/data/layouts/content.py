"""Folders whose names say nothing: the masks are the files of few colors, the images those with the same names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import UserError
from ..images import decode
from .folder_names import Key, Place
from .pairs import pair_names

_COLORS = 64
"""Most colors of a mask; a photo has more."""
_LOOKED_AT = 4
_MOST = 200
"""Folders that are looked into."""


def pair_by_content(places: dict[Key, list[Place]], pattern: str | None) -> dict[Key, list[tuple[Path, Path]]]:
    """Images and masks of the same names in two folders, by split and the other folders above.

    Args:
        places: the folders with pictures. The two must be in the same folders, apart from their own names.
        pattern: of `--pair`.

    Returns:
        Nothing if an image would have two masks.
    """
    every = [(key, place) for key, more in places.items() for place in more]
    if len(every) > _MOST:
        return {}
    drawn = [(key, place) for key, place in every if place.role != "image" and _drawn(place) == {True}]
    photos = [(key, place) for key, place in every if drawn and place.role != "mask" and _drawn(place) == {False}]
    found: dict[Key, list[tuple[Path, Path]]] = {}
    for (split, rest), masks in drawn:
        for (part, other), images in photos:
            shared = _shared(rest, other)
            if part != split or shared is None:
                continue
            made = pair_names(images.files, masks.files, pattern).masks
            if 2 * len(made) >= len(masks.files):
                found.setdefault((split, shared), []).extend((images.path / a, masks.path / b) for a, b in made.items())
    every_image = [image for pairs in found.values() for image, _ in pairs]
    return found if len({*every_image}) == len(every_image) else {}


def _shared(rest: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...] | None:
    """The folders that both have, if at most one name differs; else None."""
    if len(rest) != len(other):
        return None
    same = tuple(a for a, b in zip(rest, other, strict=True) if a == b)
    return same if len(same) >= len(rest) - 1 else None


def _drawn(place: Place) -> set[bool]:
    """Whether the first files of a folder have few colors."""
    return {_few_colors(place.path / name) for name in place.files[:_LOOKED_AT]}


def _few_colors(path: Path) -> bool:
    try:
        image = decode(path)
    except UserError:
        return False
    if image.mode in ("1", "L", "P", "RGB", "RGBA"):
        return image.getcolors(_COLORS) is not None
    return len(np.unique(np.asarray(image))) <= _COLORS
