"""Lists of class names that tools write beside masks."""

import csv
import json
import re
from pathlib import Path
from typing import Any

from ...colors import Color
from ...errors import UserError
from ...files import read_lines
from .base import Entry, Tree

LISTS = ("class_dict.csv", "label_colors.txt", "labelmap.txt", "codes.txt", "classes.txt", "class_names.txt")
"""Lists of names in the order of the classes: CamVid's (two), CVAT's, fastai's, and plain ones."""
_MORE = (
    r".*class_?dict.*\.csv",
    r".*colou?r_?map.*\.txt",
    r"(classes|class_names|labels|label_map|id2label|dataset|config(_v\d\.\d)?)\.json",
)
"""Patterns of other names: the drone data set's and others' variants, RUGD's, Hugging Face's, nnU-Net's and Mapillary's."""
VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore", "__ignore__", "_ignore_")
"""Names of classes that are void."""

_LINES = (
    r"(?P<name>[^:,]+)[:,]\s*(?P<r>\d+)\s*,\s*(?P<g>\d+)\s*,\s*(?P<b>\d+)\s*([:,].*)?",
    r"(?P<r>\d+)\s+(?P<g>\d+)\s+(?P<b>\d+)\s+(?P<name>.+)",
    r"\d+\s+(?P<name>[^\W\d].*?)\s+(?P<r>\d+)\s+(?P<g>\d+)\s+(?P<b>\d+)",
)


def is_void(name: str) -> bool:
    """Whether a class of this name is void."""
    return name.strip().lower() in VOID_NAMES


def find_list(tree: Tree) -> Path | None:
    """The list of class names of a folder: the one nearest to the top, of several there the first kind in `LISTS`."""
    found = []
    for name in tree.files:
        base = name.rpartition("/")[2].lower()
        kinds = [kind for kind, pattern in enumerate((*map(re.escape, LISTS), *_MORE)) if re.fullmatch(pattern, base)]
        if kinds and (not base.endswith(".json") or _json_names(tree.folder / name)):
            found.append((name.count("/"), kinds[0], name))
    return tree.folder / min(found)[2] if found else None


def _json_color(value: Any) -> Color | None:
    """A color of three numbers, or a text such as #50E3C2."""
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:], 16)
    if isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in value):
        return value[0], value[1], value[2]
    return None


def listed_names(tree: Tree) -> tuple[list[Entry], str]:
    """The names in the list of `find_list`, and their source; no names if there is none."""
    path = find_list(tree)
    return (read_names(path), str(path)) if path else ([], str(tree.folder))


def _json_names(path: Path) -> list[Entry]:
    """Names in a JSON file: Mapillary's labels with colors, nnU-Net's, a name for each index, or a list; [] for others."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    if isinstance(found, dict):
        found = found.get("labels", found.get("classes", found))
    if isinstance(found, list) and all(isinstance(one, dict) for one in found):
        named = [(one.get("readable") or one.get("name") or one.get("title"), _json_color(one.get("color"))) for one in found]
        return [(str(n), c) for n, c in named] if all(n for n, _ in named) else []
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return [(one, None) for one in found]
    if not isinstance(found, dict):
        return []
    if all(isinstance(v, int) for v in found.values()):
        numbered = {v: k for k, v in found.items()}
    else:
        numbered = {int(k): v for k, v in found.items() if k.isascii() and k.isdigit() and isinstance(v, str)}
    in_order = sorted(numbered) == list(range(len(found))) and len(found) > 1
    return [(numbered[i], None) for i in range(len(found))] if in_order else []


def read_names(path: Path) -> list[Entry]:
    """Names of the classes, with their colors if the list has colors, in the order of the file.

    Raises:
        UserError: a line is not a name with a color of three numbers from 0 to 255.
    """
    if path.suffix.lower() == ".json":
        return _json_names(path)
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
