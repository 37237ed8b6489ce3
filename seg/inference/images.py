"""Masks of image files."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .. import distributed, visualize
from ..config import InferenceConfig
from ..data.images import read_image
from ..data.inventory import IMAGE_SUFFIXES, is_image
from ..data.voc import mask_picture
from ..errors import UserError
from ..files import atomic_write, read_lines
from ..labels import LabelSet
from ..progress import print_stderr
from ..threads import BackgroundWorker, prefetch
from .predictor import Predictor

MODES = ("overlay", "palette", "side-by-side", "index")
LARGE = 4
"""Times the training crop. In training, objects were at most twice their size; a network does not know larger ones."""
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv")


def find_videos(inputs: list[str]) -> list[str]:
    """Return the inputs that are videos: files with the suffix of a video, and cameras, `camera:NUMBER`.

    Raises:
        UserError: two outputs would have one name.
    """
    found = [
        item
        for item in inputs
        if item.startswith("camera:") or (item.lower().endswith(VIDEO_SUFFIXES) and os.path.isfile(item))
    ]
    for number, item in enumerate(found):
        for other in found[:number]:
            if Path(item).stem == Path(other).stem:
                raise UserError(f"{item} and {other}: their outputs would have one name; predict them into two folders")
    return found


def find_images(inputs: Iterable[str | os.PathLike[str]]) -> list[tuple[Path, Path]]:
    """Return each image of the inputs with its path below the output folder.

    Args:
        inputs: images, folders (searched recursively), glob patterns, and .txt lists of paths, one a line.

    Raises:
        UserError: an input gives no image.
    """
    found: list[tuple[Path, Path]] = []
    for item in map(str, inputs):
        path = Path(item)
        if path.is_dir():
            images = [(p, p.relative_to(path)) for p in sorted(path.rglob("*")) if is_image(p)]
        elif path.suffix == ".txt" and path.is_file():
            listed = [_listed(path, line) for line in read_lines(path)]
            images = [(p, Path(p.name)) for p in listed]
        elif path.is_file():
            if not is_image(path):
                known = " ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
                raise UserError(f"{path}: its suffix is not that of an image or video; known are {known}, and .txt for a list")
            images = [(path, Path(path.name))]
        else:
            matches = [Path(match) for match in sorted(glob.glob(item, recursive=True))]
            images = [(p, Path(p.name)) for p in matches if is_image(p)]
        if not images:
            raise UserError(f"{item}: no such image, or no images in it")
        found += images
    return found


def _listed(path: Path, line: str) -> Path:
    """Return the image that a line of the list at `path` names: a path from here or from the list, or an id of a VOC split."""
    for image in (Path(line), path.parent / line, path.parent / "../../JPEGImages" / f"{line}.jpg"):
        if os.path.isfile(image):  # False too for a line that is no valid path
            return image
    raise UserError(f"{path}: lists {line}, which is neither an image file nor an id of a VOC data set")


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
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    mode: str = "overlay",
    on_image: Callable[[int, int], None] | None = None,
    crop_size: int | None = None,
) -> tuple[list[Path], list[str]]:
    """Write a PNG for every image of the inputs. Several processes share the images.

    Args:
        predictor: the model.
        inputs: see `find_images`.
        out: folder to write.
        mode: `overlay` (with a legend), `palette` (P-mode mask), `side-by-side` (image and overlay), `index` (gray mask).
        on_image: called with (done, total) after each image.
        crop_size: of the training, in pixels; if given, a hint is printed for the first image that is much larger.

    Returns:
        The files that were written, and a line for each image that could not be read.

    Raises:
        UserError: before the first file is written, if two outputs would have one name or an input would be overwritten.
    """
    mine = list(_targets(inputs, Path(out)).items())[distributed.rank() :: distributed.world_size()]
    written: list[Path] = []
    problems: list[str] = []

    def read(item: tuple[Path, Path]) -> np.ndarray | UserError:
        try:
            return read_image(item[1])
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
    return written, problems


def _targets(inputs: Iterable[str | os.PathLike[str]], out: Path) -> dict[Path, Path]:
    """Return {file to write: image}. Raises UserError if two outputs have one name or an input would be overwritten."""
    pairs = [(image, out / place.with_suffix(".png")) for image, place in find_images(inputs)]
    sources = {image.resolve() for image, _ in pairs}
    targets: dict[Path, Path] = {}
    for image, target in pairs:
        if target.resolve() in sources:
            raise UserError(f"{target}: would overwrite an input image; choose another --out folder")
        if targets.setdefault(target, image).resolve() != image.resolve():
            raise UserError(f"{target}: would be written for {targets[target]} and for {image}; predict them into two folders")
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
