"""The classes of mask values, if the layout does not define them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...colors import Color, voc_color
from ...errors import UserError
from ...labels import VOID, LabelSet, parse_value
from ..masks import color_table
from .base import Entry, label_set
from .names import is_void
from .raw_masks import COLOR, Decoding, Seen, code_of, color_of, decoded_codes, find_code, read_codes, show


@dataclass(frozen=True)
class Meaning:
    """Meaning of the codes in a data set's masks."""

    labels: LabelSet
    """The classes, for masks of class indices."""
    table: dict[int, int]
    """Class index or 255 of each code."""


def parse_values(texts: Iterable[str]) -> LabelSet:
    """The label set of `--values`: VALUE=CLASS, with an integer, a range of integers, 1-9, or a color, r,g,b.

    Classes are in the order of their first value; `void` is not a class.

    Raises:
        UserError: a text is not VALUE=CLASS, or a value is given twice.
    """
    values: dict[int | Color, str] = {}
    for text in texts:
        key, equals, name = text.partition("=")
        low, dash, high = key.partition("-")
        first, last = parse_value(low.strip()), parse_value(high.strip() if dash else low.strip())
        fits = equals and name.strip() and first is not None and last is not None
        if not fits or (dash and not (isinstance(first, int) and isinstance(last, int) and first <= last)):
            raise UserError(f"--values {text}: must be VALUE=CLASS, such as 0=background, 1-9=object, 0,0,142=car or 255=void")
        for value in range(first, last + 1) if isinstance(first, int) and isinstance(last, int) else [first]:
            if value in values:
                raise UserError(f"--values {text}: {value} is given twice; give each value one class")
            assert value is not None
            values[value] = name.strip()
    names = list(dict.fromkeys(name for name in values.values() if name.lower() != "void"))
    colors = {name: value for value, name in reversed(values.items()) if not isinstance(value, int)}
    found = label_set(names, "--values", colors=[colors.get(name) for name in names])
    pairs = tuple((value, VOID if name.lower() == "void" else names.index(name)) for value, name in values.items())
    return LabelSet(found.names, found.colors, found.void_color, pairs)


def known_meaning(seen: Sequence[Seen], labels: LabelSet, how: Decoding) -> Meaning:
    """The meaning defined by a label set.

    Raises:
        UserError: a mask has a value that is not listed; the message names the file and the first pixel.
    """
    integers = {value: index for value, index in labels.values or () if isinstance(value, int)}
    if not integers:
        integers = {index: index for index in (*range(len(labels)), VOID)}
    table = integers | {code_of(color): index for color, index in color_table(labels).items()}
    for one in seen:
        unknown = [code for code in decoded_codes(one, how) if code not in table]
        if unknown:
            row, column = find_code(one.path, unknown[0], how)
            count = sum(any(code not in table for code in decoded_codes(other, how)) for other in seen)
            alike = [code for code in table if (code >= COLOR) == (unknown[0] >= COLOR)]
            listed = ", ".join(show(code) for code in alike[:12]) + (", ..." if len(alike) > 12 else "")
            raise UserError(
                f"{one.path}: value {show(unknown[0])} at ({row}, {column}) has no meaning; {count} of {len(seen)} masks hold "
                f"such values. Known are {listed}: give each value a class by --values VALUE=CLASS ..., "
                "and values to ignore the class 'void'"
            )
    return Meaning(labels.indexed, table)


def find_meaning(seen: Sequence[Seen], entries: list[Entry], place: str, how: Decoding, notes: list[str]) -> Meaning:
    """Determine the meaning from the masks: a class per color, or a class per integer.

    Args:
        seen: the masks.
        entries: class names, if there is a list of them.
        place: source of the names, or the folder; named in errors and notes.
        how: how the files become codes.
        notes: gets a line for each note to the user.

    Raises:
        UserError: the masks are of different kinds, or hold one class.
    """
    codes = sorted({code for one in seen for code in decoded_codes(one, how)})
    kinds = {code >= COLOR for code in codes}
    if len(kinds) > 1:
        first = seen[0]
        other = next(one for one in seen if one.colored != first.colored)
        kind = {True: "colors", False: "indices"}
        raise UserError(
            f"{other.path}: holds {kind[other.colored]}, but {first.path} {kind[first.colored]}; all masks of a data "
            "set must be of one kind"
        )
    if kinds == {True}:
        return _of_colors([color_of(code) for code in codes], entries, place, notes)
    return _of_integers(seen, codes, entries, place, notes)


def _of_colors(colors: list[Color], entries: list[Entry], place: str, notes: list[str]) -> Meaning:
    """A class per color: those with names first, in the order of the list, then the others from dark to bright."""
    named = [(name, color) for name, color in entries if color]
    if entries and not named:
        notes.append(f"{place}: names without colors; not used, because the masks hold colors")
    known = {color for _, color in named}
    usual = voc_color(VOID)
    others = [c for c in colors if c not in known and c != usual]
    black = (0, 0, 0)
    if named and black in others and not any(name.lower().strip("_") == "background" for name, _ in named):
        named, others = [("background", black), *named], [color for color in others if color != black]
        notes.append(f"{place}: black has no name there: it is background, where no object is")
    if named and others:
        notes.append(
            f"{place}: {len(others)} colors of the masks have no name there, such as {others[0]}; each becomes a class"
        )
    if not named and set(colors) == {(0, 0, 0), (255, 255, 255)}:
        named, others = [("background", (0, 0, 0)), ("foreground", (255, 255, 255))], []
    every: list[Entry] = [*named, *(("class_" + "_".join(map(str, c)), c) for c in others)]
    labels, targets = _without_void(every, place)
    table = {code_of(usual): VOID}
    return Meaning(labels, table | {code_of(c): t for (_, c), t in zip(every, targets, strict=True) if c})


def _of_integers(seen: Sequence[Seen], values: list[int], entries: list[Entry], place: str, notes: list[str]) -> Meaning:
    """A class per integer; 255 is void, unless it is a gray level among others."""
    if values[-1] > VOID:
        one = next(one for one in seen if values[-1] in one.codes)
        raise UserError(
            f"{one.path}: label {values[-1]}; class indices end at 254 and {VOID} is void. Are these instances? Export "
            "classes, or name all values by --values 0=background 1-65535=object"
        )
    # A ramp of grays is a default palette, not chosen colors.
    palette = {i: c for s in seen if s.palette for i, c in zip(s.codes, s.palette, strict=True) if c != (i, i, i)}
    top = max((v for v in values if v != VOID), default=0)
    if entries and len(entries) <= top:
        notes.append(f"{place}: {len(entries)} names, but the masks have label {top}; not used")
        entries = []
    keys = list(range(max(top + 1, len(entries))))
    if values == [0, VOID]:
        keys = values
        notes.append("the masks hold only 0 and 255: background and foreground; nothing is void")
        entries = entries if len(entries) == 2 else [("background", None), ("foreground", None)]
    elif not entries and not palette and min(np.diff(values), default=0) >= 10:
        keys = _gray_levels(seen, values)
        notes.append(
            f"the values {', '.join(map(str, keys))} are gray levels: each becomes a class, numbered from dark to bright"
            + (
                f"; if {VOID} is to be ignored: --values {' '.join(f'{k}=class_{k}' for k in keys[:-1])} {VOID}=void"
                if VOID in keys
                else ""
            )
        )
    entries = entries or [(f"class_{key}", None) for key in keys]
    every = [(name, color or palette.get(key)) for key, (name, color) in zip(keys, entries, strict=True)]
    every = [(name, color or voc_color(number)) for number, (name, color) in enumerate(every)]
    if len({color for _, color in every}) < len(every):  # equal colors do not tell classes apart
        every = [(name, voc_color(number)) for number, (name, _) in enumerate(every)]
    labels, targets = _without_void(every, place)
    return Meaning(labels, {VOID: VOID} | dict(zip(keys, targets, strict=True)))


def _gray_levels(seen: Sequence[Seen], values: list[int]) -> list[int]:
    """The gray levels that are classes: all of them, but 255 if it is void.

    255 is a level if the levels are spread evenly between 0 and 255, such as 0, 128, 255, or if it covers regions. It is void
    if it lies along borders, like VOC's void.
    """
    if VOID not in values:
        return values
    steps = len(values) - 1
    even = all(abs(value - 255 * i / steps) <= 1.5 for i, value in enumerate(values))
    if even or _covers_regions(seen, VOID):
        return values
    return values[:-1]


def _covers_regions(seen: Sequence[Seen], value: int) -> bool:
    """Whether 1 of 20 pixels of a value or more lie over 3 pixels inside its regions, in the first masks that have it."""
    import cv2

    inside = total = 0
    for one in [one for one in seen if value in one.codes][:16]:
        mask = (read_codes(one.path, Decoding()) == value).astype(np.uint8)
        inside += int(cv2.erode(mask, np.ones((7, 7), np.uint8)).sum())
        total += int(mask.sum())
    return inside > 0.05 * total


def _without_void(every: list[Entry], place: str) -> tuple[LabelSet, list[int]]:
    """The label set of names with colors, without the names of void; and the class index or 255 of each name."""
    classes = [entry for entry in every if not is_void(entry[0])]
    if len(classes) < 2:
        raise UserError(f"{place}: the masks hold only one class; a data set needs at least two")
    if len(classes) > VOID:
        raise UserError(
            f"{place}: {len(classes)} classes; {VOID} at most. Were masks resized, or saved as JPEG? Export them again"
        )
    void = next((color for name, color in every if is_void(name) and color), None)
    labels = label_set([name for name, _ in classes], place, colors=[color for _, color in classes], void_color=void)
    numbers = {entry: number for number, entry in enumerate(classes)}
    return labels, [numbers.get(entry, VOID) for entry in every]
