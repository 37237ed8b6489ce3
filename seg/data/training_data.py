"""Opens, reads and describes the training and validation data."""

from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote

import numpy as np

from .. import distributed
from ..config import DataConfig
from ..errors import UserError
from ..labels import LabelSet, load
from ..progress import Progress
from . import findings
from .findings import Findings
from .label_mapping import labels_file
from .range_notes import note_lines
from .scan import Sample, Scan, examine, look_at, tabulate
from .sources import Sources, open_sources
from .validation import TRAINED_ON, refuse_problems, require_classes, split_notes
from .voc import Split, open_split

DECODED = 1000
"""Largest number of images that are decoded before a training begins: two cores decode 110 of VOC's per second. Of larger data
sets, only the headers are read; other damage is found when the image is used."""


def refuse_other_labels(config: DataConfig, labels: LabelSet) -> None:
    """Refuse the default label set for a data set that has its own: the masks would be read as other classes, in silence.

    Raises:
        UserError: `data.labels` is VOC's, and the data set's labels.yaml lists other classes.
    """
    path = labels_file(config.root) if config.labels == DataConfig.labels else None
    if path and load(str(path)).names != labels.names:
        raise UserError(f"{path}: lists other classes than data.labels={config.labels}; set data.labels={quote(str(path))}")


class TrainingData:
    """The splits of a training, and their content.

    Args:
        config: the settings of the data.
        labels: the classes.
        path: file that `keep` writes, and that a later start reads.

    Raises:
        UserError: as `open_split` and `refuse_other_labels`.
    """

    def __init__(self, config: DataConfig, labels: LabelSet, path: Path):
        refuse_other_labels(config, labels)
        self.path, self.known = path, Findings(path)
        self.sources: Sources = open_sources(config, labels)
        self.val = open_split(config.root, config.val, labels, config.masks)
        self.counts: np.ndarray
        """Pixels of each class in the images that are trained on, int64 [images, classes]."""
        self.sizes: np.ndarray
        """Their width and height, int64 [images, 2]."""

    def read(self, note: Callable[[str], None], quiet: bool = False) -> None:
        """Read every mask and image. Of more than `DECODED` images the headers alone are read, and the processes share the
        reading: all must call this.

        Classes that the validation split lacks are only noted: the training splits must have classes.

        Args:
            note: called with each note for the user.
            quiet: show no progress.

        Raises:
            UserError: the first problem, in each process, or training splits without a class.
        """
        train, val = self.sources.splits, self.val
        unique = {_key(split): split for split in (*train, val)}
        headers = sum(map(len, unique.values())) > DECODED
        found = {}
        for name, split in unique.items():
            with Progress(f"check {split.name}", len(split), quiet=quiet) as progress:
                found[name] = look_through(split, self.known, progress, shared=headers)
            refuse_problems(found[name], split)
            if name in map(_key, train):
                require_classes(split, found[name])
            for text in note_lines(found[name].notes):
                note(f"{split.root}: {split.name}: {text}")
        counts = np.concatenate([found[_key(split)].counts for split in train])
        texts = _notes_of_splits(train, val, counts, found[_key(val)].counts)
        for text in texts + [f"data.val=data.train, {val.name}: {TRAINED_ON}"] * (_key(val) in map(_key, train)):
            note(f"{val.root}: {text}")
        self.counts = counts[:, : len(val.labels)]
        self.sizes = np.concatenate([found[_key(split)].sizes for split in train])

    @property
    def trained_size(self) -> int:
        """Median longest side of the training images, in pixels."""
        return int(np.median(self.sizes.max(1)))

    def keep(self) -> None:
        """Write the cache for the next start."""
        splits = {_key(split): split for split in (*self.sources.splits, self.val)}.values()
        self.known.save(self.path, (key for split in splits for key in _keys(split)))


def look_through(split: Split, known: Findings, progress: Callable[[int], None], *, shared: bool) -> Scan:
    """Read the content of a split.

    Args:
        split: the split.
        known: samples that need not be read again; new samples are added.
        progress: called with the number of samples done, scaled to all processes.
        shared: each process reads a part of the samples, and only the headers of images; the results are exchanged. Otherwise
            each process reads all samples, because it may have its own copy of the data.

    Raises:
        UserError: the processes see different numbers of samples in the split.
    """
    rank, world = (distributed.rank(), distributed.world_size()) if shared else (0, 1)
    pairs = list(zip(split.images, split.masks, strict=True))
    keys = _keys(split)
    names = dict(zip(pairs, keys, strict=True))

    def look(pair: findings.Pair) -> Sample:
        return known.samples.get(names[pair]) or examine(*pair, split.labels, header_only=shared)  # type: ignore[index]

    mine = look_at(pairs[rank::world], look, lambda done: progress(min(done * world, len(pairs))))
    parts = distributed.all_gather((len(pairs), mine)) if shared else [(len(pairs), mine)]
    if len({length for length, _ in parts}) > 1:
        lengths = ", ".join(str(length) for length, _ in parts)
        raise UserError(f"{split.root}: split {split.name} is not the same in all processes: they list {lengths} images")
    samples = [parts[row % world][1][row // world] for row in range(len(pairs))]
    known.samples.update((name, sample) for name, sample in zip(keys, samples, strict=True) if not sample.problems)
    return tabulate(samples)


def _key(split: Split) -> tuple[Path, str, LabelSet]:
    return split.root, split.name, split.labels


def _keys(split: Split) -> list[str]:
    """The key of each sample."""
    labels = findings.digest(split.labels)
    return [findings.key(pair, labels) for pair in zip(split.images, split.masks, strict=True)]


def _notes_of_splits(train: Sequence[Split], val: Split, learned: np.ndarray, scored: np.ndarray) -> list[str]:
    """`split_notes` of the training splits together and the validation split."""
    name = train[0].name if len(train) == 1 else "data.sources"
    samples = [(split.root, item) for split in (*train, val) for item in split.ids]
    rows = {sample: row for row, sample in enumerate(dict.fromkeys(samples))}
    places = np.array([rows[sample] for sample in samples])
    counts = np.zeros((len(rows), 256), np.int64)
    counts[places] = np.concatenate([learned, scored])
    return split_notes({name: places[: len(learned)], val.name: places[len(learned) :]}, counts, val.labels, (name, val.name))
