"""The augmented training set of PASCAL VOC: VOC's own masks and those of the Semantic Boundaries Dataset.

SBD/cls/ID.mat   SBD/train.txt   SBD/val.txt   (the folder benchmark_RELEASE/dataset of SBD's archive)

SBD: Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UserError, reason
from ...files import read_lines, write_text
from ...labels import VOC
from ...threads import prefetch
from ..masks import read_mask
from ..voc import IMAGES, LISTS, MASKS
from .masks import put_mask

AUGMENTED, OWN = MASKS
OFFICIAL = {"VOC train": 1464, "VOC val": 1449, "SBD train": 8498, "SBD val": 2857}
"""Number of ids in the four lists that make trainaug."""

LIMIT = 2**24
"""Largest size of a .mat file, compressed or not, in bytes; those of SBD have less than a hundredth of it."""

_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _NUMBERS = 2, range(6, 16)
_TYPES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8"}


def _elements(data: Any) -> Iterator[tuple[int, Any]]:
    """Type and content of each data element of a MATLAB 5 file, in order."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        start, end = at + 8, len(data)
        if kind >> 16:  # a small element: type and size share four bytes, the other four are the content
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if start + size > end:
            raise ValueError("a part is longer than the file")
        yield kind, data[start : start + size]
        at = start + size if kind == _COMPRESSED else start + size + (at - start - size) % 8


def _array(content: Any) -> tuple[int, list[int], bytes, Iterator[tuple[int, Any]]]:
    """Class, dimensions, name, and the other elements of an array."""
    elements = _elements(content)
    (_, flags), (_, dims), (_, name) = islice(elements, 3)
    return flags[0], np.frombuffer(dims, "<i4").tolist(), bytes(name), elements


def _segmentation(content: bytes) -> np.ndarray:
    """The matrix GTcls.Segmentation in the content of a file."""
    if content[124:128] != b"\0\1IM":
        raise ValueError("not a MATLAB 5 file")
    for kind, part in _elements(memoryview(content)[128:]):
        if kind == _COMPRESSED:
            unpack = zlib.decompressobj()
            part = memoryview(unpack.decompress(part, LIMIT))
            if not unpack.eof:
                raise ValueError("its compressed part is incomplete or too large")
            kind, part = next(_elements(part), (0, None))
        if kind != _MATRIX:
            raise ValueError("a part that must be an array is not one")
        kind, _, name, elements = _array(part)
        if name == b"GTcls" and kind == _STRUCT:
            break
    else:
        raise ValueError("it has no struct GTcls")
    (_, step), (_, names) = islice(elements, 2)
    (step,) = struct.unpack("<i", step)
    # Names of `step` bytes each, filled up with zeros.
    fields = [bytes(names[i : i + step]).rstrip(b"\0") for i in range(0, len(names), step)] if step > 0 else []
    if b"Segmentation" not in fields:
        raise ValueError("its GTcls has no field Segmentation")
    ((_, part),) = islice(elements, fields.index(b"Segmentation"), fields.index(b"Segmentation") + 1)
    array, dims, _, elements = _array(part)
    kind, values = next(elements, (0, None))
    if array not in _NUMBERS or kind not in _TYPES or len(dims) != 2:
        raise ValueError("its Segmentation is no matrix of numbers")
    matrix: np.ndarray = np.frombuffer(values or b"", _TYPES[kind]).reshape(dims[::-1]).T
    return matrix


def read_sbd_mask(path: str | Path) -> np.ndarray:
    """Read the mask in an SBD file: the field Segmentation of its struct GTcls.

    Sizes in the file are checked before they are used. scipy.io.loadmat trusts them, and a damaged file can crash Python.

    Args:
        path: a MATLAB 5 file.

    Returns:
        uint8 [H, W], class index 0 to 20.

    Raises:
        UserError: the file is damaged, is not a MATLAB 5 file, or holds another label.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LIMIT + 1)
        if len(content) > LIMIT:
            raise ValueError(f"it has more than {LIMIT >> 20} MiB")
        mask = _segmentation(content)
    except (OSError, ValueError, IndexError, struct.error, zlib.error) as error:
        raise UserError(f"{path}: not a readable SBD mask ({reason(error)}); damaged or truncated: extract it again") from error
    wrong = ~np.isin(mask, np.arange(len(VOC)))
    if wrong.any():
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        raise UserError(
            f"{path}: label {mask[row, column]} at ({row}, {column}); SBD's are 0 to {len(VOC) - 1}: extract it again"
        )
    return np.ascontiguousarray(mask, np.uint8)


@dataclass(frozen=True)
class Prepared:
    """The result of `prepare_trainaug`, in numbers of masks."""

    ids: int
    """Ids in trainaug.txt."""
    written: int
    replaced: int
    """Masks that existed with other content."""
    kept: int
    """Masks that existed and are correct."""
    path: Path
    """The list."""


def prepare_trainaug(
    voc: str | Path, sbd: str | Path, *, expected: int = 10_582, progress: Callable[[int, int], None] | None = None
) -> Prepared:
    """Write VOC's augmented training set: the masks of trainaug and val in SegmentationClassAug, and the list trainaug.txt.

    trainaug is VOC's train and SBD's train and val without VOC's val, sorted. A mask is VOC's own if there is one, else SBD's,
    which has no void. Existing masks are compared: correct ones stay, others are replaced. The list is written last: an
    interrupted data set has none, and the next run continues.

    Args:
        voc: folder of PASCAL VOC 2012.
        sbd: folder of SBD with cls/, train.txt and val.txt.
        expected: number of ids in trainaug.
        progress: called with (masks done, masks) after each mask.

    Raises:
        UserError: a list, image or mask is missing or damaged, a mask has another size than its image, or the number of ids is
            not `expected`.
    """
    voc, sbd = Path(voc), Path(sbd)
    lists = {}
    for name, folder, hint in (
        ("VOC", voc / LISTS, "--voc names the folder VOCdevkit/VOC2012: seg data download voc2012"),
        ("SBD", sbd, "--sbd names the folder benchmark_RELEASE/dataset of SBD's archive: seg data download sbd"),
    ):
        for part in ("train", "val"):
            path = folder / f"{part}.txt"
            if not path.is_file():
                raise UserError(f"{path}: no such list; {hint}")
            lists[f"{name} {part}"] = set(read_lines(path))
    train, val = lists["VOC train"], lists["VOC val"]
    ids = sorted(set().union(*lists.values()) - val)
    if len(ids) != expected:
        found = ", ".join(f"{name} {len(lists[name]):,} ({count:,})" for name, count in OFFICIAL.items())
        raise UserError(
            f"{voc}: trainaug would have {len(ids):,} ids, not {expected:,}; the lists hold (in brackets the official ones): "
            f"{found}; copy the lists that differ again"
        )
    own = sorted(train | val)
    every = [*own, *sorted({*ids} - train)]
    _require(own, voc / OWN, ".png")
    _require(every[len(own) :], sbd / "cls", ".mat")
    _require(every, voc / IMAGES, ".jpg")

    def make(item: str) -> str:
        source = voc / OWN / f"{item}.png" if item in train or item in val else sbd / "cls" / f"{item}.mat"
        mask = read_mask(source, VOC) if source.suffix == ".png" else read_sbd_mask(source)
        _same_size(voc / IMAGES / f"{item}.jpg", source, mask)
        return put_mask(voc / AUGMENTED / f"{item}.png", mask)

    counts = {"written": 0, "replaced": 0, "kept": 0}
    # More threads than cores, for some wait for the disk.
    for done, what in enumerate(prefetch(make, every, 2 * (os.cpu_count() or 1)), 1):
        counts[what] += 1
        if progress:
            progress(done, len(every))
    path = voc / LISTS / "trainaug.txt"
    write_text(path, "".join(f"{item}\n" for item in ids))
    return Prepared(len(ids), **counts, path=path)


def _require(ids: list[str], folder: Path, suffix: str) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; extract the archive again")
    found = set(os.listdir(folder))
    absent = [item for item in ids if item + suffix not in found]
    if absent:
        more = f", and {len(absent) - 1} more of {len(ids)}" if len(absent) > 1 else ""
        raise UserError(f"{folder / absent[0]}{suffix}: no such file{more}; extract the archive again")


def _same_size(image: Path, source: Path, mask: np.ndarray) -> None:
    try:
        with Image.open(image, formats=("JPEG",)) as header:
            width, height = header.size
    except Exception as error:  # Pillow raises whatever its parsers run into
        raise UserError(f"{image}: not a readable image ({reason(error)}); damaged or truncated: copy it again") from error
    if mask.shape != (height, width):
        raise UserError(
            f"{source}: {mask.shape[1]}x{mask.shape[0]} pixels, but its image is {width}x{height} ({image}); one of them is of "
            "another release"
        )
