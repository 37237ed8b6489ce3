"""Decode samples once, in threads, and count their classes."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError, single_line
from ..labels import VOID, LabelSet
from ..threads import cores, prefetch
from .images import COLOR, decode, read_header, rgb
from .masks import MASK_FORMATS, to_labels
from .range_notes import range_notes
from .voc import different_size, save_mask

SOLID = 5
"""Distance in pixels from a region's border to its inside: void borders (5 pixels in VOC) have no inside; objects do."""


@dataclass(frozen=True)
class Problem:
    """A problem of a file, or a note about it."""

    file: str
    problem: str

    def __str__(self) -> str:
        return single_line(f"{self.file}: {self.problem}")


@dataclass
class Sample:
    """Content of an image and its mask."""

    problems: list[Problem] = field(default_factory=list)
    counts: np.ndarray | int = 0
    """int64 [256]: pixels of each class index; 0 if there is a problem."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the image, or of the mask if no image is read; in pixels."""
    colored: bool = False
    """The mask is RGB in the label set's colors."""
    binary: bool = False
    """The mask holds only 0 and 255, and 255 covers whole regions, not borders."""
    notes: list[str] = field(default_factory=list)
    """Notes about reading the image."""


@dataclass
class Scan:
    """Content of samples, one row per sample."""

    problems: list[Problem]
    """In the order of the samples."""
    valid: np.ndarray
    """bool [samples]: there is no problem."""
    counts: np.ndarray
    """int64 [samples, 256]: pixels of each class index; 0 if there is a problem."""
    sizes: np.ndarray
    """int64 [samples, 2]: width and height; 0 if nothing can be read."""
    colored: np.ndarray
    """bool [samples]: the mask is RGB in the label set's colors."""
    binary: np.ndarray
    """bool [samples]: see `Sample.binary`."""
    notes: Counter[str]
    """How images are read, with the number of images."""


def scan(
    pairs: Sequence[tuple[Path | None, Path | None]],
    labels: LabelSet,
    convert: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Scan:
    """Decode every (image, mask) of `pairs`; see `check`. `progress` is called with the samples done after each sample."""
    return tabulate(look_at(pairs, lambda pair: examine(*pair, labels, convert), progress))


def look_at(
    pairs: Sequence[tuple[Path | None, Path | None]],
    look: Callable[[tuple[Path | None, Path | None]], Sample],
    progress: Callable[[int], None] | None = None,
) -> list[Sample]:
    """Yield the result of `look` for each pair, in order. Decoding releases the interpreter's lock, so threads are enough."""
    samples = []
    for sample in prefetch(look, pairs, cores()):
        samples.append(sample)
        if progress:
            progress(len(samples))
    return samples


def tabulate(samples: Sequence[Sample]) -> Scan:
    """The samples as arrays."""
    count = len(samples)
    valid, colored, binary = (np.zeros(count, bool) for _ in range(3))
    found = Scan([], valid, np.zeros((count, 256), np.int64), np.zeros((count, 2), np.int64), colored, binary, Counter())
    for row, sample in enumerate(samples):
        found.problems += sample.problems
        found.valid[row], found.binary[row] = not sample.problems, sample.binary
        found.counts[row], found.sizes[row], found.colored[row] = sample.counts, sample.size, sample.colored
        found.notes.update(sample.notes)
    return found


def examine(
    image: Path | None, mask: Path | None, labels: LabelSet, convert: bool = False, header_only: bool = False
) -> Sample:
    """Decode an image and its mask, or one of them; with `header_only`, only the image's header is read."""
    found, indices = Sample(), None
    if image:
        try:
            header = read_header(image)
            found.size = (header.width, header.height)
            if not header_only:
                decoded = decode(image)
                rgb(decoded)
                found.notes = range_notes(decoded, header)
        except UserError as error:
            found.problems.append(as_problem(image, error))
    if mask:
        try:
            picture = decode(mask, MASK_FORMATS)
            indices = to_labels(picture, labels, mask)
            if image and not found.problems and indices.shape != found.size[::-1]:
                raise UserError(different_size(indices.shape[::-1], found.size, mask, image))
        except UserError as error:
            found.problems.append(as_problem(mask, error))
        else:
            found.colored = picture.mode in COLOR
            if image is None:
                found.size = (picture.width, picture.height)
            if found.colored and convert:
                save_mask(mask, indices, labels)
    if indices is not None and not found.problems:
        # Five times as fast as bincount, which would take eight bytes a pixel.
        found.counts = np.array(Image.fromarray(indices).histogram(), np.int64)
        found.binary = _is_binary(indices, found.counts)
    return found


def _is_binary(mask: np.ndarray, counts: np.ndarray) -> bool:
    if not counts[0] or not counts[VOID] or counts[0] + counts[VOID] < mask.size:
        return False
    import cv2

    inside = cv2.erode(mask, np.ones((2 * SOLID + 1,) * 2, np.uint8), borderType=cv2.BORDER_REPLICATE)
    return bool(inside.any())


def as_problem(file: Path, error: UserError) -> Problem:
    """The problem that a reader of the file raised."""
    return Problem(str(file), str(error).removeprefix(f"{file}: "))
