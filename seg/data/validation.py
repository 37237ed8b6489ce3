"""Reading a data set once: what is wrong with it, how many pixels each class has, how large its images are."""

import codecs
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError, single_line
from ..labels import VOID, LabelSet
from ..threads import prefetch
from .images import COLOR, IMAGE_SUFFIXES, MASK_FORMATS, decode, read_image, to_labels
from .voc import (
    IMAGES,
    LISTS,
    Split,
    data_folder,
    expected,
    files_of,
    list_file,
    mask_folder,
    match,
    missing,
    read_ids,
    save_mask,
)


@dataclass(frozen=True)
class Problem:
    file: str
    problem: str

    def __str__(self) -> str:
        return single_line(f"{self.file}: {self.problem}")


@dataclass
class Sample:
    """What an image and its mask hold."""

    problems: list[Problem] = field(default_factory=list)
    counts: np.ndarray | int = 0
    """int64 [256]: pixels of each mask value; 0 where anything is wrong."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the image, or of the mask where no image is read."""
    colored: bool = False
    """Whether the mask is RGB in the label set's colors."""


@dataclass
class Scan:
    """What samples hold, one a row."""

    problems: list[Problem]
    """In the order of the samples."""
    sound: np.ndarray
    """bool [samples]: nothing is wrong with it."""
    counts: np.ndarray
    """int64 [samples, 256]: pixels of each mask value; where the sample is not sound, none."""
    sizes: np.ndarray
    """int64 [samples, 2]: width and height; 0 where nothing can be read."""
    colored: np.ndarray
    """bool [samples]: the mask is RGB in the label set's colors."""


@dataclass
class Report:
    """What `check` found."""

    problems: list[Problem]
    notes: list[Problem]
    """What is read well, but could be better."""
    splits: dict[str, np.ndarray]
    """Rows of each list's ids in `scan`; an id that several lists have is one row."""
    scan: Scan

    def as_dict(self) -> dict:
        """For JSON. `pixels`, by mask value 0..255, and `present`, the images that have such pixels, are of sound images."""
        splits = {}
        for name, rows in self.splits.items():
            counts = self.scan.counts[rows]
            sizes = Counter(f"{width}x{height}" for width, height in self.scan.sizes[rows].tolist() if width)
            splits[name] = {
                "images": len(rows),
                "sound": int(self.scan.sound[rows].sum()),
                "pixels": counts.sum(0).tolist(),
                "present": (counts > 0).sum(0).tolist(),
                "void_share": counts[:, VOID].sum() / max(1, counts.sum()),
                "sizes": dict(sizes.most_common()),
            }
        return {
            "problems": [vars(problem) for problem in self.problems],
            "notes": [vars(note) for note in self.notes],
            "splits": splits,
        }


def check(
    root, labels: LabelSet, split: str | None = None, masks: str | None = None, masks_only=False, convert=False, progress=None
) -> Report:
    """Read every image and mask of a split, or of all lists, each file once.

    With `masks_only` no images are asked for, and where there are no lists every PNG of the folder of masks is read. `convert`
    rewrites the masks that are RGB in the label set's colors as palette PNGs. `progress(done, total)` is called after each
    sample. Raises UserError where a folder or the split's list is not there.
    """
    root = data_folder(root)
    paths = [list_file(root, split)] if split else sorted((root / LISTS).glob("*.txt"))
    if not paths and not masks_only:
        list_file(root, "train")  # says what is missing
    folder = mask_folder(root, masks)
    pngs = files_of(folder, (".png",))
    images = {} if masks_only else files_of(root / IMAGES, IMAGE_SUFFIXES)
    wanted = [("mask", folder, pngs)] if masks_only else [("image", root / IMAGES, images), ("mask", folder, pngs)]
    if not pngs:
        raise UserError(f"{folder}: holds no PNG masks")

    problems, lists = [], {} if paths else {folder: tuple(pngs)}
    for path in paths:
        lists[path], wrong = read_list(path, wanted[0][2])
        problems += wrong
    rows: dict[str, int] = {}
    incomplete = []
    for path, ids in lists.items():
        for item in ids:
            if item not in rows:
                rows[item] = len(rows)
                absent = [(what, place) for what, place, files in wanted if item not in files]
                problems += [Problem(str(expected(what, place, item)), missing(what, path)) for what, place in absent]
                incomplete += [rows[item]] * bool(absent)

    pairs = [(images.get(item), pngs.get(item)) for item in rows]
    found = scan(pairs, labels, convert, progress and (lambda done: progress(done, len(pairs))))
    found.sound[incomplete], found.counts[incomplete] = False, 0
    problems += found.problems
    members = {path: np.array([rows[item] for item in ids], int) for path, ids in lists.items()}
    problems += [Problem(str(path), BINARY) for path, mine in members.items() if looks_binary(found.counts[mine])]
    notes = [Problem(str(folder), f"{found.colored.sum()} {COLORED}")] if found.colored.any() and not convert else []
    return Report(problems, notes, {path.stem if paths else path.name: mine for path, mine in members.items()}, found)


BINARY = (
    "the masks hold 0 and 255 alone, and 255 is void: there is no class but 0. Are they binary masks? seg data init makes "
    "masks of 0 and 1 of such"
)
COLORED = (
    "masks are RGB in the label set's colors, and read as such; seg data check --convert makes palette PNGs of them, which "
    "are smaller and read faster"
)


def looks_binary(counts: np.ndarray) -> bool:
    """Whether masks with these counts, [masks, 256], hold 0 and 255 alone."""
    return np.flatnonzero(counts.any(0)).tolist() == [0, VOID]


def read_list(path: Path, files: dict[str, Path]) -> tuple[tuple[str, ...], list[Problem]]:
    """The ids that a list means, each once, and all that is wrong with it; see `read_ids`."""
    try:
        ids, wrong = read_ids(path, files)
    except UserError as error:
        return (), [told(path, error)]
    content = path.read_bytes()
    lines = content.decode("utf-8-sig").splitlines()
    blank = [number for number, line in enumerate(lines, 1) if line != line.strip() or not line]
    if content.startswith(codecs.BOM_UTF8):
        wrong.append(f"begins with a byte-order mark; {HARMLESS}: sed -i '1s/^\\xEF\\xBB\\xBF//' {path}")
    if windows := content.count(b"\r\n"):
        wrong.append(f"ends {windows} of its lines as Windows does; {HARMLESS}: sed -i 's/\\r$//' {path}")
    if blank:
        more = f" and {len(blank) - 1} more lines" if len(blank) > 1 else ""
        mend = f"sed -i 's/^\\s*//; s/\\s*$//; /^$/d' {path}"
        wrong.append(f"line {blank[0]}{more} blank, or with blanks around the id; {HARMLESS}: {mend}")
    return ids, [Problem(str(path), text) for text in wrong]


HARMLESS = "harmless here, but other programs stumble on it"


def scan(pairs, labels: LabelSet, convert=False, progress=None) -> Scan:
    """Decode every (image, mask) of `pairs`, paths or None; see `check`. `progress(done)` is called after each."""
    count = len(pairs)
    sound, colored = np.zeros(count, bool), np.zeros(count, bool)
    found = Scan([], sound, np.zeros((count, 256), np.int64), np.zeros((count, 2), np.int64), colored)
    # Decoding releases the interpreter's lock, so threads do.
    samples = prefetch(lambda pair: examine(*pair, labels, convert), pairs, os.cpu_count())
    for row, sample in enumerate(samples):
        found.problems += sample.problems
        found.sound[row] = not sample.problems
        found.counts[row], found.sizes[row], found.colored[row] = sample.counts, sample.size, sample.colored
        if progress:
            progress(row + 1)
    return found


def examine(image: Path | None, mask: Path | None, labels: LabelSet, convert=False) -> Sample:
    """Decode an image and its mask, or one of them."""
    found, pixels, indices = Sample(), None, None
    if image:
        try:
            pixels = read_image(image)
            found.size = pixels.shape[1::-1]
        except UserError as error:
            found.problems.append(told(image, error))
    if mask:
        try:
            picture = decode(mask, MASK_FORMATS)
            indices = to_labels(picture, labels, mask)
            if pixels is not None:
                match(pixels, indices, image, mask)
        except UserError as error:
            found.problems.append(told(mask, error))
        else:
            found.colored = picture.mode in COLOR
            if image is None:
                found.size = indices.shape[::-1]
            if found.colored and convert:
                save_mask(mask, indices, labels)
    if indices is not None and not found.problems:
        # Five times as fast as bincount, which would take eight bytes a pixel.
        found.counts = np.array(Image.fromarray(indices).histogram(), np.int64)
    return found


def told(file: Path, error: UserError) -> Problem:
    """The problem that a reader of the file raised."""
    return Problem(str(file), str(error).removeprefix(f"{file}: "))


def validate_split(split: Split, progress=None) -> np.ndarray:
    """The pixel counts of a sound split, int64 [images, classes]; else UserError with its first problem."""
    found = scan(list(zip(split.images, split.masks, strict=True)), split.labels, progress=progress)
    if found.problems:
        more = len(found.problems) - 1
        raise UserError(
            f"{found.problems[0]}" + (f" (and {more} more: seg data check {split.root} lists them)" if more else "")
        )
    if looks_binary(found.counts):
        raise UserError(f"{split.root}: split {split.name}: {BINARY}")
    counts = found.counts[:, : len(split.labels)]
    if not counts.any():
        raise UserError(f"{split.root}: every mask of split {split.name} is void; there is nothing to learn or score")
    return counts
