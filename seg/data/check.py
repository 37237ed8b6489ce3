"""Reading a whole split once: what is wrong with it, and how many pixels each class has."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .voc import Split


@dataclass
class Scan:
    problems: list[str]
    """A line each, in the order of the list."""
    counts: np.ndarray
    """int64 [images, 256]: pixels of each mask value in each image; a damaged one counts nothing."""


def scan(split: Split, progress=None) -> Scan:
    """Decode every image and mask of the split. `progress(done)` is called after each."""

    def read(index: int):
        try:
            return np.bincount(split.sample(index)[1].ravel(), minlength=256)
        except UserError as error:
            return str(error)

    problems, counts = [], np.zeros((len(split), 256), np.int64)
    # Decoding releases the interpreter's lock, so threads do.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for index, result in enumerate(pool.map(read, range(len(split)))):
            if isinstance(result, str):
                problems.append(result)
            else:
                counts[index] = result
            if progress:
                progress(index + 1)
    return Scan(problems, counts)


def require_sound(split: Split, progress=None) -> np.ndarray:
    """The pixel counts of a sound split, int64 [images, classes]; else UserError with its first problem."""
    found = scan(split, progress)
    if found.problems:
        more = len(found.problems) - 1
        raise UserError(found.problems[0] + (f" (and {more} more: seg data check {split.root} lists them)" if more else ""))
    counts = found.counts[:, : len(split.labels)]
    if not counts.any():
        raise UserError(f"{split.root}: every mask of split {split.name} is void; there is nothing to learn or score")
    return counts
