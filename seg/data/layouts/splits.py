"""Train, val and test: from folders, from lists, or chosen by the hash of the ids."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ...errors import UserError
from ...files import read_lines
from ..voc import meant_id
from .base import Layout, Samples, Splits, split_name

VAL_SHARE = 0.2
"""Share of the images for val if the layout has none."""


def deal(ids: Iterable[str], share: float) -> tuple[list[str], list[str]]:
    """Split ids into train and val, both sorted: val gets those with the smallest SHA-256, at least one."""
    ranked = sorted(ids, key=lambda item: hashlib.sha256(item.encode()).digest())
    count = min(max(1, round(len(ranked) * share)), len(ranked) - 1)
    return sorted(ranked[count:]), sorted(ranked[:count])


def merge(found: Splits, notes: list[str]) -> tuple[Samples, dict[str | None, list[str]]]:
    """All samples by id, and the ids of each split; ids that occur in several splits get their split's name."""
    names = [item for part in found.values() for item in part]
    if len(set(names)) < len(names):
        found = {split: {f"{split}_{item}": sample for item, sample in part.items()} for split, part in found.items()}
        notes.append("images of different splits have the same name: each gets its split's name as a prefix")
    return {item: sample for part in found.values() for item, sample in part.items()}, {s: sorted(p) for s, p in found.items()}


def read_split_lists(layout: Layout, folders: Iterable[Path], ids: Samples, named: str = "*") -> dict[str, list[str]]:
    """The lists in these folders in which every line is a sample, by name; lists named like a split have the split's name.

    Args:
        layout: gets notes about lists that are left out.
        folders: where the lists are.
        ids: the samples.
        named: pattern of the lists' names.

    Raises:
        UserError: there are lists, but none of them fits.
    """
    files = {item: Path(item) for item in ids}
    flat = {item.replace("/", "_"): item for item in ids}
    listed: dict[str, list[str]] = {}
    seen = None
    for folder in folders:
        for path in sorted(folder.glob(f"{named}.txt")):
            lines = [line for line in read_lines(path) if not line.startswith("#")]
            meant = [meant_id(line, files) for line in lines]
            meant = [item if item in ids else flat.get(item.replace("/", "_"), item) for item in meant]
            if not lines:
                continue
            seen = folder
            if ids.keys() >= {*meant}:
                listed.setdefault(split_name(path.stem) or path.stem, list(dict.fromkeys(meant)))
            else:
                absent = sum(item not in ids for item in meant)
                layout.notes.append(f"{path}: {absent} of {len(meant)} ids have no image with a mask: the list is ignored")
    if seen and not listed:
        raise UserError(f"{seen}: no list there has an image and a mask for each of its ids; add the missing files")
    return listed


def complete(splits: dict[str | None, list[str]], share: float | None, notes: list[str], place: str) -> dict[str, list[str]]:
    """Complete the splits: val is taken from train if there is none, or if a share is given.

    Args:
        splits: ids of each split or list; None holds those of no split.
        share: of the images for val; None: a fifth, if there is no val.
        notes: gets a line about the split.
        place: the data set, named in errors.

    Raises:
        UserError: there are fewer than two images.
    """
    found = {name: ids for name, ids in splits.items() if name is not None}
    if share is None and "train" in found and "val" in found:
        return found
    test = set(found.get("test", ()))
    pool = {
        item for name, ids in splits.items() if name != "test" and (share is not None or name != "val") for item in ids
    } - test
    if "train" in found and share is None:
        pool = set(found["train"])
    pool -= set(found.get("val", ())) if share is None else set()
    if share is None and "val" in found:
        return found | {"train": sorted(pool)}
    if len(pool) < 2:
        raise UserError(f"{place}: only one image with a mask; add more: training and validation need at least one each")
    train, val = deal(pool, VAL_SHARE if share is None else share)
    why = "no folder or list of val" if share is None else f"--split {1 - share:g}"
    notes.append(f"{why}: {len(val)} of {len(pool)} images are chosen for val by the hash of their names")
    # Other lists, such as trainval, are not changed.
    return {name: ids for name, ids in found.items() if name not in ("train", "val")} | {"train": train, "val": val}
