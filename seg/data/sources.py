"""The training images: those of one split, or of several data sets together."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config import DataConfig
from ..labels import LabelSet, load, parse_values
from .images import read_image
from .label_mapping import labels_file, map_by_name
from .voc import Split, open_split


@dataclass(frozen=True)
class Sources:
    """Splits, one after the other, as one sequence of samples."""

    splits: tuple[Split, ...]
    weights: tuple[float, ...] | None = None
    """Share of the crops drawn from each split; None: each image once per epoch."""

    def __len__(self) -> int:
        return sum(map(len, self.splits))

    def _find(self, index: int) -> tuple[Split, int]:
        ends = np.cumsum([len(split) for split in self.splits]).tolist()
        place = bisect_right(ends, index)
        return self.splits[place], index - (ends[place - 1] if place else 0)

    def image_path(self, index: int) -> Path:
        """Path of an image."""
        split, place = self._find(index)
        path: Path = split.images[place]
        return path

    def image_paths(self) -> Iterator[Path]:
        """Paths of all images, in order."""
        for split in self.splits:
            yield from split.images

    def sample(self, index: int, read: Callable[[Path], np.ndarray] = read_image) -> tuple[np.ndarray, np.ndarray]:
        """Image and mask; see `Split.sample`."""
        split, place = self._find(index)
        return split.sample(place, read)

    def image_weights(self) -> np.ndarray | None:
        """Probability of each image, float64 [images], with the sum 1; None: each image once per epoch."""
        if self.weights is None:
            return None
        shares = np.array(self.weights) / sum(self.weights)
        return np.concatenate([np.full(len(s), share / len(s)) for s, share in zip(self.splits, shares, strict=True)])


def open_sources(config: DataConfig, labels: LabelSet) -> Sources:
    """Open the training data: `config.sources`, or the split `train` of `root`.

    Args:
        config: the settings of the data.
        labels: the classes. The `values` of a source define the class names of the values in its masks; without them, the
            classes in the source's labels.yaml are matched by name.

    Raises:
        UserError: as `open_split`, or the values of a source are not those of a label set, or its labels.yaml lists a
            class that the training does not have.
    """
    if not config.sources:
        return Sources((open_split(config.root, config.train, labels, config.masks),))
    splits = []
    for number, source in enumerate(config.sources):
        here, values, own = labels, source.get("values"), labels_file(source["root"])
        if values:
            here = replace(labels, values=parse_values(values, labels.names, f"data.sources[{number}]"))
        elif own:
            here = map_by_name(load(str(own)), labels, str(own), ours="training")
        splits.append(open_split(source["root"], source.get("split", config.train), here, source.get("masks")))
    weighted = any("weight" in source for source in config.sources)
    weights = tuple(float(s.get("weight", len(split))) for s, split in zip(config.sources, splits, strict=True))
    return Sources(tuple(splits), weights if weighted else None)
