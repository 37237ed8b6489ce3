"""List the image, mask and video files of a folder: by the same rules for every verb."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2", ".avif", ".heic", ".heif"),
)
VIDEO_SUFFIXES = (
    *(".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".ts", ".mts", ".m2ts", ".3gp", ".flv", ".ogv"),
)
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
_DEEPEST = 12
"""Largest depth of nested folders: links can form loops."""


def is_image(path: str | Path) -> bool:
    """Whether a path has the suffix of an image and is not hidden. macOS writes a hidden ._NAME beside each file it copies."""
    name = os.path.basename(path)
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def is_video(path: str | Path) -> bool:
    """Whether a path has the suffix of a video and is not hidden."""
    name = os.path.basename(path)
    return not name.startswith(".") and name.lower().endswith(VIDEO_SUFFIXES)


def walk(folder: str | Path, suffixes: tuple[str, ...], below: str = "") -> Iterator[str]:
    """The files under a folder with one of the suffixes (in lower case), as paths relative to it, with `/`.

    Hidden files and folders are left out. Files come before those of folders below, each sorted by name.
    """
    folders = []
    # One listing per folder instead of one request per file: a split has ten thousand, perhaps on a network disk.
    for entry in sorted(os.scandir(os.path.join(folder, below)), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.name.lower().endswith(suffixes):
            yield below + entry.name
        elif below.count("/") < _DEEPEST and entry.is_dir():
            folders.append(entry.name)
    for name in folders:
        yield from walk(folder, suffixes, f"{below}{name}/")


def same_name(path: str | Path, others: Iterable[str]) -> str:
    """Message about files whose names differ only in the suffix: their id, mask and prediction would be ambiguous."""
    return f"{path}: {' and '.join(others)} has the same name with another suffix; keep one of them, and move the others"


class FileIndex(Mapping[str, Path]):
    """Files by id: the path under their folder, without suffix, with `/` between folders.

    Only names are stored, and paths are built on access: ten thousand paths would take 20 times the memory.
    """

    def __init__(self, folder: str | Path, suffixes: tuple[str, ...]):
        """List the files under `folder` that have one of the suffixes, in lower case."""
        self.folder = Path(folder)
        self.names: dict[str, str] = {}
        """The path of each id under the folder."""
        self.doubles: dict[str, list[str]] = {}
        """Ambiguous ids, of several files (x.jpg and x.png), with these files."""
        for name in walk(folder, suffixes):
            item = os.path.splitext(name)[0]
            if item in self.names:
                self.doubles.setdefault(item, []).append(name)
            else:
                self.names[item] = name

    def __getitem__(self, item: str) -> Path:
        return self.folder / self.names[item]

    def __contains__(self, item: object) -> bool:
        return item in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def ambiguous(self, item: str) -> str:
        """Message about an ambiguous id."""
        return same_name(self[item], self.doubles[item])
