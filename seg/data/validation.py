"""Reads a whole data set once: its problems, the pixels of each class, and the sizes of its images."""

import codecs
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from ..errors import UserError
from ..labels import VOID, LabelSet
from .inventory import IMAGE_SUFFIXES, MASK_SUFFIXES, FileIndex
from .range_notes import note_lines
from .scan import Problem, Scan, as_problem, scan
from .voc import IMAGES, LISTS, Split, data_folder, expected_file, files_of, list_file, mask_folder, no_file, read_ids

NOT_VOID = "void pixels are ignored; if 255 marks objects, seg data init FOLDER makes masks of 0 and 1"
BINARY = (
    "the masks hold only 0 and 255, and 255 is void: the only class is 0. Are they binary masks? seg data init converts "
    "them to 0 and 1. If 255 is void in large regions, list it in the label set: values: {0: NAME, 255: void}"
)
TRAINED_ON = "scores on training images do not measure the accuracy on new images"
COLORED = (
    "masks are RGB in the label set's colors; seg data check --convert makes them palette PNGs, which are smaller and read "
    "faster"
)
HARMLESS = "harmless here, but other programs may fail on it"


@dataclass
class Report:
    """The findings of `check`."""

    problems: list[Problem]
    notes: list[Problem]
    """Notes about reading images and masks."""
    split_notes: list[str]
    """Notes about the splits; see `split_notes`."""
    splits: dict[str, np.ndarray]
    """Rows in `scan` of each list's ids; an id in several lists has one row."""
    scan: Scan

    def as_dict(self) -> dict[str, Any]:
        """For JSON. `pixels`, by class index 0..255, and `present`, images with such pixels, leave out images with problems."""
        splits = {}
        for name, rows in self.splits.items():
            counts = self.scan.counts[rows]
            sizes = Counter(f"{width}x{height}" for width, height in self.scan.sizes[rows].tolist() if width)
            splits[name] = {
                "images": len(rows),
                "sound": int(self.scan.valid[rows].sum()),
                "pixels": counts.sum(0).tolist(),
                "present": (counts > 0).sum(0).tolist(),
                "void_share": counts[:, VOID].sum() / max(1, counts.sum()),
                "sizes": dict(sizes.most_common()),
            }
        return {
            "problems": [vars(problem) for problem in self.problems],
            "notes": [vars(note) for note in self.notes],
            "split_notes": self.split_notes,
            "splits": splits,
        }


def check(
    root: str | Path,
    labels: LabelSet,
    split: str | None = None,
    masks: str | None = None,
    masks_only: bool = False,
    convert: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Read every image and mask of a data set in VOC layout, each file once.

    Args:
        root: the data set.
        labels: its label set.
        split: the list to read; default: all lists.
        masks: folder of the masks under `root`; default: as training finds it.
        masks_only: do not read images; without lists, read every mask of the folder.
        convert: rewrite masks that are RGB in the label set's colors as palette PNGs.
        progress: called with (samples done, samples) after each sample.

    Raises:
        UserError: a folder or the split's list does not exist.
    """
    root = data_folder(root)
    paths = [list_file(root, split)] if split else sorted((root / LISTS).glob("*.txt"))
    if not paths and not masks_only:
        list_file(root, "train")  # says what is missing
    files = {"mask": files_of(mask_folder(root, masks), MASK_SUFFIXES)}
    folder = files["mask"].folder
    if not masks_only:
        files = {"image": files_of(root / IMAGES, IMAGE_SUFFIXES)} | files
    if not files["mask"]:
        raise UserError(f"{folder}: holds no PNG masks, nor BMP, TIFF or GIF masks")
    if convert and any(isinstance(value, int) for value, _ in labels.values or ()):
        raise UserError(
            "seg data check --convert: the label set's 'values' list integers; masks of colors need none: remove them"
        )

    problems, lists = [], {} if paths else {folder: tuple(files["mask"])}
    for path in paths:
        lists[path], wrong = read_list(path, next(iter(files.values())))
        problems += wrong
    rows = {item: row for row, item in enumerate(dict.fromkeys(item for ids in lists.values() for item in ids))}
    bad, incomplete = _incomplete(lists, files)
    problems += bad
    nothing: Mapping[str, Path] = {}
    pairs = [(files.get("image", nothing).get(item), files["mask"].get(item)) for item in rows]
    found = scan(pairs, labels, convert, progress and (lambda done: progress(done, len(pairs))))
    gone = [rows[item] for item in incomplete]
    found.valid[gone], found.counts[gone] = False, 0
    problems += found.problems
    members = {path: np.array([rows[item] for item in ids], int) for path, ids in lists.items()}
    binary = {path: mine for path, mine in members.items() if looks_binary(found, mine, labels)}
    learned = next((path for path in members if path.stem == "train"), None)
    if learned is None or learned in binary:  # else there are classes, and 255 is void
        problems += [Problem(str(path), BINARY) for path in binary]
    notes = [Problem(str(folder), f"{found.colored.sum()} {COLORED}")] if found.colored.any() and not convert else []
    notes += [Problem(str(root / IMAGES), text) for text in note_lines(found.notes)]
    splits = {path.stem if paths else path.name: mine for path, mine in members.items()}
    return Report(problems, notes, _all_notes(splits, found.counts, labels), splits, found)


def _all_notes(splits: Mapping[str, np.ndarray], counts: np.ndarray, labels: LabelSet) -> list[str]:
    """`split_notes`, which name classes that one split has and another lacks, and a note about classes that no split has."""
    rows = np.concatenate([np.zeros(0, int), *splits.values()])
    held = counts[rows][:, : len(labels)].any(0)
    absent = [name for name, there in zip(labels.names, held, strict=True) if not there]
    nowhere = [f"no image has {', '.join(absent)}: not learned, not scored"] if absent and held.any() else []
    return split_notes(splits, counts, labels) + nowhere


def _incomplete(lists: Mapping[Path, tuple[str, ...]], files: Mapping[str, FileIndex]) -> tuple[list[Problem], set[str]]:
    """Ids of the lists with a missing or an ambiguous file, and a problem for each such file."""
    problems, incomplete = [], set()
    for path, ids in lists.items():
        for item in ids:
            if item in incomplete:
                continue
            for what, index in files.items():
                if item not in index:
                    problems.append(Problem(str(expected_file(what, index.folder, item)), no_file(what, path)))
                elif item in index.doubles:
                    problems.append(Problem(str(index[item]), index.ambiguous(item).removeprefix(f"{index[item]}: ")))
                else:
                    continue
                incomplete.add(item)
    return problems, incomplete


def looks_binary(found: Scan, rows: np.ndarray, labels: LabelSet) -> bool:
    """Whether the masks of these rows hold only 0 and 255, and 255 covers objects in most: probably not void."""
    held = found.counts[rows] > 0
    mixed = held[:, 0] & held[:, VOID]
    values = np.flatnonzero(held.any(0)).tolist()
    return labels.values is None and values == [0, VOID] and bool(2 * found.binary[rows].sum() > mixed.sum())


def split_notes(
    splits: Mapping[str, np.ndarray], counts: np.ndarray, labels: LabelSet, names: tuple[str, str] = ("train", "val")
) -> list[str]:
    """Notes for the user about the splits.

    Args:
        splits: rows of each split.
        counts: int64 [rows, 256], pixels of each class index.
        labels: the label set.
        names: the splits for training and validation, which are compared.
    """
    notes = []
    present = {name: np.flatnonzero(counts[rows][:, : len(labels)].any(0)).tolist() for name, rows in splits.items()}
    for name, classes in present.items():
        void = int(((counts[splits[name], VOID] > 0) & ~counts[splits[name], : len(labels)].any(1)).sum())
        if len(classes) == 1:
            notes.append(f"{name} has one class, {labels.names[classes[0]]}; {NOT_VOID}")
        elif not classes and void:
            notes.append(
                f"every mask of {name} is void: there is nothing to score, mIoU stays 0, and the first weights are kept"
            )
        if classes and void:
            notes.append(
                f"{void} of {len(splits[name])} masks of {name} are entirely void: they are not used for training or scores"
            )
    if {*names} <= splits.keys() and names[0] != names[1]:
        train, val = names
        common = np.intersect1d(splits[train], splits[val])
        if len(common):
            notes.append(f"{train} and {val} share {len(common)} images: {TRAINED_ON}")
        known = sorted({i for classes in present.values() for i in classes})  # also of other splits, such as trainaug
        for name, effect in ((val, "not scored"), (train, "not learned")):
            absent = [labels.names[i] for i in known if i not in present[name]]
            if absent and present[name]:
                notes.append(f"{name} has no pixel of {', '.join(absent)}: {effect}")
    return notes


def read_list(path: Path, files: Mapping[str, Path]) -> tuple[tuple[str, ...], list[Problem]]:
    """The ids in a list, each once, and all problems of the list; see `read_ids`."""
    try:
        ids, wrong = read_ids(path, files)
    except UserError as error:
        return (), [as_problem(path, error)]
    content = path.read_bytes()
    lines, name = content.decode("utf-8-sig").splitlines(), quote(str(path))
    blank = [number for number, line in enumerate(lines, 1) if line != line.strip() or not line]
    if content.startswith(codecs.BOM_UTF8):
        wrong.append(f"starts with a byte-order mark; {HARMLESS}: sed -i '1s/^\\xEF\\xBB\\xBF//' {name}")
    if windows := content.count(b"\r\n"):
        wrong.append(f"has {windows} Windows line ends; {HARMLESS}: sed -i 's/\\r$//' {name}")
    if blank:
        more = f" and {len(blank) - 1} more lines" if len(blank) > 1 else ""
        command = f"sed -i 's/^\\s*//; s/\\s*$//; /^$/d' {name}"
        wrong.append(f"line {blank[0]}{more} blank, or with blanks around the id; {HARMLESS}: {command}")
    return ids, [Problem(str(path), text) for text in wrong]


def validate_split(
    split: Split, progress: Callable[[int], None] | None = None, note: Callable[[str], None] | None = None
) -> np.ndarray:
    """Read every image and mask of a split, before training or evaluation.

    Args:
        split: the split.
        progress: called with the samples done after each sample.
        note: called with each note for the user.

    Returns:
        Pixels of each class, int64 [images, classes].

    Raises:
        UserError: the first problem of the split, or masks without a class.
    """
    found = _sound(split, progress)
    require_classes(split, found)
    for text in [*note_lines(found.notes), *split_notes({split.name: np.arange(len(split))}, found.counts, split.labels)]:
        if note:
            note(f"{split.root}: {text}")
    return found.counts[:, : len(split.labels)]


def require_classes(split: Split, found: Scan) -> None:
    """Raise UserError if there is nothing to learn from a split."""
    if looks_binary(found, np.arange(len(split)), split.labels):
        raise UserError(f"{split.root}: split {split.name}: {BINARY}")
    if not found.counts[:, : len(split.labels)].any():
        raise UserError(f"{split.root}: every mask of split {split.name} is void; there is nothing to learn or score")


def _sound(split: Split, progress: Callable[[int], None] | None) -> Scan:
    """Read every image and mask of a split. Raises UserError for its first problem."""
    found = scan(list(zip(split.images, split.masks, strict=True)), split.labels, progress=progress)
    refuse_problems(found, split)
    return found


def refuse_problems(found: Scan, split: Split) -> None:
    """Raise UserError for the first problem of a split."""
    if found.problems:
        more = len(found.problems) - 1
        raise UserError(
            f"{found.problems[0]}" + (f" (and {more} more: seg data check {quote(str(split.root))} lists them)" if more else "")
        )
