"""Masks of image files."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .. import distributed, visualize
from ..config import InferenceConfig
from ..data.inventory import same_name
from ..data.range_notes import RangeNotes
from ..data.voc import mask_picture
from ..errors import UserError
from ..files import atomic_write
from ..labels import LabelSet
from ..progress import print_stderr
from ..threads import BackgroundWorker, prefetch
from .inputs import Inputs, find_images
from .predictor import Predictor

MODES = ("overlay", "palette", "side-by-side", "index")
LARGE = 4
"""Times the training crop. In training, objects were at most twice their size; a network does not know larger ones."""


def scale_hint(path: Path, image: np.ndarray, config: InferenceConfig, crop_size: int) -> str | None:
    """Return a hint for an image that is much larger, at all scales, than the training crops; else None."""
    longest = max(image.shape[:2])
    if longest * min(config.scales) <= LARGE * crop_size:
        return None
    return (
        f"{path}: {image.shape[1]}x{image.shape[0]} pixels, {longest / crop_size:.0f} times as long as the training crops: "
        f"the model may miss large objects. Try --scales {max(0.1, crop_size / longest):.2g}, which shows it a smaller image"
    )


def predict_images(
    predictor: Predictor,
    inputs: Inputs | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    mode: str = "overlay",
    on_image: Callable[[int, int], None] | None = None,
    crop_size: int | None = None,
) -> tuple[list[Path], list[str]]:
    """Write a PNG for every image of the inputs. Several processes share the images.

    Args:
        predictor: the model.
        inputs: what `find_inputs` takes, or has found.
        out: folder to write.
        mode: `overlay` (with a legend), `palette` (P-mode mask), `side-by-side` (image and overlay), `index` (gray mask).
        on_image: called with (done, total) after each image.
        crop_size: of the training, in pixels; if given, a hint is printed for the first image that is much larger.

    Returns:
        The files that were written, and a line for each image that could not be read.

    Raises:
        UserError: before the first file is written, if two outputs would have one name or an input would be overwritten.
    """
    pairs = inputs.images if isinstance(inputs, Inputs) else find_images(inputs)
    mine = list(_targets(pairs, Path(out)).items())[distributed.rank() :: distributed.world_size()]
    written, problems, notes = list[Path](), list[str](), RangeNotes()

    def read(item: tuple[Path, Path]) -> np.ndarray | UserError:
        try:
            return notes.read(item[1])
        except UserError as error:
            return error

    def samples() -> Iterator[tuple[tuple[Path, np.ndarray | UserError], np.ndarray | None]]:
        hinted = crop_size is None
        for (target, path), pixels in zip(mine, prefetch(read, mine), strict=True):
            if isinstance(pixels, UserError):
                yield (target, pixels), None
                continue
            hint = scale_hint(path, pixels, predictor.config, crop_size) if crop_size and not hinted else None
            if hint:
                print_stderr(f"seg: {hint}")
                hinted = True
            yield (target, pixels), pixels

    # While the network works, the next images are read and the last pictures written.
    with BackgroundWorker() as worker:
        for done, ((target, pixels), mask) in enumerate(predictor.stream(samples()), 1):
            if mask is None:
                problems.append(str(pixels))
            else:
                worker(save, target, pixels, mask, predictor.labels, mode)
                written.append(target)
            if on_image:
                on_image(done, len(mine))
    for note in notes.lines():
        print_stderr(f"note: {note}")
    return written, problems


def _targets(images: Iterable[tuple[Path, Path]], out: Path) -> dict[Path, Path]:
    """Return {file to write: image}. Raises UserError if two outputs have one name or an input would be overwritten."""
    pairs = [(image, out / place.with_suffix(".png")) for image, place in images]
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


def picture(image: np.ndarray, mask: np.ndarray, labels: LabelSet, mode: str) -> Image.Image:
    """Return the picture that `predict_images` writes of an image uint8 [h, w, 3] and its mask uint8 [h, w]."""
    if mode == "overlay":
        return Image.fromarray(visualize.with_legend(visualize.overlay(image, mask, labels), [mask], labels))
    if mode == "side-by-side":
        return Image.fromarray(visualize.comparison(image, mask, labels))
    return mask_picture(mask, labels if mode == "palette" else None)


def save(path: Path, image: np.ndarray, mask: np.ndarray, labels: LabelSet, mode: str) -> None:
    """Write a picture atomically."""
    with atomic_write(path) as temporary:
        picture(image, mask, labels, mode).save(temporary)
