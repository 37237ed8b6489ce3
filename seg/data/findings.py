"""Caches the result of reading the files of a data set beside a run: at the next start, the same files are not read again."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ..files import atomic_write
from ..labels import LabelSet
from .scan import Sample

Pair = tuple[Path | None, Path | None]
"""An image and its mask."""


class Findings:
    """Samples without problems, by name, size and time of their files.

    Args:
        path: a file written by `save`; None or missing: nothing is known.
    """

    def __init__(self, path: Path | None = None):
        self.samples: dict[str, Sample] = {}
        """By `key`."""
        if path is not None and path.is_file():
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                keys, notes = (json.loads(stored[name].tobytes()) for name in ("keys", "notes"))
                arrays = [stored[name] for name in ("counts", "sizes", "flags")]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return  # damaged, or of another version: the files are read again
        if {len(array) for array in arrays} == {len(keys)} == {len(notes)}:
            for key, counts, size, flags, note in zip(keys, *arrays, notes, strict=True):
                self.samples[key] = Sample([], counts, (int(size[0]), int(size[1])), bool(flags[0]), bool(flags[1]), note)

    def save(self, path: Path, keys: Iterable[str]) -> None:
        """Write the samples of these keys. Other samples are dropped."""
        known = [(key, self.samples[key]) for key in dict.fromkeys(keys) if key in self.samples]
        counts = np.array([sample.counts for _, sample in known], np.int32).reshape(-1, 256)
        text = {
            "keys": json.dumps([key for key, _ in known]),
            "notes": json.dumps([sample.notes for _, sample in known]),
        }
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(
                file,
                counts=counts,
                sizes=np.array([sample.size for _, sample in known], np.int32).reshape(-1, 2),
                flags=np.array([(sample.colored, sample.binary) for _, sample in known], bool).reshape(-1, 2),
                **{name: np.frombuffer(value.encode(), np.uint8) for name, value in text.items()},  # type: ignore[arg-type]
            )


def digest(labels: LabelSet) -> str:
    """Hash of the label set's rules to read masks."""
    return hashlib.sha256(json.dumps(labels.as_dict(), sort_keys=True).encode()).hexdigest()[:16]


def key(pair: Pair, labels: str) -> str:
    """Key of a sample: paths, sizes in bytes and times of its files, and the `digest` of the label set."""
    parts = [labels]
    for path in pair:
        if path is not None:
            try:
                about = path.stat()
            except OSError:
                continue  # reading it says what is wrong
            parts += [str(path.absolute()), str(about.st_size), str(about.st_mtime_ns)]
    return "\n".join(parts)
