"""Read masks of one label set as the classes of another, by the names of the classes."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import yaml

from ..errors import UserError
from ..labels import VOID, LabelSet

LABELS = "labels.yaml"
"""The label set in a folder of data or of predictions."""
SHOWN = 30
"""Largest number of class names in a message."""


REMEDIES = {"model": ", or in another file by --labels", "training": ", or of this entry of data.sources"}
"""Further places of `values`, by the owner of the wanted classes."""


def labels_file(folder: str | Path) -> Path | None:
    """The label set that a folder holds; None if it has none."""
    path = Path(folder) / LABELS
    return path if path.is_file() else None


def labels_text(labels: LabelSet) -> str:
    """The text of a label set's YAML file."""
    text: str = yaml.safe_dump(labels.as_dict(), sort_keys=False, default_flow_style=None, allow_unicode=True)
    return text


def map_by_name(data: LabelSet, model: LabelSet, place: str, theirs: str = "data set", ours: str = "model") -> LabelSet:
    """The model's label set, with `values` that read a data set's masks as the model's classes.

    Classes are matched by name, without regard to case, in any order. The data set may lack classes of the model.

    Args:
        data: the label set of the data set.
        model: the label set of the model.
        place: the source of `data`, named in errors.
        theirs: name of the first in messages.
        ours: name of the second in messages.

    Raises:
        UserError: the data set has a class that the model does not have.
    """
    if data.names == model.names and data.colors == model.colors and data.values == model.values:
        return model
    places = {_key(name): index for index, name in enumerate(model.names)}
    indices = [places.get(_key(name)) for name in data.names]
    if None in indices or len({*indices}) < len(indices):
        known = {_key(name) for name in data.names}
        alone = (
            (theirs, [name for name in data.names if _key(name) not in places]),
            (ours, [name for name in model.names if _key(name) not in known]),
        )
        differences = "".join(f". Only in the {which}: {_list(names)}" for which, names in alone if names)
        remedy = REMEDIES.get(ours, f"; --labels names the label set of the {ours}")
        raise UserError(
            f"{place}: the classes of the {theirs} are not those of the {ours}. {theirs.capitalize()}: {_list(data.names)}. "
            f"{ours.capitalize()}: {_list(model.names)}{differences}. Rename classes that are the same, or map mask values to "
            f"classes of the {ours} by 'values' in labels.yaml{remedy}"
        )
    index_of = {index: found for index, found in enumerate(indices) if found is not None} | {VOID: VOID}
    pairs = data.values
    if pairs is None:
        pairs = (*((i, i) for i in index_of), *zip((*data.mask_colors, data.void_color), index_of, strict=True))
    return replace(model, values=tuple((value, index_of[index]) for value, index in pairs))


def mapping_notes(data: LabelSet, model: LabelSet, theirs: str = "data set", ours: str = "model") -> list[str]:
    """Notes for the user about classes that `map_by_name` matches."""
    known = [_key(name) for name in data.names]
    order = [_key(name) for name in model.names]
    notes = []
    if known != [name for name in order if name in known]:
        notes.append(f"classes of the {theirs} have a different order from those of the {ours}; they are matched by name")
    absent = [name for name in model.names if _key(name) not in known]
    if absent:
        notes.append(f"{_list(absent)}: classes of the {ours} that are not in the {theirs}")
    return notes


def _key(name: str) -> str:
    return name.strip().lower()


def _list(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
