"""Inputs of a prediction: images, folders, patterns, lists, videos and cameras."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..data.inventory import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_image, is_video, same_name, walk
from ..data.voc import IMAGES
from ..errors import UserError
from ..files import read_lines

KNOWN = f"known are {' '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))}, and .txt for a list"
UNKNOWN = f"its suffix is not that of an image or video; {KNOWN}"
CAMERA = "camera:"
"""Prefix of a camera; its number follows."""


class Inputs(NamedTuple):
    """Files to predict, each with its path in the output folder."""

    images: list[tuple[Path, Path]]
    videos: list[tuple[str, Path]]
    """Paths of videos, and cameras, `camera:NUMBER`."""


def find_inputs(inputs: Iterable[str | os.PathLike[str]]) -> Inputs:
    """List the images and videos of the inputs, in their order.

    Args:
        inputs: images, videos, cameras, folders (searched recursively; hidden files are left out), glob patterns, and .txt
            lists of paths, or of ids of a data set in VOC layout, one per line; lines that start with # are comments.

    Raises:
        UserError: an input has neither images nor videos, or two videos would be written to the same file.
    """
    found = Inputs([], [])
    for item in map(str, inputs):
        if item.startswith(CAMERA):
            found.videos.append((item, Path(f"{item.replace(':', '')}.mp4")))
            continue
        files = _files_of(item)
        found.images.extend(pair for pair in files if is_image(pair[0]))
        found.videos.extend((str(path), place) for path, place in files if not is_image(path))
    outputs: dict[Path, str] = {}
    for video, place in found.videos:
        other = outputs.setdefault(place.with_suffix(".mp4"), video)
        if other != video:
            raise UserError(f"{other} and {video}: their outputs would have the same name; predict them into two folders")
    return found


def find_images(inputs: Iterable[str | os.PathLike[str]]) -> list[tuple[Path, Path]]:
    """The images of `find_inputs`. Raises UserError, also if there are only videos."""
    inputs = list(inputs)
    found = find_inputs(inputs)
    if inputs and not found.images:
        raise UserError(f"{', '.join(map(str, inputs))}: no images found; this command needs images, not videos")
    return found.images


def names_several(source: object) -> bool:
    """Whether this is the path of a folder, or a pattern that does not name an existing file."""
    if not isinstance(source, str | os.PathLike):
        return False
    path = Path(source)
    return path.is_dir() or (glob.has_magic(str(source)) and not path.exists())


def _files_of(item: str) -> list[tuple[Path, Path]]:
    """The images and videos of one input, with their places."""
    path = Path(item)
    if path.is_dir():
        names = [Path(name) for name in walk(path, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)) if _fits(path / name)]
        if not names:
            raise UserError(f"{item}: no images or videos in this folder; {KNOWN}")
        return [(path / name, name) for name in names]
    if path.suffix.lower() == ".txt" and path.is_file():
        return _listed(path)
    if path.is_file():
        if not (is_image(path) or is_video(path)):
            hidden = path.name.startswith(".")
            why = (
                "it is hidden: its name starts with a dot; rename it"
                if hidden
                else f"its suffix is not that of an image or video; {KNOWN}"
            )
            raise UserError(f"{path}: {why}")
        return [(path, Path(path.name))]
    matches = [Path(match) for match in sorted(glob.glob(item, recursive=True)) if _fits(Path(match))]
    if not matches:
        raise UserError(f"{item}: no such image, video or folder, and no image or video matches it as a pattern")
    return _placed(matches)


def _fits(path: Path) -> bool:
    """Whether a file found in a folder is an image or video: TypeScript files have the suffix of MPEG transport streams."""
    if path.suffix.lower() != ".ts":
        return is_image(path) or is_video(path)
    try:
        with open(path, "rb") as file:
            return is_video(path) and file.read(1) == b"G"  # the first byte of each packet
    except OSError:
        return False


def _placed(paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Paths with their output paths: their names, or, if two are equal, their paths below the common folder."""
    if len({path.stem for path in paths}) == len({*paths}):
        return [(path, Path(path.name)) for path in paths]
    whole = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in whole])
    return [(path, Path(os.path.relpath(one, common))) for path, one in zip(paths, whole, strict=True)]


def _listed(path: Path) -> list[tuple[Path, Path]]:
    """The files in the list at `path`. The output path of a VOC id is the id, which may have folders."""
    paths, ids = [], {}
    for line in read_lines(path):
        found = next((file for file in (Path(line), path.parent / line) if os.path.isfile(file)), None)
        if found is None and line.startswith("#"):
            continue
        if found is None:
            found = _of_id(path, line)
            ids[found] = Path(line + found.suffix)
        elif not (is_image(found) or is_video(found)):
            raise UserError(f"{path}: lists {line}: {UNKNOWN}")
        paths.append(found)
    if not paths:
        raise UserError(f"{path}: the list is empty; write one image per line")
    return [(found, ids.get(found, place)) for found, place in _placed(paths)]


def _of_id(path: Path, line: str) -> Path:
    """The image of an id of a VOC split, with any suffix."""
    start = path.parent / "../.." / IMAGES / line
    found = [image for image in (f"{start}{suffix}" for suffix in IMAGE_SUFFIXES) if os.path.isfile(image)]
    if not found:  # also for a line that is no valid path
        raise UserError(f"{path}: lists {line}, which is neither an image file nor an id of a VOC data set")
    if len(found) > 1:
        raise UserError(same_name(found[0], map(os.path.basename, found[1:])))
    return Path(found[0])
