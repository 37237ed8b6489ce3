"""Label sets: class names, colours and the void value. PASCAL VOC's 21 classes are built in."""

from dataclasses import dataclass

import numpy as np

from .errors import UserError
from .files import read_yaml

VOID = 255
"""The mask value that is never trained on nor scored, in every label set."""

VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def voc_colour(index: int) -> tuple[int, int, int]:
    """Colour of a label in the VOC colour map: its bits, three at a time, from the top bit of R, G and B down."""
    colour = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            colour[channel] |= (index >> channel & 1) << (7 - bit)
        index >>= 3
    return tuple(colour)


@dataclass(frozen=True)
class LabelSet:
    """Names and RGB colours of the classes, in index order; `void_colour` is what 255 looks like in an RGB mask."""

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    void_colour: tuple[int, int, int] = voc_colour(VOID)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def palette(self) -> np.ndarray:
        """uint8 [256, 3]: colour of every mask value. Values that are no class have the VOC map's colour."""
        palette = np.array([voc_colour(i) for i in range(256)], np.uint8)
        palette[: len(self)] = self.colours
        palette[VOID] = self.void_colour
        return palette

    def as_dict(self) -> dict:
        """What `load` reads back."""
        return {
            "classes": [{"name": n, "colour": list(c)} for n, c in zip(self.names, self.colours, strict=True)],
            "void_colour": list(self.void_colour),
        }


VOC = LabelSet(VOC_NAMES, tuple(voc_colour(i) for i in range(21)))


def _colour(value, place: str) -> tuple[int, int, int]:
    if not (isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in value)):
        raise UserError(f"{place}: colour must be three numbers from 0 to 255, as [128, 0, 0]; got {value!r}")
    return tuple(value)


def from_dict(value: dict, place: str) -> LabelSet:
    """Label set of `{"classes": [{"name": ..., "colour": [r, g, b]}, ...], "void_colour": [r, g, b]}`.

    Colours may be left out: the VOC colour map's are taken. `place` names the source in errors.
    """
    if not isinstance(value, dict):
        raise UserError(f"{place}: a label set must be a mapping with 'classes', not {value!r}")
    unknown = set(value) - {"classes", "void_colour"}
    if unknown:
        raise UserError(f"{place}: unknown key '{min(unknown, key=str)}'; a label set has 'classes' and 'void_colour'")
    classes = value.get("classes")
    if not isinstance(classes, list) or not 2 <= len(classes) <= VOID:
        raise UserError(f"{place}: 'classes' must list 2 to {VOID} classes, each a name or {{name: ..., colour: [r, g, b]}}")
    names, colours = [], []
    for index, entry in enumerate(classes):
        entry = entry if isinstance(entry, dict) else {"name": entry}
        if not isinstance(entry.get("name"), str) or set(entry) - {"name", "colour"}:
            raise UserError(f"{place}: class {index} must be a name or {{name: ..., colour: [r, g, b]}}, not {entry}")
        if not entry["name"].isprintable():
            raise UserError(f"{place}: class {index} has a name that cannot be shown, {entry['name']!r}; give it another")
        names.append(entry["name"])
        colours.append(_colour(entry.get("colour", list(voc_colour(index))), f"{place}: class {entry['name']}"))
    void_colour = _colour(value.get("void_colour", list(voc_colour(VOID))), f"{place}: void_colour")
    for what, values in (("name", names), ("colour", [*colours, void_colour])):
        for item in values:
            if values.count(item) > 1:
                raise UserError(f"{place}: two classes have the {what} {item}; each needs its own")
    return LabelSet(tuple(names), tuple(colours), void_colour)


def load(labels: str) -> LabelSet:
    """The label set `voc`, or one from a YAML file of names and colours."""
    return VOC if labels == "voc" else from_dict(read_yaml(labels, "a label set"), labels)
