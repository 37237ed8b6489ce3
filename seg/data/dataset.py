"""`VOCSegmentation`: a data set in VOC layout as a torch Dataset, for your own training loop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from torch.utils.data import Dataset

from ..errors import UserError, did_you_mean
from ..labels import LabelSet
from ..labels import load as load_labels
from .voc import Split, open_split

ARGUMENTS = ("root", "split", "transform", "labels", "masks")
INSTEAD = {
    "image_set": "use split, the name of a list in ImageSets/Segmentation",
    "transforms": "use transform, which gets image and mask together: transform(image, mask)",
    "target_transform": "use transform, which gets image and mask together: transform(image, mask)",
    "year": "give the folder of that year as root",
    "download": "run `seg data download voc2012` first",
}
"""Arguments of torchvision's class of this name, and what to use here."""


class VOCSegmentation(Dataset[Any]):
    """Images and masks of a split in PASCAL VOC layout, as a map-style torch Dataset of (image, mask).

    Without `transform`, a sample is a pair of NumPy arrays that `Predictor.predict` and `ConfusionMatrix.update` accept: the
    image, uint8 [H, W, 3], RGB, and the mask, uint8 [H, W], class index or 255 for void. They have their original size.

    Args:
        root: folder with JPEGImages, SegmentationClassAug or SegmentationClass, and ImageSets/Segmentation.
        split: name of a list in ImageSets/Segmentation, such as train, val or trainaug.
        transform: called as transform(image, mask); returns the sample. `TrainTransform` returns random crops.
        labels: the classes: a built-in label set's name, the path of a label set's YAML file, or a LabelSet.
        masks: folder of the masks under root; None: SegmentationClassAug where available, else SegmentationClass.

    Raises:
        UserError: for a missing folder, split, image or mask; on access, for a file that cannot be read.
        TypeError: for an unknown argument; the message names the right one.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transform: Callable[[np.ndarray, np.ndarray], Any] | None = None,
        labels: str | LabelSet = "voc",
        masks: str | None = None,
        **unknown: NoReturn,  # so that a type checker refuses every other argument
    ):
        for name in unknown:
            hint = f"; {INSTEAD[name]}" if name in INSTEAD else did_you_mean(name, ARGUMENTS)
            raise TypeError(f"VOCSegmentation has no argument '{name}'{hint}")
        self.transform = transform
        self.labels = labels if isinstance(labels, LabelSet) else load_labels(labels)
        self.split: Split = open_split(_existing_folder(Path(root)), split, self.labels, masks)

    @property
    def ids(self) -> tuple[str, ...]:
        """The name of each sample, as listed in the split."""
        return self.split.ids

    @property
    def classes(self) -> list[str]:
        """The class names, in index order."""
        return list(self.labels.names)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Any:
        image, mask = self.split.sample(index)
        return (image, mask) if self.transform is None else self.transform(image, mask)

    def __repr__(self) -> str:
        return f"VOCSegmentation({str(self.split.root)!r}, {self.split.name!r}): {len(self)} images, {len(self.labels)} classes"


def _existing_folder(root: Path) -> Path:
    """`root`, or a UserError that says how to get the data."""
    inner = root / "VOCdevkit" / "VOC2012"  # below torchvision's root
    if inner.is_dir():
        raise UserError(f"{root}: the data set is in {inner}; give that folder as root")
    if not root.is_dir():
        raise UserError(
            f"{root}: no such data folder; `seg data download voc2012` downloads PASCAL VOC, `seg data init FOLDER` prepares "
            "your own images and masks, and `seg data scenes FOLDER` draws synthetic ones"
        )
    return root
