"""Images and masks in PASCAL VOC layout.

ROOT/JPEGImages/ID.jpg   ROOT/SegmentationClassAug/ID.png (or SegmentationClass)   ROOT/ImageSets/Segmentation/SPLIT.txt
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..config import LISTS as LISTS
from ..errors import UserError, did_you_mean
from ..files import atomic_write, expand, read_lines
from ..labels import LabelSet
from .images import read_header, read_image
from .inventory import IMAGE_SUFFIXES, MASK_SUFFIXES, FileIndex
from .masks import read_mask

IMAGES = "JPEGImages"
MASKS = ("SegmentationClassAug", "SegmentationClass")
"""Folders of masks; the first that exists is read."""


class Files(Sequence[Path]):
    """Paths of files in one folder, stored as one array of names.

    A list of ten thousand paths would be copied into every loader process: reading an object changes its reference count.
    """

    def __init__(self, folder: Path, names: Iterable[str]):
        self.folder, self.names = folder, np.array([os.fsencode(name) for name in names])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Files(self.folder, map(os.fsdecode, self.names[index]))
        return self.folder / os.fsdecode(self.names[index])


@dataclass(frozen=True)
class Split:
    """The samples of a split, in the order of its list."""

    root: Path
    name: str
    ids: tuple[str, ...]
    images: Sequence[Path]
    masks: Sequence[Path]
    """Empty if opened by `open_images`."""
    labels: LabelSet

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3], RGB."""
        return read_image(self.images[index])

    def mask(self, index: int) -> np.ndarray:
        """uint8 [H, W], class index or 255."""
        return read_mask(self.masks[index], self.labels)

    def sample(self, index: int, read: Callable[[Path], np.ndarray] = read_image) -> tuple[np.ndarray, np.ndarray]:
        """Image, as `read` gives it, and mask. Raises UserError if their sizes differ."""
        image, mask = read(self.images[index]), self.mask(index)
        check_same_size(image, mask, self.images[index], self.masks[index])
        return image, mask


def check_same_size(image: np.ndarray, mask: np.ndarray, image_path: Path, mask_path: Path) -> None:
    """Raise UserError if an image [H, W, ...] and its mask [H, W] differ in size."""
    if image.shape[:2] != mask.shape:
        raise UserError(different_size(mask.shape[::-1], image.shape[1::-1], mask_path, image_path))


def different_size(
    mask: tuple[int, ...],
    image: tuple[int, ...],
    mask_path: Path,
    image_path: Path,
    *,
    folder: str = "FOLDER",
    count: str = "",
) -> str:
    """Message about a mask of another size than its image; sizes are width and height in pixels.

    `folder`, quoted for the command in the message, has the user's own images and masks; `count` says how many masks differ.
    """
    start = f"{mask_path}: {mask[0]}x{mask[1]} pixels, but its image is {image[0]}x{image[1]} ({image_path}){count}"
    turned = mask[::-1] == image and read_header(image_path).orientation >= 5
    if turned:
        return (
            f"{start}, turned by its EXIF orientation; the mask was drawn on the image as stored. seg data init "
            f"{folder} --ignore-exif takes the images as stored; or turn the mask"
        )
    return f"{start}; a mask has the size of its image. seg data init {folder} --resize-masks nearest resizes masks"


def open_images(root: str | Path, name: str, labels: LabelSet) -> Split:
    """Open a split without its masks, as of a test set.

    Args:
        root: folder in VOC layout.
        name: of the list in ImageSets/Segmentation.
        labels: the label set of the data.

    Raises:
        UserError: an image is missing, an id is listed twice (it would count twice), or two files have the name of an id.
    """
    root = data_folder(root)
    path = list_file(root, name)
    found = files_of(Path(root) / IMAGES, IMAGE_SUFFIXES)
    ids, wrong = read_ids(path, found)
    if wrong:
        raise UserError(f"{path}: {wrong[0]}")
    return Split(Path(root), name, ids, _files("image", found, ids, path), (), labels)


def open_split(root: str | Path, name: str, labels: LabelSet, masks: str | None = None) -> Split:
    """Open a split: `open_images`, and the masks in the folder `masks` under `root` (default: the first of `MASKS`).

    Raises:
        UserError: as `open_images`, or a mask is missing.
    """
    split = open_images(root, name, labels)
    found = files_of(mask_folder(split.root, masks), MASK_SUFFIXES)
    return replace(split, masks=_files("mask", found, split.ids, list_file(split.root, name)))


def _files(what: str, found: FileIndex, ids: tuple[str, ...], path: Path) -> Files:
    """The file of each id in the list at `path`."""
    absent = [item for item in ids if item not in found]
    if absent:
        more = f" and {len(absent) - 1} more of {len(ids)}" if len(absent) > 1 else ""
        raise UserError(f"{expected_file(what, found.folder, absent[0])}: {no_file(what, path, more)}")
    if found.doubles:
        for item in ids:
            if item in found.doubles:
                raise UserError(found.ambiguous(item))
    return Files(found.folder, (found.names[item] for item in ids))


def data_folder(root: str | Path) -> Path:
    """`root` as a path. Raises UserError if it does not exist."""
    root = expand(root)
    if not root.is_dir():
        sources = "seg data download voc2012 gets PASCAL VOC, and seg data init FOLDER reads your own images"
        raise UserError(f"{root}: no such data folder; set data.root to a folder in VOC layout: {sources}")
    return root


def list_file(root: str | Path, name: str) -> Path:
    """The list of the split `name`. Raises UserError if it does not exist."""
    path = data_folder(root) / LISTS / f"{name}.txt"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.txt"))
        layout = "; the folder is not in VOC layout (JPEGImages, SegmentationClass, ImageSets): seg data init makes one that is"
        raise UserError(f"{path}: no such split{did_you_mean(name, known) if known else layout}")
    return path


def mask_folder(root: str | Path, masks: str | None) -> Path:
    """The folder `masks` under `root`; default: the first of `MASKS` that exists. Raises UserError if there is none."""
    for name in [masks] if masks else MASKS:
        if (Path(root) / name).is_dir():
            return Path(root) / name
    raise UserError(f"{root}: no folder {masks or ' or '.join(MASKS)} with the masks; set data.masks")


def files_of(folder: Path, suffixes: tuple[str, ...]) -> FileIndex:
    """The files under a folder that have one of these suffixes, by id. Raises UserError if the folder does not exist."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; VOC layout keeps the images there")
    return FileIndex(folder, suffixes)


def read_ids(path: Path, files: Mapping[str, Path]) -> tuple[tuple[str, ...], list[str]]:
    """Read a list of ids, one per line. Lines that start with # are comments.

    A line that names an id in another way is an error with the right id: a file name, a path, a pair of paths, or an id with a
    flag, as in the lists of ImageSets/Main.

    Args:
        path: the list.
        files: the files by id.

    Returns:
        The ids, each once, and the problems of the list.

    Raises:
        UserError: the list is empty or not text.
    """
    lines = [line for line in read_lines(path) if not line.startswith("#") or line in files]
    if not lines:
        raise UserError(f"{path}: the list is empty; write one image id per line")
    wrong = []
    repeated = [item for item, count in Counter(lines).items() if count > 1]
    if repeated:
        more = f" and {len(repeated) - 1} more ids" if len(repeated) > 1 else ""
        wrong.append(f"lists {repeated[0]}{more} more than once, and each line would count; list an id once")
    meant = {line: meant_id(line, files) for line in lines}
    odd = [line for line, item in meant.items() if line != item]
    if odd:
        more = f" and {len(odd) - 1} more lines" if len(odd) > 1 else ""
        wrong.append(
            f"'{odd[0]}'{more} should be '{meant[odd[0]]}': list one image id per line, without folder, suffix or flag"
        )
    return tuple(dict.fromkeys(meant.values())), wrong


def meant_id(line: str, files: Mapping[str, Path]) -> str:
    """The id named by a line of a list; the line itself if no file has it."""
    if line in files:
        return line
    for part in (line, line.split()[0]):
        name = part.strip('"').replace("\\", "/")
        while name:
            stem, suffix = os.path.splitext(name)
            if name in files:
                return name
            if suffix.lower() in IMAGE_SUFFIXES and stem in files:
                return stem
            name = name.partition("/")[2]  # without the first folder
    return line


def expected_file(what: str, folder: Path, item: str) -> Path:
    """Expected path of the image or mask of an id."""
    return folder / f"{item}{'.jpg' if what == 'image' else '.png'}"


def no_file(what: str, path: Path, more: str = "") -> str:
    """Message about an id without image or mask."""
    return f"no {what} for this id of {path}{more}; add it, or remove it from the list"


def mask_picture(mask: np.ndarray, labels: LabelSet | None) -> Image.Image:
    """A mask, uint8 [H, W], as a palette image in the label set's colors; without a label set, as a gray image."""
    image = Image.fromarray(mask)
    if labels is not None:
        image.putpalette(labels.palette.tobytes())
    return image


def save_mask(path: str | Path, mask: np.ndarray, labels: LabelSet | None, **texts: str) -> None:
    """Write `mask_picture` as PNG, with the `texts` under their names."""
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    with atomic_write(path) as temporary:
        mask_picture(mask, labels).save(temporary, pnginfo=info)
