"""Converts a folder of images and masks in any known layout to a data set in VOC layout."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ...errors import UserError, reason, single_line
from ...files import link, sync_all, write_text
from ...labels import LabelSet
from ...threads import prefetch
from .. import voc
from ..images import read_header
from ..label_mapping import LABELS, labels_text
from ..voc import LISTS, mask_picture
from . import open_layout
from .base import Embedded, Hints, Sample
from .exif import write_unturned
from .mask_set import MaskSet
from .splits import complete, merge

Progress = Callable[[int, int], None]
NO_HINTS = Hints()
MASKS = "SegmentationClass"


@dataclass(frozen=True)
class CreatedDataset:
    """A data set made by `create_dataset`."""

    out: Path
    """Its folder, in VOC layout."""
    labels: LabelSet
    splits: dict[str, int]
    """Number of images of each split."""
    notes: list[str]
    """Notes for the user, one line each."""
    layout: str
    """Name of the layout that was read."""


def create_dataset(
    folder: str | Path, hints: Hints = NO_HINTS, out: str | Path | None = None, progress: Progress | None = None
) -> CreatedDataset:
    """Read a folder in any known layout, and write a data set in VOC layout: images, masks, lists and labels.yaml.

    Images, and masks that training reads as they are, become links; other masks are written as palette PNGs of class indices.
    Existing files are not changed. A folder in VOC layout only gets labels.yaml, and lists if it has none.

    Args:
        folder: the folder of images and masks.
        hints: flags of the user.
        out: the folder to write, atomically; default FOLDER/voc, or FOLDER if it is in VOC layout.
        progress: called with (masks read, masks).

    Raises:
        UserError: the layout is unknown, the masks cannot be interpreted, or `out` exists.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder of your images and masks")
    layout = open_layout(folder, hints)
    in_place = layout.in_place and not out
    target = layout.folder if in_place else Path(out or folder / "voc")
    _refuse_existing(target / LABELS if in_place else target, in_place)
    found, notes = layout.samples(), layout.notes
    samples, assigned = merge(found, notes)
    if layout.lists:
        assigned = dict(layout.lists.items())
    splits = complete(assigned, hints.val_share, notes, str(folder))
    counts = {name: len(ids) for name, ids in splits.items()}
    masks = MaskSet(layout, hints, samples, notes, progress)
    labels = masks.meaning.labels
    if in_place:
        # Values given by the user are stored in labels.yaml, and the masks are kept. Otherwise, masks are rewritten.
        labels = hints.labels or labels
        fits = all(masks.reads_alike(item, labels) for item in samples)
        if fits and all(_stays(target / LISTS / f"{name}.txt", layout.lists.get(name), ids) for name, ids in splits.items()):
            _add_lists_and_labels(target, splits, labels)
            return CreatedDataset(target, labels, counts, [*map(single_line, notes)], layout.name)
        target, labels = folder / "voc", masks.meaning.labels
        _refuse_existing(target, False)
    changed = {item for item in samples if not masks.reads_alike(item, labels, (".png",))}
    if changed:
        rest = ", the others are links" if len(changed) < len(samples) else ""
        notes.append(f"{len(changed)} of {len(samples)} masks are rewritten as index masks{rest}")
    with _new_folder(target) as place:
        turned = sum([_put_image(sample, place, target, item, hints.ignore_exif) for item, sample in samples.items()])
        if turned:
            notes.append(f"{turned} images are copies without their EXIF orientation")
        for item, sample in samples.items():
            if item not in changed:
                assert isinstance(sample.mask, Path)
                link(sample.mask, place / MASKS / f"{item}.png", target / MASKS / f"{item}.png")
        _write_masks(masks, sorted(changed), place, labels, progress if not masks.seen else None)
        for name, ids in splits.items():
            write_text(place / LISTS / f"{name}.txt", _lines(ids))
        write_text(place / LABELS, labels_text(labels))
    return CreatedDataset(target, labels, counts, [*map(single_line, notes)], layout.name)


def _add_lists_and_labels(folder: Path, splits: Mapping[str, list[str]], labels: LabelSet) -> None:
    """Write labels.yaml and the lists that are missing into a folder in VOC layout."""
    for name, ids in splits.items():
        if not (folder / LISTS / f"{name}.txt").exists():
            write_text(folder / LISTS / f"{name}.txt", _lines(ids))
    write_text(folder / LABELS, labels_text(labels))


def _stays(path: Path, listed: list[str] | None, ids: list[str]) -> bool:
    """Whether a list needs no change: it holds these ids, or there is none yet."""
    return not path.exists() or (listed is not None and {*listed} == {*ids})


def _refuse_existing(path: Path, in_place: bool) -> None:
    if os.path.lexists(path):
        raise UserError(f"{path}: already exists; delete it" + ("" if in_place else ", or choose another folder with --out"))


def _lines(ids: list[str]) -> str:
    return "".join(f"{item}\n" for item in ids)


def _write_masks(masks: MaskSet, items: list[str], place: Path, labels: LabelSet, progress: Progress | None) -> None:
    def write(item: str) -> None:
        path = place / MASKS / f"{item}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(mask_picture(masks.index_mask(item), labels), path)

    for done, _ in enumerate(prefetch(write, items, os.cpu_count() or 1), 1):
        if progress:
            progress(done, len(items))


def save_image(image: Image.Image, path: Path) -> None:
    """Write a PNG. Not atomic: the whole folder is, and syncing each file took 20 ms."""
    image.save(path)


@contextlib.contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`, which becomes `target` at the end, or is removed."""
    place = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        place.chmod(0o755)
        yield place
        sync_all()  # after a power cut, the renamed folder has all files
        place.rename(target)
    except OSError as error:
        raise UserError(
            f"{target}: cannot be made ({error.strerror or reason(error)}); choose another folder with --out"
        ) from error
    finally:
        if place:
            shutil.rmtree(place, ignore_errors=True)


def _put_image(sample: Sample, place: Path, target: Path, item: str, ignore_exif: bool) -> bool:
    """Link or write an image; whether it is a copy without its EXIF orientation."""
    path = place / voc.IMAGES / f"{item}{sample.image.suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(sample.image, Embedded):
        path.write_bytes(sample.image.content)
    elif ignore_exif and read_header(sample.image).orientation > 1:
        write_unturned(sample.image, path)
        return True
    else:
        link(sample.image, path, target / path.relative_to(place))
    return False
