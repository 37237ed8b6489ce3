"""Files of saved predictions: their ground truth, size and classes."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..data.images import PIXELS, NotAnImage, decode, read_header
from ..data.inventory import IMAGE_SUFFIXES, MASK_SUFFIXES, FileIndex, walk
from ..data.label_mapping import labels_file
from ..data.layouts.pairs import pair_names, pattern_stems
from ..data.masks import MASK_FORMATS, read_mask, to_labels
from ..errors import UserError, reason
from ..labels import LARGEST_VALUE, VOID, LabelSet, from_dict, load

ARRAY = ".npy"
SUFFIXES = (*MASK_SUFFIXES, ARRAY)
"""Suffixes of predictions."""
_MAGIC = b"\x93NUMPY"
CLASSES = "classes"
"""Key of the text in a prediction's PNG with the class names, as a JSON list."""
LOSSY = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in MASK_SUFFIXES)
"""Suffixes of formats that may change values."""


class Pair(NamedTuple):
    """A ground truth and its prediction."""

    name: str
    """The path of the truth below its folder, without suffix."""
    truth: Path
    prediction: Path


def pair_predictions(
    predictions: Path, truth: Path, pattern: str | None = None, ids: Iterable[str] | None = None
) -> list[Pair]:
    """The prediction of each mask of the ground truth.

    Without a pattern, a prediction has the path of its truth apart from the suffix; or its name, if names are unique.

    Args:
        predictions: folder of predictions; those without a truth are ignored.
        truth: folder of masks.
        pattern: of a prediction's file name, `{stem}_pred.png`; or of both, `{stem}_gt.png={stem}.npy`: truths of another name
            are then left out. It applies within each folder.
        ids: the truths to take; None: all.

    Raises:
        UserError: a folder is missing or empty, a prediction is missing, lossy, or not the only one of its name.
    """
    for folder in (predictions, truth):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of masks")
    truths, found = FileIndex(truth, MASK_SUFFIXES), FileIndex(predictions, SUFFIXES)
    wanted = list(truths if ids is None else ids)
    if pattern and "=" in pattern:
        fit = pattern_stems([_base(name) for name in truths.names.values()], pattern)
        wanted = [item for item in wanted if item in truths and _base(truths.names[item]) in fit]
    if not wanted:
        raise UserError(
            f"{truth}: contains no masks (PNG, BMP, TIFF or GIF)" + (f" that --pair {pattern} matches" if pattern else "")
        )
    for item in wanted:
        if item not in truths:
            raise UserError(f"{truth / item}.png: no such file; the ground truth of an id of the split is missing")
        if item in truths.doubles:
            raise UserError(truths.ambiguous(item))
    partners = _by_pattern(wanted, truths, predictions, pattern) if pattern else _by_name(wanted, found)
    missing = [item for item in wanted if item not in partners]
    if missing:
        raise UserError(_missing(missing, len(wanted), predictions, found, pattern))
    return [Pair(item, truths[item], predictions / partners[item]) for item in wanted]


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _by_name(wanted: list[str], found: FileIndex) -> dict[str, str]:
    """The prediction of each id: the same path, or else the same name, if it is unique on both sides."""
    partners = {item: item for item in wanted if item in found}
    if not partners:
        counts, bases = Counter(map(_base, found)), Counter(map(_base, wanted))
        there = {_base(item): item for item in found}
        partners = {item: there[_base(item)] for item in wanted if counts[_base(item)] == bases[_base(item)] == 1}
    for item in partners.values():
        if item in found.doubles:
            raise UserError(found.ambiguous(item))
    return {item: found.names[partner] for item, partner in partners.items()}


def _by_pattern(wanted: list[str], truths: FileIndex, predictions: Path, pattern: str) -> dict[str, str]:
    """The prediction of each id by the pattern, within each folder."""
    folders: dict[str, dict[str, str]] = {}
    for item in wanted:
        folder, _, name = truths.names[item].rpartition("/")
        folders.setdefault(folder, {})[name] = item
    files: dict[str, list[str]] = {}
    for path in walk(predictions, (*SUFFIXES, *LOSSY)):
        files.setdefault(path.rpartition("/")[0], []).append(_base(path))
    partners = {}
    for folder, names in folders.items():
        for name, prediction in pair_names(names, files.get(folder, ()), pattern).masks.items():
            path = f"{folder}/{prediction}" if folder else prediction
            if path.lower().endswith(LOSSY):
                raise UserError(lossy_message(predictions / path))
            partners[names[name]] = path
    return partners


def _missing(missing: list[str], total: int, predictions: Path, found: FileIndex, pattern: str | None) -> str:
    item = missing[0]
    count = f" ({len(missing)} of {total} masks have no prediction)" if total > 1 else ""
    lossy = FileIndex(predictions, LOSSY)
    if not pattern and item in lossy:
        return lossy_message(lossy[item]) + count
    if pattern:
        return f"{predictions}: --pair {pattern} finds no prediction of {item}{count}; compare the pattern with the file names"
    start = f"{predictions / item}.png: no such file, nor one of {' '.join(SUFFIXES[1:])}{count}"
    stem = _base(item)
    near = next((_base(name) for name in found.names.values() if stem in _base(name)), None)
    if near:
        return f"{start}. There is {near}: describe the names by --pair '{near.replace(stem, '{stem}', 1)}'"
    return f"{start}. Predict it, or name the images to score by --split"


def lossy_message(path: Path) -> str:
    """Why a prediction in a lossy format is refused."""
    return (
        f"{path}: a prediction in a lossy format such as JPEG, whose compression changes classes, mainly along edges, and so "
        "the score. Save predictions as PNG or .npy"
    )


def open_array(path: Path, num_classes: int) -> np.ndarray:
    """The class map in a .npy file, integers [H, W], memory-mapped.

    Raises:
        UserError: the file is damaged, or not a class map, for example probabilities.
    """
    try:
        with open(path, "rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError("it does not start like one")
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises ValueError, EOFError, SyntaxError and more
        raise UserError(f"{path}: not a readable .npy file ({reason(error)}); write it by np.save, as integers") from error
    held = f"{path}: holds {'x'.join(map(str, array.shape)) or 'one value'} of {array.dtype}"
    if array.ndim == 3 and 1 not in array.shape:
        axis = array.shape.index(num_classes) if num_classes in array.shape else 0
        raise UserError(
            f"{held}: scores or probabilities of each class; save the class of each pixel: "
            f"np.save(path, scores.argmax({axis}).astype('uint8'))"
        )
    if array.ndim != 2:
        raise UserError(
            f"{held}; a class map is height x width, one map per file: np.save(path, mask.squeeze().astype('uint8'))"
        )
    if array.dtype.kind not in "iub":
        raise UserError(
            f"{held}: classes are integers; save class numbers as mask.astype('uint8'), and probabilities of one foreground as "
            "(probability > 0.5).astype('uint8')"
        )
    if not array.size or array.size > PIXELS:
        raise UserError(f"{held}; a class map has 1 to {PIXELS:,} pixels")
    return array


def read_prediction(path: Path, labels: LabelSet) -> np.ndarray:
    """Read a prediction: uint8 [H, W], class index or 255. Raises UserError as `read_mask` and `open_array`."""
    if path.suffix.lower() != ARRAY:
        try:
            return read_mask(path, labels)
        except NotAnImage as error:
            try:
                decode(path)
            except UserError:
                raise error from None
            raise UserError(lossy_message(path)) from error
    array = open_array(path, len(labels))
    wrong = (array < 0) | (array > LARGEST_VALUE) if array.dtype.kind == "i" or array.dtype.itemsize > 2 else np.array(False)
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise UserError(
            f"{path}: class {array[row, column]} at ({row}, {column}); classes are 0 to {len(labels) - 1}. Void is {VOID} in "
            "files: write mask % 256 if it is -1"
        )
    return to_labels(Image.fromarray(array.astype(np.uint8 if array.max() <= VOID else np.uint16)), labels, path)


def labels_of(predictions: Path, first: Path) -> tuple[LabelSet, Path] | None:
    """The classes of predictions, and the file that names them: labels.yaml in their folder, or the first prediction itself.

    Returns:
        None if they have no names.

    Raises:
        UserError: labels.yaml is not a label set.
    """
    path = labels_file(predictions)
    if path:
        return load(str(path)), path
    try:
        with Image.open(first) as image:
            names = json.loads(image.info[CLASSES])
        return from_dict({"classes": names}, str(first)), first
    except (OSError, KeyError, ValueError, TypeError, SyntaxError, UserError):  # no picture, or another program's text
        return None


def size_of(path: Path, num_classes: int) -> tuple[int, int]:
    """Width and height of a mask or prediction, without reading its pixels."""
    if path.suffix.lower() == ARRAY:
        height, width = open_array(path, num_classes).shape
        return width, height
    try:
        header = read_header(path, MASK_FORMATS)
    except NotAnImage:
        read_header(path)
        raise UserError(lossy_message(path)) from None
    return header.width, header.height
