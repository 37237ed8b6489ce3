"""Label sets: class names, colors and the void value. PASCAL VOC's 21 classes are built in."""

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


def voc_color(index: int) -> tuple[int, int, int]:
    """Color of a label in the VOC color map: its bits, three at a time, from the top bit of R, G and B down."""
    color = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            color[channel] |= (index >> channel & 1) << (7 - bit)
        index >>= 3
    return tuple(color)


@dataclass(frozen=True)
class LabelSet:
    """Names and RGB colors of the classes, in index order; `void_color` is what 255 looks like in an RGB mask."""

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    void_color: tuple[int, int, int] = voc_color(VOID)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def palette(self) -> np.ndarray:
        """uint8 [256, 3]: color of every mask value. Values that are no class have the VOC map's color."""
        palette = np.array([voc_color(i) for i in range(256)], np.uint8)
        palette[: len(self)] = self.colors
        palette[VOID] = self.void_color
        return palette

    def as_dict(self) -> dict:
        """What `load` reads back."""
        return {
            "classes": [{"name": n, "color": list(c)} for n, c in zip(self.names, self.colors, strict=True)],
            "void_color": list(self.void_color),
        }


VOC = LabelSet(VOC_NAMES, tuple(voc_color(i) for i in range(21)))


def _color(value, place: str) -> tuple[int, int, int]:
    if not (isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in value)):
        raise UserError(f"{place}: color must be three numbers from 0 to 255, as [128, 0, 0]; got {value!r}")
    return tuple(value)


def from_dict(value: dict, place: str) -> LabelSet:
    """Label set of `{"classes": [{"name": ..., "color": [r, g, b]}, ...], "void_color": [r, g, b]}`.

    Colors may be left out: the VOC color map's are taken. `place` names the source in errors.
    """
    if not isinstance(value, dict):
        raise UserError(f"{place}: a label set must be a mapping with 'classes', not {value!r}")
    unknown = set(value) - {"classes", "void_color"}
    if unknown:
        raise UserError(f"{place}: unknown key '{min(unknown, key=str)}'; a label set has 'classes' and 'void_color'")
    classes = value.get("classes")
    if not isinstance(classes, list) or not 2 <= len(classes) <= VOID:
        raise UserError(f"{place}: 'classes' must list 2 to {VOID} classes, each a name or {{name: ..., color: [r, g, b]}}")
    names, colors = [], []
    for index, entry in enumerate(classes):
        entry = entry if isinstance(entry, dict) else {"name": entry}
        if not isinstance(entry.get("name"), str) or set(entry) - {"name", "color"}:
            raise UserError(f"{place}: class {index} must be a name or {{name: ..., color: [r, g, b]}}, not {entry}")
        if not entry["name"].isprintable():
            raise UserError(f"{place}: class {index} has a name that cannot be shown, {entry['name']!r}; give it another")
        names.append(entry["name"])
        colors.append(_color(entry.get("color", list(voc_color(index))), f"{place}: class {entry['name']}"))
    void_color = _color(value.get("void_color", list(voc_color(VOID))), f"{place}: void_color")
    for what, values in (("name", names), ("color", [*colors, void_color])):
        for item in values:
            if values.count(item) > 1:
                raise UserError(f"{place}: two classes have the {what} {item}; each needs its own")
    return LabelSet(tuple(names), tuple(colors), void_color)


def load(labels: str) -> LabelSet:
    """The label set `voc`, or one from a YAML file of names and colors."""
    return VOC if labels == "voc" else from_dict(read_yaml(labels, "a label set"), labels)
