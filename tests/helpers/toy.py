"""A tiny data set, small models and a check of error messages, for the tests of several rooms."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from seg.config import ModelConfig
from seg.errors import UserError
from seg.labels import VOC, VOID
from seg.models.factory import build_model
from seg.models.layers import POST, ConvNorm, SeparableConv2d

CLASSES = {1: (200, 60, 60), 8: (60, 190, 70), 12: (70, 80, 210), 15: (220, 210, 80)}
"""The four kinds of object: VOC class and color in the image of disc, box, diamond and bar."""


def toy_sample(number: int, size: tuple[int, int] = (48, 64)) -> tuple[np.ndarray, np.ndarray]:
    """Make an image uint8 [h, w, 3] and its mask uint8 [h, w]: three objects on gray, each with a void outline.

    The class of the object on top is `number` modulo 4, so four samples contain all classes.
    """
    rng = np.random.default_rng([7, number])
    image, mask = np.full((*size, 3), 110.0), np.zeros(size, np.uint8)
    short, indices = min(size), list(CLASSES)
    for turn in (2, 1, 0):
        index = indices[(number + turn) % 4]
        radius = rng.uniform(0.18, 0.3) * short
        y, x = (np.arange(side) - rng.uniform(radius, side - radius) for side in size)
        y, x = np.abs(y[:, None]), np.abs(x[None])
        inside = {1: np.hypot(y, x), 8: np.maximum(y, x), 12: (y + x) * 0.8, 15: np.maximum(y, x * 2.5)}[index] < radius
        image[inside], mask[inside] = CLASSES[index], index
    labels = mask.copy()
    for axis in (0, 1):
        here, there = np.moveaxis(labels, axis, 0)[:-1], np.moveaxis(labels, axis, 0)[1:]
        border = here != there
        np.moveaxis(mask, axis, 0)[:-1][border] = VOID
        np.moveaxis(mask, axis, 0)[1:][border] = VOID
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8), mask


def save_palette(path: str | Path, mask: np.ndarray) -> None:
    """Save a mask as a PNG with VOC's palette."""
    image = Image.fromarray(mask)
    image.putpalette(VOC.palette.tobytes())
    image.save(path)


def toy_voc(root: str | Path, train: int = 6, val: int = 3, size: tuple[int, int] = (48, 64)) -> Path:
    """Write a data set in VOC layout, the same each time: JPEG images toy_000 ..., palette masks, lists train and val."""
    root = Path(root)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    ids = [f"toy_{number:03d}" for number in range(train + val)]
    for number, name in enumerate(ids):
        image, mask = toy_sample(number, size)
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg", quality=92)
        save_palette(root / "SegmentationClass" / f"{name}.png", mask)
    for split, members in (("train", ids[:train]), ("val", ids[train:])):
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in members))
    return root


def same(a: Any, b: Any) -> bool:
    """Return whether two values are equal to the bit: tensors, plain values, or mappings and lists of them."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def written(mask: np.ndarray) -> np.ndarray:
    """Return the gray image, uint8 [h, w, 3], for which `Reader` predicts this mask of classes 0 to 24."""
    assert mask.max() <= 24, "Reader predicts classes 0 to 24"
    return np.repeat((mask * 10)[..., None], 3, 2)


def random_model(config: ModelConfig | None = None) -> Any:
    """Build a small network of 5 classes in evaluation mode, with random batch norm parameters and statistics."""
    torch.manual_seed(0)
    model = build_model(config or ModelConfig(backbone="xception41", width=0.125), 5)
    nn.init.normal_(model.classifier.weight, std=1.0)
    return randomize_batch_norms(model).eval()


def randomize_batch_norms(model: Any) -> Any:
    """Give all batch norms of a model random parameters and statistics, and return the model."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return model


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Make an image, uint8 [height, width, 3], of colored blocks with noise."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 200, (height // 9 + 1, width // 9 + 1, 3))
    blocks = blocks.repeat(9, 0).repeat(9, 1)[:height, :width]
    return (blocks + rng.integers(0, 56, blocks.shape)).astype(np.uint8)


class Reader(nn.Module):
    """A model that needs no training: the class of a pixel is a tenth of its red value, rounded.

    It works only in evaluation mode and at the output stride `wanted`.
    """

    mean = std = (0.5, 0.5, 0.5)
    logits_stride = 1

    def __init__(self, classes: int = 21, output_stride: int = 16, wanted: int = 16):
        super().__init__()
        self.place = nn.Parameter(torch.arange(classes).float().view(1, -1, 1, 1) * 10)
        self.output_stride, self.wanted = output_stride, wanted

    def logits(self, images):
        assert not self.training, "called in training mode"
        assert self.output_stride == self.wanted, "called at another output stride"
        return -(((images[:, :1] + 1) * 127.5 - self.place) ** 2)

    def forward(self, images):
        return self.logits(images)


class Small(nn.Module):
    """A model of three layers with random weights and 5 classes."""

    mean = std = (0.5, 0.5, 0.5)
    logits_stride, output_stride = 2, 16

    def __init__(self):
        super().__init__()
        self.conv = ConvNorm(3, 8, 3, eps=1e-3, stride=2)
        self.separable = SeparableConv2d(8, 8, POST, eps=1e-3)
        self.classifier = nn.Conv2d(8, 5, 1)

    def logits(self, images):
        return self.classifier(self.separable(self.conv(images)))


@contextlib.contextmanager
def refused(*parts: object) -> Iterator[Any]:
    """Assert that the block raises a UserError whose message is one line and contains each of `parts`."""
    with pytest.raises(UserError) as error:
        yield error
    message = str(error.value)
    assert "\n" not in message, f"more than one line: {message}"
    for part in parts:
        assert str(part) in message, f"'{part}' is not in: {message}"
