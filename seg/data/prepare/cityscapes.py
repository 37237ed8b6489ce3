"""Cityscapes from its two official archives, as a data set in VOC layout.

leftImg8bit_trainvaltest.zip   leftImg8bit/SPLIT/CITY/X_leftImg8bit.png
gtFine_trainvaltest.zip        gtFine/SPLIT/CITY/X_gtFine_labelIds.png; its colors, instances and polygons stay in the archive
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from zipfile import ZipInfo

from ...archives import extract_zip, zipped_files
from ...errors import UserError
from ...files import read_lines, require_space
from ..layouts.base import Hints
from ..layouts.create import create_dataset
from ..voc import LISTS

ARCHIVES = {
    "leftImg8bit": ("leftImg8bit_trainvaltest.zip", "_leftImg8bit.png"),
    "gtFine": ("gtFine_trainvaltest.zip", "_gtFine_labelIds.png"),
}
"""Folder in each archive: the archive, and the endings of the needed files."""
SPLITS = ("train", "val", "test")
LIMIT = 20 << 30
"""Largest total size of the needed files of an archive, in bytes; the images take about 11 GiB."""

Files = dict[PurePosixPath, ZipInfo]


@dataclass(frozen=True)
class PreparedCityscapes:
    """The result of `prepare_cityscapes`."""

    path: Path
    """The data set."""
    images: dict[str, int]
    """Number of images of each split. The masks of test are void: its ground truth is not published."""


def unpack(
    folder: str | Path, archives: Sequence[str | Path] = (), *, progress: Callable[[int, int], None] | None = None
) -> int:
    """Unpack the needed files of the two archives.

    Splits are unpacked atomically: an interrupted run continues with the next one. Existing splits are not changed.

    Args:
        folder: the folder to write: leftImg8bit/ and gtFine/.
        archives: the two archives; empty: those in `folder`.
        progress: called with (bytes written, bytes to write).

    Returns:
        Number of files that were written.

    Raises:
        UserError: an archive is missing, damaged or another one, or the disk is full.
    """
    folder = Path(folder)
    absent = [kind for kind in ARCHIVES if not all((folder / kind / split).is_dir() for split in SPLITS)]
    todo = [part for kind in absent for part in _missing(folder, kind, _find(kind, folder, archives))]
    sizes = [sum(entry.file_size for entry in files.values()) for _, _, files in todo]
    if todo:
        os.makedirs(folder, exist_ok=True)
        require_space(folder, 0, sum(sizes), "choose another folder with --cityscapes")
    for number, (archive, name, files) in enumerate(todo):
        before = sum(sizes[:number])
        step = partial(_tell, progress, before, sum(sizes)) if progress else None
        extract_zip(archive, name, files, folder / name, step)
    return sum(len(files) for _, _, files in todo)


def prepare_cityscapes(folder: str | Path, *, progress: Callable[[int, int], None] | None = None) -> PreparedCityscapes:
    """Make a data set in VOC layout of the unpacked archives, if there is none: `seg data init` of the folder.

    Args:
        folder: has leftImg8bit/ and gtFine/. The data set is written to voc/ in it: links to the
            images, and masks of class indices.
        progress: called with (masks read, masks).

    Raises:
        UserError: an image or mask is damaged, or the data set cannot be written.
    """
    out = Path(folder) / "voc"
    if not (out / "labels.yaml").is_file():
        create_dataset(folder, Hints(layout="cityscapes"), out, progress)
    lists = {split: out / LISTS / f"{split}.txt" for split in SPLITS}
    return PreparedCityscapes(out, {split: len(read_lines(path)) for split, path in lists.items() if path.is_file()})


def _tell(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _find(kind: str, folder: Path, archives: Sequence[str | Path]) -> Path:
    """The archive of the kind, among those that are given, or else in the folder."""
    name, _ = ARCHIVES[kind]
    if not archives:
        if not (folder / name).is_file():
            raise UserError(
                f"{folder / name}: not found; download it from https://www.cityscapes-dataset.com, which asks for a login, "
                "into this folder, or name both archives with --from-archive"
            )
        return folder / name
    found = [Path(path) for path in archives if Path(path).name.startswith(f"{kind}_")]
    if len(found) != 1:
        names = " and ".join(file for file, _ in ARCHIVES.values())
        raise UserError(f"--from-archive: {len(found)} files of the name {kind}_*.zip; give {names}")
    return found[0]


def _missing(folder: Path, kind: str, archive: Path) -> list[tuple[Path, str, Files]]:
    """What to unpack of an archive: the archive, a folder in it, and the needed files."""
    name, ending = ARCHIVES[kind]

    def is_needed(path: PurePosixPath) -> bool:
        return len(path.parts) == 4 and path.parts[0] == kind and path.parts[1] in SPLITS and path.name.endswith(ending)

    files = zipped_files(archive, is_needed, LIMIT)
    parts = {split: {path: entry for path, entry in files.items() if path.parts[1] == split} for split in SPLITS}
    for split, part in parts.items():
        if not part:
            raise UserError(f"{archive}: has no files {kind}/{split}/CITY/*{ending}; is it {name}?")
    return [(archive, f"{kind}/{split}", part) for split, part in parts.items() if not (folder / kind / split).is_dir()]
