"""Tables that say which mask belongs to which image, or which image to which split: CSV, JSON, JSON lines, and text."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import UserError
from ..inventory import is_image
from .base import Entry, Layout, Sample, Samples, Splits, flat_id, split_name, stem
from .folder_names import understand_folder
from .names import listed_names
from .pairs import has_mask_word, words

_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt", ".lst")
_LARGEST, _MOST = 1 << 25, 64
"""Bytes of a table, and number of files that are tried."""
_LIST_WORDS = frozenset(
    ["id", "ids", "list", "lists", "set", "image", "images", "img", "name", "names", "file", "files", "split"]
)
_IDS = frozenset(["id", "ids", "name", "image", "file", "filename"])
"""Words in names of columns that may name files without suffix."""
_FITS = 0.8
"""Share of the values of a column that must name files."""

Row = dict[str, str]


@dataclass
class Table:
    """The rows of a file: texts by the name, or the number, of their column."""

    path: Path
    rows: list[Row] = field(default_factory=list)

    def column(self, name: str) -> list[str]:
        """The values of a column, empty where a row lacks it."""
        return [row.get(name, "").strip() for row in self.rows]

    @cached_property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(dict.fromkeys(key for row in self.rows for key in row))

    @cached_property
    def split(self) -> list[str | None]:
        """The split of each row: by a column of splits, or by the name of the file."""
        for name in self.columns:
            found = [split_name(value) for value in self.column(name)]
            if self.rows and all(found):
                return [*found]
        for name in {"is_valid", "is_val"} & {*self.columns}:
            return ["val" if value.lower() in ("true", "1", "yes") else "train" for value in self.column(name)]
        said = words(self.path.stem)
        splits = [split for split in map(split_name, said) if split]
        rest = [word for word in said if not split_name(word) and word not in _LIST_WORDS and not word.isdigit()]
        return [splits[0] if len(splits) == 1 and not rest else None] * len(self.rows)


class Names:
    """Finds files by what a table calls them: a path, its end, or the end without suffix."""

    def __init__(self, files: Iterable[tuple[str, str]]):
        """Args: the path of each file, with `/`, and what is found by it."""
        self.known: dict[str, str | None] = {}
        for path, meant in files:
            parts = PurePosixPath(path).parts
            for first in range(len(parts)):
                end = "/".join(parts[first:])
                for name in {end, stem(end)}:
                    self.known[name] = meant if self.known.get(name, meant) == meant else None

    def find(self, value: str) -> str | None:
        """What a text names; None: nothing, or several."""
        name = value.strip().strip('"').replace("\\", "/").removeprefix("./")
        while name:
            if name in self.known:
                return self.known[name]
            name = name.partition("/")[2]
        return None


class Index(Layout):
    """A table with an image and its mask in each row."""

    name = "index"

    def matches(self) -> bool:
        hints = self.hints
        return not (hints.images or hints.masks or hints.pair) and bool(self.found)

    @cached_property
    def found(self) -> list[tuple[Table, list[tuple[str | None, str, str]]]]:
        """The tables, and (split, image, mask) of each row whose files are there."""
        tables = read_tables(self)
        if not tables:
            return []
        roles = {name: _is_mask(name) for name in self.tree.images}
        both = Names((name, name) for name in roles)
        images = Names((name, name) for name, mask in roles.items() if not mask)
        masks = Names((name, name) for name, mask in roles.items() if mask)
        every = []
        for table in tables:
            ranked = []
            for column in table.columns:
                values = table.column(column)
                filled = [value for value in values if value]
                direct = [both.find(value) for value in values]
                if not any(is_image(value) for value in filled) and not {*words(column)} & _IDS:
                    continue
                if filled and sum(map(bool, direct)) >= _FITS * len(values):
                    is_mask = sum(roles[name] for name in direct if name) > len(values) / 2
                    ranked.append((is_mask, column, direct))
                    continue
                says = has_mask_word(column)
                found = [(masks if says else images).find(value) for value in values]
                if filled and sum(map(bool, found)) >= _FITS * len(values):
                    ranked.append((says, column, found))
            pairs = _pairs(table, ranked)
            if pairs:
                every.append((table, pairs))
        return every

    def samples(self) -> Splits:
        if not self.found:
            raise UserError(f"{self.folder}: no table whose rows name an image and its mask, such as pairs.csv: image,mask")
        splits: Splits = {}
        seen: dict[str, str] = {}
        for table, pairs in self.found:
            for split, image, mask in pairs:
                if seen.setdefault(image, mask) != mask:
                    raise UserError(f"{table.path}: {image} has two masks, {seen[image]} and {mask}; keep one row of it")
                rest = understand_folder(PurePosixPath(image).parts[:-1])[3]
                item = flat_id(*rest, stem(PurePosixPath(image).name))
                if (
                    splits.get(split, {}).get(item, Sample.of(self.folder / image, self.folder / mask)).image
                    != self.folder / image
                ):
                    item = flat_id(stem(image))
                splits.setdefault(split, {})[item] = Sample.of(self.folder / image, self.folder / mask)
            self.notes.append(f"{table.path}: {len(pairs)} images with their masks")
            self.left_out(len(table.rows) - len(pairs), len(table.rows), f"rows of {table.path} name a file that is not there")
        if None in splits and len(splits) > 1:  # a table of all images beside those of the splits
            named = {sample.image for split, part in splits.items() if split for sample in part.values()}
            rest_of = {item: sample for item, sample in splits.pop(None).items() if sample.image not in named}
            self.left_out(len(rest_of), len(rest_of) + len(named), "images are in no split")
        return splits

    def entries(self) -> tuple[list[Entry], str]:
        return listed_names(self.tree)


def _is_mask(name: str) -> bool:
    path = PurePosixPath(name)
    role = understand_folder(path.parts[:-1])[0]
    return role == "mask" or (role != "image" and has_mask_word(stem(path.name)))


def _pairs(table: Table, ranked: list[tuple[bool, str, list[str | None]]]) -> list[tuple[str | None, str, str]]:
    """(split, image, mask) of the rows: of the first column of images and the first of masks; of two alike, in this order."""
    if len(ranked) < 2 or len(table.rows) < 2:
        return []
    said = [(says or (has_mask_word(column) and not column.isdigit()), column, found) for says, column, found in ranked]
    first = next((found for mask, _, found in said if not mask), said[0][2])
    second = next((found for mask, _, found in said if mask and found is not first), None)
    second = second or next(found for _, _, found in said if found is not first)
    named = [mask for mask in second if mask]
    if len({image for image in first if image}) < 2 or len({*named}) < _FITS * len(named):
        return []  # numbers of classes or folds may be names of files, too
    rows = zip(table.split, first, second, strict=True)
    return [(split, image, mask) for split, image, mask in rows if image and mask and image != mask]


def read_tables(layout: Layout) -> list[Table]:
    """The files of a folder that may be tables, nearest to the top first; those that cannot be read are left out."""
    names = [name for name in layout.tree.files if name.lower().endswith(_SUFFIXES)]
    found = []
    for name in sorted(names, key=lambda name: name.count("/"))[:_MOST]:
        path = layout.folder / name
        try:
            if path.stat().st_size <= _LARGEST:
                found += [table for table in _read(path, path.read_text(encoding="utf-8-sig")) if table.rows]
        except (OSError, ValueError, RecursionError, csv.Error):
            continue
    return found


def _read(path: Path, text: str) -> Iterator[Table]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        yield Table(path, list(_rows(json.loads(text), None)))
    elif suffix in (".jsonl", ".ndjson"):
        yield Table(path, [row for line in text.splitlines() if line.strip() for row in _rows(json.loads(line), None)])
    elif suffix in (".csv", ".tsv"):
        head = text.partition("\n")[0]
        rows = list(csv.reader(text.splitlines(), delimiter=max(",;\t", key=head.count)))
        header = rows[0] if rows and not any(re.search(r"\.\w{3,4}$", cell) for cell in rows[0]) else []
        keys = [cell.strip().lower() or str(i) for i, cell in enumerate(header)]
        keys = keys if len({*keys}) == len(keys) else [*map(str, range(len(keys)))]
        most = max(map(len, rows), default=0)
        keys += map(str, range(len(keys), most))
        yield Table(path, [dict(zip(keys, row, strict=False)) for row in rows[bool(header) :] if row])
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        cells = [_columns(line) for line in lines]
        yield Table(path, [{str(i): cell for i, cell in enumerate(row)} for row in cells])


def _columns(line: str) -> list[str]:
    """The columns of a line: between tabs or commas; or two names with suffix between spaces; else the whole line."""
    for pattern in (r"\t", r"\s*,\s*"):
        if re.search(pattern, line):
            return re.split(pattern, line)
    two = re.fullmatch(r"(.+\.\w{3,4})\s+(.+\.\w{3,4})", line)
    return [two[1], two[2]] if two else [line]


def _rows(value: Any, split: str | None) -> Iterator[Row]:
    """Objects with texts, in lists, and in objects whose keys may be names of splits."""
    if isinstance(value, list):
        for one in value:
            if isinstance(one, list) and len(one) == 2 and all(isinstance(text, str) for text in one):
                yield {"0": one[0], "1": one[1]} | ({"split": split} if split else {})
            elif isinstance(one, str) and split:
                yield {"0": one, "split": split}
            else:
                yield from _rows(one, split)
    elif isinstance(value, dict):
        texts = {str(key).lower(): text for key, text in value.items() if isinstance(text, str)}
        if len(texts) > 1 or (texts and split):
            yield texts | ({"split": split} if split else {})
        for key, below in value.items():
            if isinstance(below, list | dict):
                yield from _rows(below, split_name(str(key)) or split)


def read_split_tables(layout: Layout, ids: Samples) -> dict[str, list[str]]:
    """Ids of each split by lists such as train.txt, or a table with a column of splits; empty if there are none.

    Without a list of train, it has the images of no other list.

    Args:
        layout: gets notes about what is left out.
        ids: the samples.
    """
    tables = read_tables(layout)
    if not tables:
        return {}
    known = [(item, item) for item in ids]
    for item, sample in ids.items():
        for path in (sample.image, sample.mask):
            if isinstance(path, Path):
                known.append((path.as_posix().lstrip("/"), item))
    names = Names(known)
    found: dict[str, dict[str, None]] = {}
    for table in tables:
        if not any(table.split) or (table.path.suffix not in (".txt", ".lst") and len({*table.split}) < 2):
            continue
        best: list[str | None] = []
        for column in sorted(table.columns, key=lambda column: not {*words(column)} & _IDS):  # pandas numbers the rows, too
            meant = [names.find(value) for value in table.column(column)]
            if sum(map(bool, meant)) > sum(map(bool, best)):
                best = meant
        if not any(best):
            continue
        for split, named in zip(table.split, best, strict=True):
            if split and named:
                found.setdefault(split, {})[named] = None
        layout.notes.append(f"{table.path}: the split of {sum(map(bool, best))} images")
        layout.left_out(best.count(None), len(best), f"rows of {table.path} name no image with a mask")
    several = [item for item, count in Counter(item for part in found.values() for item in part).items() if count > 1]
    if several and layout.hints.val_share is None:
        raise UserError(
            f"{layout.folder}: {several[0]} is in the lists of several splits; keep it in one of them, or ignore the lists of "
            "train and val by --split 0.8"
        )
    rest = [item for item in ids if not any(item in part for part in found.values())]
    if found and "train" not in found:
        found["train"] = dict.fromkeys(rest)
    elif found:
        layout.left_out(len(rest), len(ids), "images are in no split")
    return {split: [*part] for split, part in found.items()}
