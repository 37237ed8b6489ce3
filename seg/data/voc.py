"""Images and masks in PASCAL VOC layout.

ROOT/JPEGImages/ID.jpg   ROOT/SegmentationClassAug/ID.png (or SegmentationClass)   ROOT/ImageSets/Segmentation/SPLIT.txt
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import UserError, did_you_mean
from ..files import atomic_write, read_lines
from ..labels import LabelSet
from .images import IMAGE_SUFFIXES, read_image, read_mask

LISTS = "ImageSets/Segmentation"
IMAGES = "JPEGImages"
MASKS = ("SegmentationClassAug", "SegmentationClass")
"""Folders of masks, the first that is there."""


class Files(Sequence):
    """Paths of files in one folder, as one array of their names. Of ten thousand paths each loader process would come to hold a
    copy: even looking at an object writes, to its count of references."""

    def __init__(self, folder: Path, names):
        self.folder, self.names = folder, np.array([os.fsencode(name) for name in names])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Files(self.folder, self.names[index])
        return self.folder / os.fsdecode(self.names[index])


@dataclass(frozen=True)
class Split:
    """The samples of a split, in the order of its list."""

    root: Path
    name: str
    ids: tuple[str, ...]
    images: Sequence[Path]
    masks: Sequence[Path]
    """Empty where opened by `open_images`."""
    labels: LabelSet

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3], RGB."""
        return read_image(self.images[index])

    def mask(self, index: int) -> np.ndarray:
        """uint8 [H, W], class index or 255."""
        return read_mask(self.masks[index], self.labels)

    def sample(self, index: int, read=read_image) -> tuple[np.ndarray, np.ndarray]:
        """Image, as `read` gives it, and mask. Raises UserError where they differ in size."""
        image, mask = read(self.images[index]), self.mask(index)
        match(image, mask, self.images[index], self.masks[index])
        return image, mask


def match(image: np.ndarray, mask: np.ndarray, image_path: Path, mask_path: Path) -> None:
    """Raises UserError where an image and its mask differ in size."""
    if image.shape[:2] != mask.shape:
        raise UserError(
            f"{mask_path}: {mask.shape[1]}x{mask.shape[0]} pixels, but its image is {image.shape[1]}x{image.shape[0]} "
            f"({image_path}); a mask has the size of its image"
        )


def open_images(root, name: str, labels: LabelSet) -> Split:
    """The split `name` under `root` without its masks, of which a test split has none.

    Raises UserError where an image is missing, and for an id listed twice: it would weigh and be scored twice.
    """
    path = list_file(root, name)
    folder = Path(root) / IMAGES
    found = files_of(folder, IMAGE_SUFFIXES)
    ids, wrong = read_ids(path, found)
    if wrong:
        raise UserError(f"{path}: {wrong[0]}")
    return Split(Path(root), name, ids, _each("image", folder, found, ids, path), (), labels)


def open_split(root, name: str, labels: LabelSet, masks: str | None = None) -> Split:
    """The split `name` under `root`. Every image and mask file is there, or UserError says which is not; see `open_images`."""
    split = open_images(root, name, labels)
    folder = mask_folder(root, masks)
    return replace(split, masks=_each("mask", folder, files_of(folder, (".png",)), split.ids, list_file(root, name)))


def _each(what: str, folder: Path, found: dict[str, Path], ids: tuple[str, ...], path: Path) -> Files:
    """The file of each id that the list at `path` holds."""
    absent = [item for item in ids if item not in found]
    if absent:
        more = f" and {len(absent) - 1} more of {len(ids)}" if len(absent) > 1 else ""
        raise UserError(f"{expected(what, folder, absent[0])}: {missing(what, path, more)}")
    return Files(folder, [found[item].name for item in ids])


def data_folder(root) -> Path:
    """`root`, which is there, or UserError says so."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such data folder; set data.root to a folder in VOC layout, or see data/README.md")
    return root


def list_file(root, name: str) -> Path:
    """The list of the split `name`, which is there, or UserError says what is missing."""
    path = data_folder(root) / LISTS / f"{name}.txt"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.txt"))
        hint = (
            did_you_mean(name, known)
            if known
            else "; the folder is not in VOC layout (JPEGImages, SegmentationClass, ImageSets)"
        )
        raise UserError(f"{path}: no such split{hint}")
    return path


def mask_folder(root, masks: str | None) -> Path:
    """The folder `masks` under `root`, or the first of `MASKS` that is there. Raises UserError where there is none."""
    root = Path(root)
    for name in [masks] if masks else MASKS:
        if (root / name).is_dir():
            return root / name
    raise UserError(f"{root}: no folder {masks or ' or '.join(MASKS)} with the masks; set data.masks")


def files_of(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files with one of these suffixes, by id. Raises UserError where the folder is not there."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; VOC layout keeps the images there")
    # One listing, not a question a file: a split has ten thousand of them, perhaps on a network disk.
    return {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in suffixes}


def read_ids(path: Path, files: dict[str, Path]) -> tuple[tuple[str, ...], list[str]]:
    """The ids that the list at `path` means, each once, and what is wrong with it.

    A line that is none of `files` but names one otherwise is told: a file name, a path, a pair of paths, or an id with a flag,
    as the lists of ImageSets/Main have. Raises UserError for a list that is empty or no text.
    """
    lines = read_lines(path)
    if not lines:
        raise UserError(f"{path}: the split is empty; it must list an image id a line")
    wrong = []
    repeated = [item for item, count in Counter(lines).items() if count > 1]
    if repeated:
        more = f" and {len(repeated) - 1} more ids" if len(repeated) > 1 else ""
        wrong.append(f"lists {repeated[0]}{more} more than once, and each would count so often; list an id once")
    meant = {line: _meant(line, files) for line in lines}
    odd = [line for line, item in meant.items() if line != item]
    if odd:
        more = f" and {len(odd) - 1} more lines" if len(odd) > 1 else ""
        wrong.append(f"'{odd[0]}'{more} should be '{meant[odd[0]]}': list an image id a line, without folder, suffix or flag")
    return tuple(dict.fromkeys(meant.values())), wrong


def _meant(line: str, files: dict[str, Path]) -> str:
    """The id that a line of a list means; where no file has it, the line."""
    for part in (line, line.split()[0]):
        name = re.split(r"[/\\]", part)[-1]
        stem, suffix = os.path.splitext(name)
        if name in files:
            return name
        if suffix.lower() in IMAGE_SUFFIXES and stem in files:
            return stem
    return line


def expected(what: str, folder: Path, item: str) -> Path:
    """Where the image or mask of an id would be."""
    return folder / f"{item}{'.jpg' if what == 'image' else '.png'}"


def missing(what: str, path: Path, more: str = "") -> str:
    return f"no {what} for this id of {path}{more}; add it, or take it off the list"


def mask_picture(mask: np.ndarray, labels: LabelSet | None) -> Image.Image:
    """uint8 [H, W] as a palette picture in the label set's colors, or with no label set as a gray one; values unchanged."""
    image = Image.fromarray(mask)
    if labels is not None:
        image.putpalette(labels.palette.tobytes())
    return image


def save_mask(path, mask: np.ndarray, labels: LabelSet | None, **texts: str) -> None:
    """Write the `mask_picture` as PNG, which keeps the `texts` under their names."""
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    with atomic_write(path) as temporary:
        mask_picture(mask, labels).save(temporary, pnginfo=info)
