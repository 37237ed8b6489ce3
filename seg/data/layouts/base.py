"""Interface of all layout readers."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from ...colors import Color, default_colors, voc_color
from ...errors import UserError
from ...labels import LabelSet, from_dict
from ..inventory import IMAGE_SUFFIXES, is_image

DEEPEST = 12
"""Folders within each other that are searched: a link to a folder above never ends."""
SPLITS = {
    "train": ("train", "training", "tr"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "ts", "te"),
}
"""Names of folders and lists of each split; a year may follow, such as train2017."""


@dataclass(frozen=True)
class Embedded:
    """An image that lies inside an annotation file."""

    content: bytes
    suffix: str
    """Such as `.jpg`."""


@dataclass(frozen=True)
class Sample:
    """An image and its mask."""

    image: Path | Embedded
    mask: Path | Callable[[], np.ndarray]
    """A mask file, whose values are interpreted later; or a function that draws the mask: uint8 [H, W], class index or 255."""
    source: Path
    """The file named in errors about the mask."""

    @classmethod
    def of(cls, image: Path, mask: Path) -> Sample:
        """An image and a mask file."""
        return cls(image, mask, mask)


Samples = dict[str, Sample]
Splits = dict[str | None, Samples]
"""Samples by id, for each split; under None if the layout has no splits."""
Entry = tuple[str, Color | None]
"""A class name in a list of names, with its color if the list has colors."""


@dataclass(frozen=True)
class Hints:
    """Flags of the user about a folder: what cannot be recognized from the files."""

    layout: str | None = None
    """Name of the layout."""
    images: str | None = None
    """Folder of the images, under the data folder or anywhere."""
    masks: str | None = None
    pair: str | None = None
    """Pattern of the masks' file names, with {stem} for the image's name; or patterns of both: `a_{stem}.jpg=b_{stem}.png`."""
    labels: LabelSet | None = None
    """Meaning of the values in the masks."""
    val_share: float | None = None
    """Share of the images for val, 0 to 1; None: a fifth, if the layout has no val."""
    threshold: int | None = None
    """Gray level, 1 to 255, from which on a pixel is foreground: two classes."""
    resize_masks: bool = False
    """Resize masks to their images, by nearest neighbor."""
    ignore_exif: bool = False
    """Ignore the EXIF orientation of images: the masks were drawn on the images as stored."""


class Tree:
    """The files under a folder, listed once; hidden ones and data sets made by `seg data init` are left out."""

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def files(self) -> list[str]:
        """Paths relative to the folder, with `/`, sorted by folder and name."""
        found: list[str] = []
        for place, folders, names in os.walk(self.folder, followlinks=True):
            below = os.path.relpath(place, self.folder).replace(os.sep, "/")
            prefix = "" if below == "." else below + "/"
            deep = prefix.count("/") >= DEEPEST
            folders[:] = [] if deep else sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
            if prefix and "labels.yaml" in names and "JPEGImages" in folders:
                folders.clear()
                continue
            found += [prefix + name for name in sorted(names) if not name.startswith(".")]
        return found

    @cached_property
    def images(self) -> list[str]:
        """The files with the suffix of an image."""
        return [name for name in self.files if is_image(name)]

    @cached_property
    def folders(self) -> dict[str, list[str]]:
        """Names of the files directly in each folder ("" for the top)."""
        found: dict[str, list[str]] = {}
        for name in self.files:
            folder, _, file = name.rpartition("/")
            found.setdefault(folder, []).append(file)
        return found

    def has_folder(self, name: str) -> bool:
        """Whether there are files in or below the folder of this relative path."""
        return any(folder == name or folder.startswith(name + "/") for folder in self.folders)

    def named(self, pattern: str) -> list[str]:
        """The files whose name, without folders, matches a regular expression as a whole."""
        compiled = re.compile(pattern)
        return [name for name in self.files if compiled.fullmatch(name.rpartition("/")[2])]


class Layout(ABC):
    """Reads one layout. It answers three questions: does a folder have this layout, which samples, and which classes?"""

    name: str
    """Name of the layout for --layout."""
    certain = True
    """The layout has files of its own to recognize it by; False: it is guessed from names of folders and files."""
    in_place = False
    """The folder is already in VOC layout and needs only lists and labels.yaml."""

    def __init__(self, tree: Tree, hints: Hints):
        self.tree, self.hints, self.folder = tree, hints, tree.folder
        self.notes: list[str] = []
        """Notes for the user, one line each."""
        self.lists: dict[str, list[str]] = {}
        """Ids in lists, if the layout has lists for its splits; set by `samples`. An id may be in several."""

    @abstractmethod
    def matches(self) -> bool:
        """Whether the folder has this layout."""

    @abstractmethod
    def samples(self) -> Splits:
        """Return the images and masks of each split. Raises UserError if there are none, or the split is not known."""

    def labels(self) -> LabelSet | None:
        """Return the classes and their mask values; None: they are determined from the masks, see `entries`."""
        return None

    def entries(self) -> tuple[list[Entry], str]:
        """Return the class names in the order of their values, and their source; no names: the layout has none."""
        return [], str(self.folder)

    def left_out(self, count: int, total: int, what: str) -> None:
        """Add a note about ignored files."""
        if count:
            self.notes.append(f"{count} of {total} {what}: left out")


def split_name(text: str) -> str | None:
    """Split of a folder or list of this name: train, val or test; None for other names."""
    found = re.fullmatch(r"([a-z]+?)[_-]?(?:19|20)?\d{0,2}", text.lower())
    return next((split for split, names in SPLITS.items() if found and found[1] in names), None)


def label_set(
    names: Iterable[str],
    place: str,
    values: Mapping[int, int] | None = None,
    colors: Iterable[Color | None] = (),
    void_color: Color | None = None,
) -> LabelSet:
    """A label set of these names.

    Args:
        names: class names in index order.
        place: source of the names, named in errors.
        values: class index or 255 of each mask value; None: index and value are the same.
        colors: a color or None for each name; None gives one of `default_colors`.
        void_color: the color of void; None, or that of a class, gives the last free one of VOC's color map.

    Raises:
        UserError: fewer than 2 names or more than 255, or a repeated name or color.
    """
    names, given = list(names), [*colors]
    free = (color for color in (*default_colors(names), *map(voc_color, range(255))) if color not in given)
    chosen = [(given[i] if i < len(given) else None) or next(free) for i in range(len(names))]
    void = next(c for c in (void_color, *map(voc_color, range(255, -1, -1))) if c is not None and c not in chosen)
    classes = [{"name": name, "color": list(color)} for name, color in zip(names, chosen, strict=True)]
    found = from_dict({"classes": classes, "void_color": list(void)}, place)
    return found if values is None else replace(found, values=tuple(values.items()))


def with_background(names: Iterable[str]) -> list[str]:
    """The class names with background first, for what is not annotated."""
    names = list(names)
    known = next((name for name in names if name.lower().strip("_") == "background"), None)
    return [known or "background", *(name for name in names if name != known)]


def find_images(tree: Tree, hints: Hints) -> dict[str, list[Path]]:
    """The images of a folder, or of --images, by file name: several if a name occurs in several folders."""
    folder = tree.folder
    names: Iterable[str] = tree.images
    if hints.images:
        folder = existing_folder(tree.folder, hints.images, "--images")
        names = Tree(folder).images
    found: dict[str, list[Path]] = {}
    for name in names:
        found.setdefault(PurePosixPath(name).name, []).append(folder / name)
    return found


def existing_folder(folder: Path, name: str, flag: str) -> Path:
    """The folder given by a flag, under the data folder or anywhere. Raises UserError if it does not exist."""
    for path in (folder / name, Path(name)):
        if path.is_dir():
            return path
    raise UserError(f"{folder / name}: no such folder; give {flag} a folder under {folder}, or a path from the current folder")


def stem(name: str) -> str:
    """A file name without the suffix of an image, mask or annotation; other dots are kept."""
    base, suffix = os.path.splitext(name)
    return base if suffix.lower() in (*IMAGE_SUFFIXES, ".npy", ".json", ".txt") else name


def flat_id(*parts: str) -> str:
    """An id from names of folders and a stem. Ids have no folders, so that every tool can write one file per id."""
    return "_".join(part.replace("/", "_").replace("\\", "_") for part in parts if part)
