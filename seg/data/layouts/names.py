"""Lists of class names that tools write beside masks."""

import csv
import re
from pathlib import Path

from ...colors import Color
from ...errors import UserError
from ...files import read_lines
from .base import Entry

LISTS = ("class_dict.csv", "label_colors.txt", "labelmap.txt", "codes.txt", "classes.txt", "class_names.txt")
"""Lists of names in the order of the classes: CamVid's (two), CVAT's, fastai's, and plain ones."""
VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore", "__ignore__", "_ignore_")
"""Names of classes that are void."""

_LINES = (
    r"(?P<name>[^:,]+)[:,]\s*(?P<r>\d+)\s*,\s*(?P<g>\d+)\s*,\s*(?P<b>\d+)\s*([:,].*)?",
    r"(?P<r>\d+)\s+(?P<g>\d+)\s+(?P<b>\d+)\s+(?P<name>.+)",
)


def is_void(name: str) -> bool:
    """Whether a class of this name is void."""
    return name.strip().lower() in VOID_NAMES


def read_names(path: Path) -> list[Entry]:
    """Names of the classes, with their colors if the list has colors, in the order of the file.

    Raises:
        UserError: a line is not a name with a color of three numbers from 0 to 255.
    """
    lines = [line for line in read_lines(path) if not line.startswith("#")]
    if path.suffix != ".csv" and not any(_color(line) for line in lines) and path.name not in LISTS[1:3]:
        return [(line, None) for line in lines]
    if path.suffix == ".csv" and lines and not re.fullmatch(_LINES[0], lines[0]):
        lines = lines[1:]  # names of the columns
    entries: list[Entry] = []
    for line in lines:
        found = _color(line)
        if not found:
            raise UserError(f"{path}: '{line}' is not a name with a color of three numbers from 0 to 255; correct the line")
        entries.append(found)
    return entries


def _color(line: str) -> tuple[str, Color] | None:
    found = next(filter(None, (re.fullmatch(pattern, line) for pattern in _LINES)), None)
    if not found or any(len(found[c]) > 3 or int(found[c]) > 255 for c in "rgb"):
        return None
    return found["name"].strip(), (int(found["r"]), int(found["g"]), int(found["b"]))


def read_values_csv(path: Path) -> dict[int, str]:
    """Roboflow's _classes.csv: the class name of each mask value.

    Raises:
        UserError: a line is not a number and a name.
    """
    rows = list(csv.reader(read_lines(path)))
    named: dict[int, str] = {}
    for row in rows[1:]:
        if len(row) != 2 or not re.fullmatch(r"\s*\d{1,3}\s*", row[0], re.ASCII) or not row[1].strip():
            raise UserError(f"{path}: '{','.join(row)}' is not a mask value and a class name; correct the line")
        named[int(row[0])] = row[1].strip()
    if not named:
        raise UserError(f"{path}: lists no classes; it must have a mask value and a class name per line")
    return named
