"""What the name of a folder says: images or masks, and the split; and files in it that are ambiguous."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ..inventory import same_name
from .base import split_name, stem
from .pairs import IMAGE_WORDS, MASK_WORDS, words

IMAGES = ("images", "image", "imgs", "img", "jpegimages", "pngimages", "original", "originals", "originalimages")
MASKS = (
    *("1stmanual", "masks", "mask", "labels", "label", "annotations", "segmentationclassaug", "segmentationclass"),
    *("gtfine", "gtcoarse"),
)
"""Names of folders; of several that fit equally well, the first."""
_GLUED = (
    r"(train|training|val|valid|validation|test)(annot|labels?|masks?|gt|images?|imgs?|labs?|crop|set|data)"
    r"|(images?|labels?)(tr|ts|val)"
)
"""Names of SegNet's, nnU-Net's and Crack500's folders."""
_WHOLE = r"(?i)semantic|semseg|((train|val|valid|test)_?)?labs?|.+_lesion"
"""Names of folders of masks, as a whole: a part of them says nothing."""
_NOT_WORDS = frozenset(
    ["color", "raw", "frame", "frames", "manual", "target", "targets", "ground", "truth", "semantic", "semseg", "lesion"]
)
"""Words that are specific in a file's name, but not in a folder's."""


Key = tuple[str | None, tuple[str, ...]]
"""Split, and the folders that name neither a split nor images or masks."""


@dataclass
class Place:
    """The files of one folder, and the meaning of its name."""

    path: Path
    files: list[str]
    role: str
    """image, mask, or empty."""
    rank: int
    """Place of the name in the usual names: the lower, the more usual."""


def understand_folder(parts: Iterable[str]) -> tuple[str, int, str | None, tuple[str, ...]]:
    """Role, rank of its name, split and other folders, from the names of the folders above a file."""
    role, rank, split = "", 99, None
    mixed = False  # such as train_val: it says less than a folder below
    rest = []
    for name in parts:
        part = re.sub(r"(?i)[\W_]+with(?:out)?[\W_].*", "", name)  # RUGD's frames-with-annotations
        plain = re.sub(r"[\W_]+", "", part.lower())
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", part)  # PedMasks, PixelLabelData
        glued = re.fullmatch(_GLUED, plain)
        found = {*words(part), *words(spaced), plain, *(group for group in (glued.groups() if glued else ()) if group)}
        says = "mask" if found & (MASK_WORDS - _NOT_WORDS | {*MASKS, "anndir"}) or re.fullmatch(_WHOLE, part) else ""
        says = says or ("image" if found & (IMAGE_WORDS - _NOT_WORDS | {*IMAGES, "imgdir"}) else "")
        splits = {name for name in (split_name(part), *map(split_name, found)) if name}
        named = next(iter(splits)) if len(splits) == 1 else None
        mixed = mixed or len(splits) > 1
        if says:
            role = role if role == "mask" else says
            rank = min([rank, *(usual.index(plain) for usual in (IMAGES, MASKS) if plain in usual)])
        split = split or named
        if not says and not splits:
            rest.append(name)
    return role, rank, split or ("train" if mixed else None), tuple(rest)


def refuse_numbered(place: Place) -> None:
    """Raise UserError for the masks of MATLAB's labelers, whose numbers count the images in an order that only MATLAB knows."""
    if place.path.name.startswith("PixelLabelData") and all(re.match(r"Label_\d+", name) for name in place.files):
        raise UserError(
            f"{place.path}: MATLAB's {place.files[0]} does not say which image it belongs to; write a table there: "
            "writetable(table(gTruth.DataSource.Source, gTruth.LabelData.PixelLabelData, 'VariableNames', {'image','mask'}), "
            "'pairs.csv'), and put it into the folder; or if the numbers are those of the images: "
            "--pair 'im{stem}.png=Label_{stem}.png'"
        )


def refuse_doubles(place: Place) -> None:
    """Raise UserError if two files of a folder differ only in the suffix."""
    found: dict[str, str] = {}
    for name in place.files:
        other = found.setdefault(stem(name), name)
        if other != name:
            raise UserError(same_name(place.path / other, [name]))
