"""Images and masks in PASCAL VOC layout.

ROOT/JPEGImages/ID.jpg   ROOT/SegmentationClassAug/ID.png (or SegmentationClass)   ROOT/ImageSets/Segmentation/SPLIT.txt
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..classes import VOID, LabelSet
from ..errors import UserError, nearest, reason
from ..files import read_lines

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LISTS = "ImageSets/Segmentation"


@dataclass(frozen=True)
class Split:
    """The samples of a split, in the order of its list."""

    root: Path
    name: str
    ids: tuple[str, ...]
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
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


def open_split(root, name: str, labels: LabelSet, masks: str | None = None) -> Split:
    """The split `name` under `root`. Every image and mask file is there, or UserError says which is not."""
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
    folder = root / (masks or next((m for m in ("SegmentationClassAug", "SegmentationClass") if (root / m).is_dir()), ""))
    if not folder.is_dir() or folder == root:
        raise UserError(
            f"{root}: no folder {masks or 'SegmentationClassAug or SegmentationClass'} with the masks; set data.masks"
        )
    # Two listings, not a question a file: a split has ten thousand of them, perhaps on a network disk.
    images = {p.stem: p for p in sorted(_folder(root / "JPEGImages").iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES}
    pngs = {p.stem: p for p in folder.iterdir() if p.suffix.lower() == ".png"}
    for what, place, suffix, found in (("image", root / "JPEGImages", ".jpg", images), ("mask", folder, ".png", pngs)):
        absent = [item for item in ids if item not in found]
        if absent:
            more = f" and {len(absent) - 1} more of {len(ids)}" if len(absent) > 1 else ""
            raise UserError(
                f"{place / absent[0]}{suffix}: no {what} for this id of {path}{more}; add it, or take it off the list"
            )
    return Split(root, name, ids, tuple(images[i] for i in ids), tuple(pngs[i] for i in ids), labels)


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; VOC layout keeps the images there")
    return path


def _decode(path: Path) -> Image.Image:
    try:
        with open(path, "rb") as file:
            image = Image.open(file)
            image.load()
            return image
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a readable image ({reason(error)}); damaged or cut short: copy it again") from error


def read_image(path) -> np.ndarray:
    """uint8 [H, W, 3], RGB, upright by its EXIF orientation. Raises UserError for a file that is damaged or cut short."""
    image = ImageOps.exif_transpose(_decode(Path(path)))
    if image.mode.startswith("I"):  # 16 bits a channel, which convert() would clip
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if "transparency" in image.info:  # what lies beneath transparent pixels is taken as it is
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def read_mask(path, labels: LabelSet) -> np.ndarray:
    """uint8 [H, W]: class index or 255, from a palette PNG, an index PNG or an RGB PNG in the label set's colours.

    Raises UserError for a label or colour that the set does not have, naming the first pixel (row, column).
    """
    path = Path(path)
    image = _decode(path)
    if image.mode in ("P", "L", "1", "I", "I;16"):
        mask = np.array(image)
        wrong = (mask >= len(labels)) & (mask != VOID)
        if wrong.any():
            row, column = np.unravel_index(wrong.argmax(), wrong.shape)
            raise UserError(
                f"{path}: label {mask[row, column]} at ({row}, {column}); this label set has {len(labels)} classes and "
                f"{VOID} for void. Is it a mask of another label set? See seg data check --help"
            )
        return mask.astype(np.uint8)
    colours = np.array(image.convert("RGB")).astype(np.uint32)
    codes = colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
    table = {r << 16 | g << 8 | b: index for index, (r, g, b) in enumerate(labels.colours)}
    r, g, b = labels.void_colour
    table[r << 16 | g << 8 | b] = VOID
    mask = np.empty(codes.shape, np.uint8)
    for code in np.unique(codes):
        where = codes == code
        if int(code) not in table:
            row, column = np.unravel_index(where.argmax(), where.shape)
            raise UserError(
                f"{path}: colour {tuple(colours[row, column].tolist())} at ({row}, {column}) is no class of this label set. "
                "Was the mask resized or saved as JPEG? See seg data check --help"
            )
        mask[where] = table[int(code)]
    return mask
