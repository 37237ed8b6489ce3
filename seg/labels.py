"""Label sets: class names, colors, and which mask values mean which class or void.

PASCAL VOC, Cityscapes, ADE20K and CamVid are built in.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .colors import Color, background_index, default_colors, voc_color
from .errors import UserError, did_you_mean
from .files import read_yaml

VOID = 255
"""The class index that is ignored in the loss and in the scores, in every label set."""
LARGEST_VALUE = 65535
"""The largest integer that a mask file holds: 16 bits."""

_VOC_VOID_COLOR = voc_color(VOID)


@dataclass(frozen=True)
class LabelSet:
    """The classes of a data set, and what the values in its masks mean.

    names: class names, in index order.
    colors: RGB colors of the classes, 0 to 255, in the same order.
    void_color: the color of void in RGB masks.
    values: pairs of a mask value (an integer, or an RGB color) and its class index or `VOID`. Several values may mean one
        class; a mask with any other value is an error. None: integer i is class i and 255 is void; colors mean the class that
        has them in `colors`, or void.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    void_color: Color = _VOC_VOID_COLOR
    values: tuple[tuple[int | Color, int], ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def background(self) -> int | None:
        """Index of the class named background, _background_ or bg, which pictures leave without color; else None."""
        return background_index(self.names)

    @property
    def mask_colors(self) -> tuple[Color, ...]:
        """Colors of the classes in RGB masks: VOC's color map for a label set that has no colors of its own."""
        own = self.colors != default_colors(self.names)
        return self.colors if own else tuple(voc_color(index) for index in range(len(self)))

    @property
    def palette(self) -> np.ndarray:
        """uint8 [256, 3]: the color of every class index. Indices without a class have the color of VOC's color map."""
        palette = np.array([voc_color(i) for i in range(256)], np.uint8)
        palette[: len(self)] = self.colors
        palette[VOID] = self.void_color
        return palette

    @property
    def indexed(self) -> "LabelSet":
        """The same classes without `values`: for masks that hold class indices, such as predictions."""
        return replace(self, values=None)

    def as_dict(self) -> dict[str, Any]:
        """The mapping that `from_dict` reads, for YAML and JSON."""
        found: dict[str, Any] = {
            "classes": [{"name": n, "color": list(c)} for n, c in zip(self.names, self.colors, strict=True)],
            "void_color": list(self.void_color),
        }
        if self.values is not None:
            found["values"] = {
                value if isinstance(value, int) else ",".join(map(str, value)): "void" if index == VOID else self.names[index]
                for value, index in self.values
            }
        return found


def from_dict(value: Any, place: str) -> LabelSet:
    """Read a label set from the mapping in a labels.yaml.

    Args:
        value: `{"classes": [{"name": ..., "color": [r, g, b]}, ...], "void_color": [r, g, b], "values": {value: name}}`. An
            entry of `classes` may be a name alone; its color is then one of `default_colors`. `void_color` and `values` are
            optional: a key of `values` is an integer or "r,g,b", its value a class name or `void`.
        place: the source of the mapping, named in errors.

    Raises:
        UserError: the mapping is not a label set.
    """
    if not isinstance(value, dict):
        raise UserError(f"{place}: a label set must be a mapping with 'classes', not {value!r}")
    unknown = set(value) - {"classes", "void_color", "values"}
    if unknown:
        key = min(unknown, key=str)
        raise UserError(f"{place}: unknown key '{key}'; a label set has 'classes' and 'void_color', and may have 'values'")
    names, colors = _classes(value.get("classes"), place)
    void_color = _color(value.get("void_color", list(_VOC_VOID_COLOR)), f"{place}: void_color")
    entries: tuple[tuple[str, list[Any]], ...] = (("name", names), ("color", [*colors, void_color]))
    for what, items in entries:
        for item in items:
            if items.count(item) > 1:
                raise UserError(f"{place}: two classes have the {what} {item}; each needs its own")
    values = parse_values(value["values"], names, place) if value.get("values") is not None else None
    return LabelSet(tuple(names), tuple(colors), void_color, values)


def _classes(classes: Any, place: str) -> tuple[list[str], list[Color]]:
    if isinstance(classes, list) and len(classes) == 1:
        entry = classes[0]
        name = entry.get("name") if isinstance(entry, dict) else entry
        raise UserError(
            f"{place}: 'classes' must list 2 to {VOID} classes, and lists {name!r} alone. "
            + (
                "List the objects to find, too: classes: [background, cat]"
                if background_index([str(name)]) == 0
                else f"To find one kind of object, list the background too: classes: [background, {name}]"
            )
        )
    if not isinstance(classes, list) or not 2 <= len(classes) <= VOID:
        raise UserError(f"{place}: 'classes' must list 2 to {VOID} classes, each a name or {{name: ..., color: [r, g, b]}}")
    names: list[str] = []
    entries = [entry if isinstance(entry, dict) else {"name": entry} for entry in classes]
    for index, entry in enumerate(entries):
        name = entry.get("name")
        if not isinstance(name, str) or set(entry) - {"name", "color"}:
            raise UserError(f"{place}: class {index} must be a name or {{name: ..., color: [r, g, b]}}, not {entry}")
        if not name.isprintable():
            raise UserError(f"{place}: class {index} has a name that cannot be shown, {name!r}; rename it")
        names.append(name)
    colors = [
        _color(entry.get("color", list(default)), f"{place}: class {name}")
        for name, entry, default in zip(names, entries, default_colors(names), strict=True)
    ]
    return names, colors


def _color(value: Any, place: str) -> Color:
    if not (isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in value)):
        raise UserError(f"{place}: color must be three numbers from 0 to 255, as [128, 0, 0]; got {value!r}")
    return value[0], value[1], value[2]


def parse_values(mapping: Any, names: Sequence[str], place: str) -> tuple[tuple[int | Color, int], ...]:
    """The `values` of a label set, from {value: class name or "void"}; a value is an integer or "r,g,b".

    Raises:
        UserError: a value or a name is none; names it.
    """
    if not isinstance(mapping, dict) or not mapping:
        raise UserError(f"{place}: 'values' must map mask values to class names, as {{0: {names[0]}, 255: void}}")
    if "void" in names:
        raise UserError(f"{place}: a class is named 'void', which in 'values' means the ignored pixels; rename the class")
    found: dict[int | Color, int] = {}
    for key, name in mapping.items():
        value = parse_value(key)
        if value is None:
            raise UserError(f"{place}: values: {key!r} must be an integer from 0 to {LARGEST_VALUE}, or a color 'r,g,b'")
        if value in found:
            raise UserError(f"{place}: values: {key} is listed twice; a value has one meaning")
        if name != "void" and name not in names:
            raise UserError(f"{place}: values: {key}: no class is named {name!r}{did_you_mean(str(name), [*names, 'void'])}")
        found[value] = VOID if name == "void" else names.index(name)
    return tuple(found.items())


def parse_value(text: Any) -> int | Color | None:
    """A mask value from 0 to 65535, or a color, from an integer, "7" or "128,0,0". None for anything else."""
    if isinstance(text, bool) or not isinstance(text, int | str):
        return None
    parts = [part.strip() for part in str(text).split(",")]
    if len(parts) not in (1, 3) or not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in parts):
        return None
    numbers = [int(part) for part in parts]
    if max(numbers) > (LARGEST_VALUE if len(numbers) == 1 else 255):
        return None
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])


def load(labels: str) -> LabelSet:
    """A built-in label set by its name, or a label set from a YAML file (see `from_dict`).

    Raises:
        UserError: the file cannot be read, or is not a label set.
    """
    if labels in BUILT_IN:
        return BUILT_IN[labels]
    if not labels.endswith((".yaml", ".yml")) and not os.path.exists(labels):
        hint = did_you_mean(labels, BUILT_IN)
        raise UserError(f"{labels}: a label set cannot be read: no such file, and no built-in label set of this name{hint}")
    return from_dict(read_yaml(labels, "a label set"), labels)


def _colors(text: str) -> tuple[Color, ...]:
    """Colors written as hexadecimal RRGGBB."""
    return tuple((c[0], c[1], c[2]) for c in map(bytes.fromhex, text.split()))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


VOC = LabelSet(
    _names(
        "background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike, "
        "person, pottedplant, sheep, sofa, train, tvmonitor"
    ),
    tuple(voc_color(i) for i in range(21)),
)
"""PASCAL VOC 2012: 20 classes and background."""

_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_TRAIN_IDS = LabelSet(
    _names(
        "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person, rider, "
        "car, truck, bus, train, motorcycle, bicycle"
    ),
    _colors(
        "804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000 00008e 000046 003c64 "
        "005064 0000e6 770b20"
    ),
    (0, 0, 0),
)
"""Cityscapes' 19 classes; masks hold their indices (files ..._labelTrainIds.png) or colors."""
CITYSCAPES = replace(
    CITYSCAPES_TRAIN_IDS,
    values=tuple((i, _CITYSCAPES_IDS.index(i) if i in _CITYSCAPES_IDS else VOID) for i in range(34)),
)
"""Cityscapes' 19 classes; masks hold the 34 label ids (files ..._labelIds.png), of which 15 are void."""

ADE20K = LabelSet(
    _names(
        "wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door, "
        "table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, armchair, "
        "seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, signboard, chest of drawers, "
        "counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow, "
        "screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop, "
        "stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, "
        "tower, chandelier, awning, streetlight, booth, television receiver, airplane, dirt track, apparel, pole, land, "
        "bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, "
        "plaything, swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, "
        "tank, trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, "
        "traffic light, tray, ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, "
        "flag"
    ),
    _colors(
        "787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33 ff0652 "
        "8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff 08ffd6 07ffe0 "
        "ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff eb0cff a09614 00a3ff "
        "8c8c8d fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff 0bc8c8 ff5200 00fff5 003dff "
        "00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad 0a00ff adff00 00ff99 ff5c00 ff00ff "
        "ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2 00ff52 000aff 0070ff 3300ff 00c2ff 007aff "
        "00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa 8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 "
        "5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3 ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 "
        "0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff 00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff "
        "b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff"
    ),
    (0, 0, 0),
    ((0, VOID), *((i + 1, i) for i in range(150))),
)
"""ADE20K's 150 scene-parsing classes; masks hold 1 to 150, and 0 ('other') is void.

The published colors give road and skyscraper the same gray; here skyscraper is one level of blue brighter."""

CAMVID = LabelSet(
    _names("sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist"),
    _colors("808080 800000 c0c080 804080 3c28de 808000 c08080 404080 400080 404000 0080c0"),
    (0, 0, 0),
    (*((i, i) for i in range(11)), (11, VOID)),
)
"""CamVid's 11 classes as SegNet has them; masks hold 0 to 10, and 11 is void."""

BUILT_IN = {"voc": VOC, "cityscapes": CITYSCAPES, "ade20k": ADE20K, "camvid": CAMVID}
BUILT_IN["cityscapes_train_ids"] = CITYSCAPES_TRAIN_IDS
