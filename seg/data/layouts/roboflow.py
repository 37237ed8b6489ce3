"""Roboflow's semantic masks: train, valid and test, each with NAME.jpg, NAME_mask.png and _classes.csv."""

from functools import cached_property

from ...errors import UserError
from ...labels import VOID, LabelSet
from ..inventory import is_image
from .base import Layout, Sample, Splits, label_set, split_name, stem
from .names import is_void, read_values_csv

LIST = "_classes.csv"


class Roboflow(Layout):
    """A folder per split with images, masks and the list of classes."""

    name = "roboflow"

    @cached_property
    def folders(self) -> list[str]:
        """The folders that have a list of classes."""
        return [folder for folder, files in self.tree.folders.items() if LIST in files]

    def matches(self) -> bool:
        return any(name.lower().endswith("_mask.png") for folder in self.folders for name in self.tree.folders[folder])

    def samples(self) -> Splits:
        found: Splits = {}
        for folder in self.folders:
            place = self.folder / folder
            files = [name for name in self.tree.folders[folder] if is_image(name)]
            masks = {name[: -len("_mask.png")]: name for name in files if name.lower().endswith("_mask.png")}
            images = {stem(name): name for name in files if name not in masks.values()}
            split = split_name(folder.rpartition("/")[2])
            pairs = {item: Sample.of(place / name, place / masks[item]) for item, name in images.items() if item in masks}
            found.setdefault(split, {}).update(pairs)
            self.notes.append(f"{place}: {len(pairs)} images")
            self.left_out(len(files) - 2 * len(pairs), len(files), f"files in {place} have no partner")
        if not any(found.values()):
            raise UserError(f"{self.folder}: no images NAME.jpg with masks NAME_mask.png beside a list {LIST}")
        return found

    def labels(self) -> LabelSet:
        named = {folder: read_values_csv(self.folder / folder / LIST) for folder in self.folders}
        first, values = next(iter(named.items()))
        for folder, other in named.items():
            if other != values:
                raise UserError(
                    f"{self.folder / folder / LIST}: lists other classes than {self.folder / first / LIST}; export both again"
                )
        names = list(dict.fromkeys(name for _, name in sorted(values.items()) if not is_void(name)))
        table = {value: VOID if is_void(name) else names.index(name) for value, name in values.items()}
        return label_set(names, str(self.folder / first / LIST), table)
