"""Masks of images in files."""

import glob
import os
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from .. import distributed, visualize
from ..config import InferenceConfig
from ..data.images import IMAGE_SUFFIXES, read_image
from ..data.voc import mask_picture
from ..errors import UserError
from ..files import atomic_write, read_lines
from ..labels import LabelSet
from ..progress import print_stderr
from ..threads import BackgroundWorker, prefetch
from .predictor import masks_in_order, output_stride

MODES = ("overlay", "palette", "side-by-side", "index")
LARGE = 4
"""Times the crop of its training, beyond which a network sees objects larger than it knows: in training they were up to twice
their size."""
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv")


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def find_videos(inputs: list[str]) -> list[str]:
    """The inputs that are no images: `camera:NUMBER`, or a file with the suffix of a video (see predict.video).

    Raises UserError where two would be written under one name.
    """
    found = [
        item
        for item in inputs
        if item.startswith("camera:") or (item.lower().endswith(VIDEO_SUFFIXES) and os.path.isfile(item))
    ]
    for number, item in enumerate(found):
        for other in found[:number]:
            if Path(item).stem == Path(other).stem:
                raise UserError(f"{item} and {other}: would be written under one name; predict them into two folders")
    return found


def find_images(inputs) -> list[tuple[Path, Path]]:
    """(image, its place under the output folder) of every input: an image, a folder (with those below it), a glob pattern,
    or a .txt list of paths, one a line. Raises UserError for an input that gives no image."""
    found: list[tuple[Path, Path]] = []
    for item in map(str, inputs):
        path = Path(item)
        if path.is_dir():
            images = [(p, p.relative_to(path)) for p in sorted(path.rglob("*")) if is_image(p)]
        elif path.suffix == ".txt" and path.is_file():
            images = [listed(path, line) for line in read_lines(path)]
            images = [(p, Path(p.name)) for p in images]
        elif path.is_file():
            if not is_image(path):
                known = " ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
                raise UserError(f"{path}: not an image by its name, nor a video; known are {known}, and .txt for a list")
            images = [(path, Path(path.name))]
        else:
            images = [(Path(p), Path(p).name) for p in sorted(glob.glob(item, recursive=True))]
            images = [(p, Path(name)) for p, name in images if is_image(p)]
        if not images:
            raise UserError(f"{item}: no such image, or no images in it")
        found += images
    return found


def listed(path: Path, line: str) -> Path:
    """The image that a line of the list at `path` names: a path from here or from the list, or the id of a VOC split."""
    for image in (Path(line), path.parent / line, path.parent / "../../JPEGImages" / f"{line}.jpg"):
        if os.path.isfile(image):  # also where the line is no path at all
            return image
    raise UserError(f"{path}: lists {line}, which is neither an image file nor an id of a VOC data set")


def hint_of_scale(path: Path, image: np.ndarray, policy: InferenceConfig, crop: int) -> str | None:
    """A line for an image that is much larger, at all scales of the policy, than the crops of the training."""
    longest = max(image.shape[:2])
    if longest * min(policy.scales) <= LARGE * crop:
        return None
    return (
        f"{path}: {image.shape[1]}x{image.shape[0]} pixels, {longest / crop:.0f} times as long as the crops of the training: "
        f"what is large there may not be found. Try --scales {max(0.1, crop / longest):.2g}, which looks at it from further off"
    )


def predict_images(
    model: nn.Module, labels: LabelSet, policy: InferenceConfig, inputs, out, mode="overlay", on_image=None, crop=None
) -> tuple[list[Path], list[str]]:
    """Write a PNG under `out` for every image of `inputs` (see `find_images`): the files written, and a line for each image
    that could not be read. `on_image(done, total)` is called after each. Several processes deal the images out among them.

    mode: `overlay` (with a legend), `palette` (P-mode mask), `side-by-side` (image and overlay), `index` (gray mask).
    crop: of the training; given, the first image that is far larger is told (see `hint_of_scale`).
    Raises UserError, before the first is written, where two images would have one name or an image would be overwritten.
    """
    pairs = [(image, Path(out) / place.with_suffix(".png")) for image, place in find_images(inputs)]
    sources = {image.resolve() for image, _ in pairs}
    targets: dict[Path, Path] = {}
    for image, target in pairs:
        if target.resolve() in sources:
            raise UserError(f"{target}: would overwrite an input image; choose another --out folder")
        if targets.setdefault(target, image).resolve() != image.resolve():
            raise UserError(f"{target}: would be written for {targets[target]} and for {image}; predict them into two folders")
    written, problems = [], []
    mine = list(targets.items())[distributed.rank() :: distributed.world_size()]

    def read(item) -> np.ndarray | UserError:
        try:
            return read_image(item[1])
        except UserError as error:
            return error

    def samples():
        told = False
        for (target, path), pixels in zip(mine, prefetch(read, mine), strict=True):
            sound = isinstance(pixels, np.ndarray)
            hint = hint_of_scale(path, pixels, policy, crop) if sound and crop and not told else None
            if hint:
                print_stderr(f"seg: {hint}")
                told = True
            yield (target, pixels), pixels if sound else None

    # The next images are read and the last pictures written while the network works.
    with output_stride(model, policy.output_stride), BackgroundWorker() as behind:
        for done, ((target, pixels), mask) in enumerate(masks_in_order(model, samples(), policy), 1):
            if mask is None:
                problems.append(str(pixels))
            else:
                behind(save, target, pixels, mask, labels, mode)
                written.append(target)
            if on_image:
                on_image(done, len(mine))
    return written, problems


def picture(image: np.ndarray, mask: np.ndarray, labels: LabelSet, mode: str) -> Image.Image:
    """What is written of an RGB image uint8 [h, w, 3] and its mask uint8 [h, w]; see `predict_images` for the modes."""
    if mode == "overlay":
        return Image.fromarray(visualize.with_legend(visualize.overlay(image, mask, labels), [mask], labels))
    if mode == "side-by-side":
        return Image.fromarray(visualize.comparison(image, mask, labels))
    return mask_picture(mask, labels if mode == "palette" else None)


def save(path: Path, image: np.ndarray, mask: np.ndarray, labels: LabelSet, mode: str) -> None:
    with atomic_write(path) as temporary:
        picture(image, mask, labels, mode).save(temporary)
