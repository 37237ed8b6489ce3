"""Masks of image files."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from .. import distributed
from ..data.inventory import same_name
from ..data.range_notes import RangeNotes
from ..errors import UserError
from ..progress import print_stderr
from ..threads import BackgroundWorker, prefetch
from .annotations import Outlines
from .confidence import Confidence
from .inputs import Inputs, find_images
from .outputs import Writer
from .predictor import Predictor

Sample: TypeAlias = tuple[Path, Path, np.ndarray | UserError]
"""File to write, image, and its pixels, or why it cannot be read."""


def how_it_is_seen(path: Path, image: np.ndarray, predictor: Predictor) -> str | None:
    """Return a line if an image [h, w, 3] is reduced for the network; else None."""
    height, width = predictor.looking_size(image)
    if (height, width) == image.shape[:2]:
        return None
    why = "the size of its training images; --longest native uses every pixel"
    why = why if predictor.config.longest == "auto" else "set by --longest"
    return f"{path}: {image.shape[1]}x{image.shape[0]} pixels; reduced to {width}x{height} for the network, {why}"


def predict_images(
    predictor: Predictor,
    inputs: Inputs | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    mode: str = "overlay",
    on_image: Callable[[int, int], None] | None = None,
    outlines: Outlines | None = None,
) -> tuple[list[Path], list[str]]:
    """Write a PNG or annotation for every image of the inputs. Several processes share the images; all must call this.

    Args:
        predictor: the model.
        inputs: arguments or result of `find_inputs`.
        out: folder to write.
        mode: see `Writer`.
        on_image: called with (done, total) after each image.
        outlines: of polygons; None: the defaults.

    Returns:
        The files that were written, and a line for each image that could not be read.

    Raises:
        UserError: two outputs would have the same name, or an input would be overwritten. Nothing is written then.
    """
    pairs = inputs.images if isinstance(inputs, Inputs) else find_images(inputs)
    write = Writer(Path(out), mode, predictor.labels, outlines or Outlines())
    mine = list(_targets(pairs, write).items())[distributed.rank() :: distributed.world_size()]
    written, problems, notes = list[Path](), list[str](), RangeNotes()
    samples = _read(mine, notes, predictor)
    predicted: Iterable[tuple[Sample, np.ndarray | Confidence | None]]
    if mode == "confidence":
        predicted = ((sample, None if image is None else predictor.confidence(image)) for sample, image in samples)
    else:
        predicted = predictor.stream(samples)
    # While the network runs, the next images are read and the last pictures written.
    with BackgroundWorker() as worker:
        for done, ((target, path, pixels), found) in enumerate(predicted, 1):
            if found is None:
                problems.append(str(pixels))
            else:
                worker(write, target, path, pixels, found)
                written.append(target)
            if on_image:
                on_image(done, len(mine))
    for note in notes.lines():
        print_stderr(f"note: {note}")
    return write.finish(written), problems


def _read(
    items: Sequence[tuple[Path, Path]], notes: RangeNotes, predictor: Predictor
) -> Iterator[tuple[Sample, np.ndarray | None]]:
    """Yield each image with its paths, or None if it cannot be read. A line is printed for the first reduced image."""

    def read(item: tuple[Path, Path]) -> np.ndarray | UserError:
        try:
            return notes.read(item[1])
        except UserError as error:
            return error

    said = False
    for (target, path), pixels in zip(items, prefetch(read, items), strict=True):
        if isinstance(pixels, UserError):
            yield (target, path, pixels), None
            continue
        line = None if said else how_it_is_seen(path, pixels, predictor)
        if line:
            print_stderr(f"note: {line}")
            said = True
        yield (target, path, pixels), pixels


def _targets(images: Iterable[tuple[Path, Path]], write: Writer) -> dict[Path, Path]:
    """Return {file to write: image}. Raises UserError if two outputs have the same name or an input would be overwritten."""
    pairs = [(image, write.folder / place.with_suffix(write.suffix)) for image, place in images]
    sources = {image.resolve() for image, _ in pairs}
    targets: dict[Path, Path] = {}
    for image, target in pairs:
        if target.resolve() in sources:
            raise UserError(f"{target}: would overwrite an input image; choose another --out folder")
        other = targets.setdefault(target, image)
        if other.resolve() != image.resolve():
            if other.with_suffix("") == image.with_suffix(""):
                raise UserError(same_name(other, [image.name]))
            raise UserError(f"{target}: would be written for {other} and for {image}; predict them into two folders")
    return targets
