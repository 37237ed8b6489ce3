"""Images and masks in PASCAL VOC layout.

ROOT/JPEGImages/ID.jpg   ROOT/SegmentationClassAug/ID.png (or SegmentationClass)   ROOT/ImageSets/Segmentation/SPLIT.txt
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..classes import LabelSet
from ..errors import UserError, nearest
from ..files import read_lines
from .read import IMAGE_SUFFIXES, read_image, read_mask

LISTS = "ImageSets/Segmentation"


@dataclass(frozen=True)
class Split:
    """The samples of a split, in the order of its list."""

    root: Path
    name: str
    ids: tuple[str, ...]
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
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

    def sample(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and mask. Raises UserError where they differ in size."""
        image, mask = self.image(index), self.mask(index)
        if image.shape[:2] != mask.shape:
            raise UserError(
                f"{self.masks[index]}: {mask.shape[1]}x{mask.shape[0]} pixels, but its image is "
                f"{image.shape[1]}x{image.shape[0]} ({self.images[index]}); a mask has the size of its image"
            )
        return image, mask


def open_images(root, name: str, labels: LabelSet) -> Split:
    """The split `name` under `root` without its masks, of which a test split has none; UserError where an image is missing."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such data folder; set data.root to a folder in VOC layout, or see data/README.md")
    lists = root / LISTS
    path = lists / f"{name}.txt"
    if not path.is_file():
        known = sorted(p.stem for p in lists.glob("*.txt"))
        hint = nearest(name, known) if known else "; the folder is not in VOC layout (JPEGImages, SegmentationClass, ImageSets)"
        raise UserError(f"{path}: no such split{hint}")
    ids = tuple(read_lines(path))
    if not ids:
        raise UserError(f"{path}: the split is empty; it must list an image id a line")
    return Split(root, name, ids, _files(root / "JPEGImages", IMAGE_SUFFIXES, "image", ids, path), (), labels)


def open_split(root, name: str, labels: LabelSet, masks: str | None = None) -> Split:
    """The split `name` under `root`. Every image and mask file is there, or UserError says which is not."""
    split = open_images(root, name, labels)
    root = split.root
    folder = root / (masks or next((m for m in ("SegmentationClassAug", "SegmentationClass") if (root / m).is_dir()), ""))
    if not folder.is_dir() or folder == root:
        raise UserError(
            f"{root}: no folder {masks or 'SegmentationClassAug or SegmentationClass'} with the masks; set data.masks"
        )
    return replace(split, masks=_files(folder, (".png",), "mask", split.ids, root / LISTS / f"{name}.txt"))


def _files(folder: Path, suffixes: tuple[str, ...], what: str, ids: tuple[str, ...], path: Path) -> tuple[Path, ...]:
    """The file of each id that the list at `path` holds."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; VOC layout keeps the images there")
    # One listing, not a question a file: a split has ten thousand of them, perhaps on a network disk.
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in suffixes}
    absent = [item for item in ids if item not in found]
    if absent:
        more = f" and {len(absent) - 1} more of {len(ids)}" if len(absent) > 1 else ""
        raise UserError(
            f"{folder / absent[0]}{suffixes[0]}: no {what} for this id of {path}{more}; add it, or take it off the list"
        )
    return tuple(found[item] for item in ids)
