"""Readers of data sets in the layouts of annotation tools, published sets and plain folders, one per layout.

A reader is a `base.Layout`. It answers three questions: `matches` (does the folder have this layout?), `samples` (which images
and masks, in which splits?) and `labels` or `entries` (which classes?). To add one, write it in its own file and list it in
`_READERS`.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UserError, did_you_mean

if TYPE_CHECKING:
    from .base import Hints, Layout

_READERS = (
    *("labelme.JsonToDataset", "voc_layout.LabelmeVoc", "voc_layout.Cvat", "voc_layout.VocLayout", "published.Cityscapes"),
    *("published.Ade20k", "published.OxfordPets", "published.CamVid", "roboflow.Roboflow", "label_studio.LabelStudio"),
    *(
        "coco.Coco",
        "panoptic.Panoptic",
        "labelme.Labelme",
        "tables.Index",
        "parts.Parts",
        "class_masks.ClassMasks",
        "folders.Folders",
    ),
)
"""The readers, most specific first: the first that matches a folder reads it."""
_ABOVE = 3
"""Largest depth of folders around a data set, such as VOCdevkit/VOC2012 in an archive's folder."""


def layouts() -> tuple[type[Layout], ...]:
    """The readers, most specific first."""
    names = [reader.split(".") for reader in _READERS]
    return tuple(getattr(import_module(f".{module}", __name__), name) for module, name in names)


def open_layout(folder: Path, hints: Hints) -> Layout:
    """The reader of a folder, or of the only folder in it.

    Raises:
        UserError: no layout is recognized, or the folder has several data sets.
    """
    from .base import Tree

    known = layouts()
    images, masks = (str(folder / path) if path and (folder / path).is_dir() else path for path in (hints.images, hints.masks))
    hints = replace(hints, images=images, masks=masks)  # paths are under this folder, not under one in it
    places = _places(folder)
    trees = [Tree(place) for place in places]
    if hints.layout:
        named = {layout.name: layout for layout in known}
        if hints.layout not in named:
            raise UserError(f"--layout {hints.layout}: no such layout{did_you_mean(hints.layout, named)}")
        readers = [named[hints.layout](tree, hints) for tree in trees]
        return next((reader for reader in readers if reader.matches()), readers[0])
    for tree in trees:
        for layout in known[:-1]:
            reader = layout(tree, hints)
            if reader.matches():
                return reader
    guessed = [known[-1](tree, hints) for tree in trees]
    for reader in guessed:
        if reader.matches():
            return reader
    inner = [path for path in sorted(places[-1].iterdir()) if path.is_dir() and not path.name.startswith(".")]
    found = [path for path in inner if any(layout(Tree(path), hints).matches() for layout in known[:-1])]
    if found:
        names = ", ".join(path.name for path in found)
        raise UserError(f"{places[-1]}: holds several folders, of which these are data sets: {names}; give one of them")
    return guessed[0]  # says what is missing


def _places(folder: Path) -> list[Path]:
    """The folder, the only folder in it, and so on: archives often unpack into a folder."""
    places = [folder]
    for _ in range(_ABOVE):
        inside = [path for path in places[-1].iterdir() if not path.name.startswith((".", "__MACOSX"))]
        folders = [path for path in inside if path.is_dir()]
        if len(folders) != 1:
            break
        places.append(folders[0])
    return places
