"""The published models: the checkpoints that Google released with DeepLab V3+, by name.

Addresses, scores and sizes: tensorflow/models, research/deeplab/g3doc/model_zoo.md.
"""

import difflib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..download import Archive
from ..errors import UserError

PLACE = "download.tensorflow.org/models"
LICENSE = "Apache-2.0"
"""License of the released code and its checkpoints."""
SIX_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
EIGHT_SCALES = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
VOC_SIZE, CITYSCAPES_SIZE = (513, 513), (1025, 2049)


@dataclass(frozen=True)
class PublishedScore:
    """A score as its authors published it, with the protocol."""

    split: str
    miou: float
    """From 0 to 1."""
    output_stride: int
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __str__(self) -> str:
        protocol = f"output stride {self.output_stride}"
        if len(self.scales) > 1:
            protocol += f", scales {self.scales[0]:g} to {self.scales[-1]:g}"
        return f"{100 * self.miou:.2f} % on {self.split} ({protocol}{', flip' * self.flip})"


@dataclass(frozen=True)
class PublishedModel:
    """A released checkpoint."""

    name: str
    file: str
    """File name of the archive."""
    megabytes: int
    """Size of the archive, in 10^6 bytes, rounded as published."""
    backbone: str
    trained_on: str
    size: tuple[int, int]
    """Height and width of the images in training, in pixels."""
    labels: str | None = None
    """Name of the built-in label set; None: a backbone that was trained on ImageNet."""
    data: str = ""
    """Folder of its training data, as in the documentation."""
    split: str = ""
    """Split of the training."""
    scores: tuple[PublishedScore, ...] = ()
    context: str = "aspp"
    unused_outputs: int = 0
    """Number of classifier outputs before the first class. They were never targets in the training."""

    @property
    def archive(self) -> Archive:
        """What is downloaded."""
        return Archive(
            self.name,
            self.file,
            (f"https://{PLACE}/{self.file}", f"http://{PLACE}/{self.file}"),
            remedy=f"set a mirror in SEG_MIRRORS, or download http://{PLACE}/{self.file} on another machine and run: "
            f"seg models get {self.name} --from-archive {self.file}",
        )

    @property
    def origin(self) -> dict[str, Any]:
        """Origin for the metadata of the converted file."""
        return {
            "name": self.name,
            "address": f"http://{PLACE}/{self.file}",
            "license": LICENSE,
            "trained_on": self.trained_on,
            "scores": [asdict(score) | {"scales": list(score.scales)} for score in self.scores],
        }


def _models() -> tuple[PublishedModel, ...]:
    x65, x71 = "xception65", "xception71"
    voc: dict[str, Any] = {"backbone": x65, "labels": "voc", "data": "data/VOC2012", "size": VOC_SIZE}
    cityscapes: dict[str, Any] = {"labels": "cityscapes_train_ids", "data": "data/cityscapes/voc", "size": CITYSCAPES_SIZE}
    cell = cityscapes | {"backbone": x71, "context": "dpc"}
    start = "from ImageNet and COCO"
    return (
        PublishedModel(
            "xception65_voc_trainaug",
            "deeplabv3_pascal_train_aug_2018_01_04.tar.gz",
            439,
            trained_on=f"PASCAL VOC 2012 trainaug, {start}",
            split="trainaug",
            scores=(PublishedScore("val", 0.8220, 16), PublishedScore("val", 0.8358, 8, SIX_SCALES, True)),
            **voc,
        ),
        PublishedModel(
            "xception65_voc_trainval",
            "deeplabv3_pascal_trainval_2018_01_04.tar.gz",
            439,
            trained_on=f"PASCAL VOC 2012 trainaug and trainval, {start}",
            split="trainval",
            scores=(PublishedScore("test", 0.8780, 8, SIX_SCALES, True),),
            **voc,
        ),
        PublishedModel(
            "xception65_cityscapes_train",
            "deeplabv3_cityscapes_train_2018_02_06.tar.gz",
            439,
            x65,
            "Cityscapes, fine masks of train, from ImageNet",
            split="train",
            scores=(PublishedScore("val", 0.7879, 16), PublishedScore("val", 0.8042, 8, (0.75, 1.0, 1.25), True)),
            **cityscapes,
        ),
        PublishedModel(
            "xception71_cityscapes_trainfine",
            "deeplab_cityscapes_xception71_trainfine_2018_09_08.tar.gz",
            445,
            trained_on=f"Cityscapes, fine masks of train, {start}",
            split="train",
            scores=(PublishedScore("val", 0.8031, 16),),
            **cell,
        ),
        PublishedModel(
            "xception71_cityscapes_trainvalfine",
            "deeplab_cityscapes_xception71_trainvalfine_2018_09_08.tar.gz",
            446,
            trained_on=f"Cityscapes, fine masks of train and val, and coarse masks, {start}",
            split="trainval",
            scores=(PublishedScore("test", 0.8266, 8, EIGHT_SCALES, True),),
            **cell,
        ),
        PublishedModel(
            "xception65_ade20k_train",
            "deeplabv3_xception_ade20k_train_2018_05_29.tar.gz",
            439,
            x65,
            "ADE20K training, from ImageNet",
            VOC_SIZE,
            "ade20k",
            "data/ade20k/voc",
            "train",
            (PublishedScore("val", 0.4565, 8, SIX_SCALES, True),),
            unused_outputs=1,
        ),
        PublishedModel(
            "xception65_coco",
            "xception_65_coco_pretrained_2018_10_02.tar.gz",
            292,
            trained_on="COCO with the classes of VOC, from ImageNet",
            split="train",
            **voc | {"data": "data/coco"},
        ),
        PublishedModel("xception41_imagenet", "xception_41_2018_05_09.tar.gz", 288, "xception41", "ImageNet", (299, 299)),
        PublishedModel("xception65_imagenet", "deeplabv3_xception_2018_01_04.tar.gz", 447, x65, "ImageNet", (299, 299)),
        PublishedModel("xception71_imagenet", "xception_71_2018_05_09.tar.gz", 474, x71, "ImageNet", (299, 299)),
    )


MODELS = {model.name: model for model in _models()}
"""Every published model by its name."""


def find(name: str) -> PublishedModel:
    """Return the published model of a name.

    Raises:
        UserError: there is no such model; the message has the nearest name.
    """
    if name not in MODELS:
        raise UserError(f"{name}: no published model of this name{_nearest(name) or '; seg models lists them'}")
    return MODELS[name]


def refuse_misspelled(source: str) -> None:
    """Raise a UserError if WEIGHTS are not a file and look like a misspelled name of a published model."""
    if not Path(source).suffix and not set(source) & set("/\\:") and (nearest := _nearest(source)):
        raise UserError(f"{source}: no such file, and no published model of this name{nearest}")


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), MODELS, n=1, cutoff=0.7)
    return f"; did you mean '{close[0]}'?" if close else ""
