"""Applies a network to images: the only place where pixels become masks."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config import InferenceConfig
from ..errors import UserError, reason
from ..host_copy import HostCopy
from ..labels import LabelSet
from ..memory import release_free_memory
from ..models.interface import SegmentationModel, evaluation_mode
from ..models.preprocess import pad_to_canvas, padded_size
from ..precision import Precision, autocast
from ..threads import prefetch
from ..visualize import STRENGTH, overlay, with_legend
from ..weights.file import Metadata
from .batches import LOOKAHEAD, PIXELS_PER_BATCH, RELEASE_EVERY, UNDER_WAY, Looked, Sample, batches
from .confidence import Confidence, Strips, confidence, logit_strips, probabilities
from .looking_size import enlarged_classes, enlarged_mask, looking_size, reduced, score_strips
from .pixels import several, to_pixels
from .scores import argmax_masks, score_maps
from .tiles import blend_tiles


class Predictor:
    """Predicts masks of images with a model, its label set and its inference configuration.

    It handles everything that a correct prediction needs: evaluation mode, output stride, size of the network's input, canvas,
    scales, flip, tiles and batching. The mode and output stride of the model are restored after each call, so that a model in
    training can be validated.

    An image is a path, a PIL image of any mode, a NumPy array [H, W, 3] (RGB) or [H, W] (gray), or a torch tensor [3, H, W],
    [1, H, W] or shaped as an array; uint8, 0 to 255, or floating point, 0 to 1. Files and PIL images are turned upright by
    their EXIF orientation.

    Args:
        model: a network with `logits`, `logits_stride`, `output_stride`, `mean` and `std`, or an exported model with `masks`.
        labels: the classes of the model's outputs, in order.
        config: how to predict. `output_stride` None means that of the model.
        metadata: of the weights file, if the model comes from one.
        precision: of a PyTorch network, instead of that of `config`; scores stay float32.

    Raises:
        UserError: the model does not support a setting.
    """

    def __init__(
        self,
        model: SegmentationModel,
        labels: LabelSet,
        config: InferenceConfig | None = None,
        *,
        metadata: Metadata | None = None,
        precision: Precision | None = None,
    ):
        config = config or InferenceConfig()
        self.model, self.labels, self.metadata = model, labels, metadata
        self.precision: Precision = precision or config.precision
        self.config = replace(config, output_stride=config.output_stride or model.output_stride)
        with evaluation_mode(model, self.config.output_stride):
            pass  # a model that refuses the output stride does so now, not at the first image
        if hasattr(model, "require"):  # an exported model
            model.require(self.config)

    @classmethod
    def of(cls, model: SegmentationModel, metadata: Metadata) -> "Predictor":
        """Create a predictor from a model and the metadata of its weights file."""
        return cls(model, metadata.labels, metadata.config.evaluate, metadata=metadata)

    def native(self) -> "Predictor":
        """This predictor for evaluation: with `config.longest=auto`, images are not reduced."""
        if self.config.longest != "auto":
            return self
        config = replace(self.config, longest="native")
        return Predictor(self.model, self.labels, config, metadata=self.metadata, precision=self.precision)

    def looking_size(self, image: np.ndarray) -> tuple[int, int]:
        """Height and width of an image [h, w, 3] for the network: its size, or smaller; see `config.longest`."""
        trained = self.metadata.trained_size if self.metadata else None
        return looking_size((image.shape[0], image.shape[1]), self.config.longest, trained)

    @property
    def score(self) -> dict[str, Any]:
        """Score of the weights, such as {"iteration": 2000, "miou": 0.41}; empty if unknown."""
        return self.metadata.score if self.metadata else {}

    @property
    def temperature(self) -> float:
        """Temperature of the softmax (arXiv 1706.04599), as stored by `seg evaluate --store-temperature`; else 1."""
        return self.metadata.temperature if self.metadata else 1.0

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in index order."""
        return list(self.labels.names)

    @property
    def palette(self) -> np.ndarray:
        """Color of each mask value, uint8 [256, 3]."""
        return self.labels.palette

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters(), torch.empty(0)).device

    def to(self, device: torch.device | str) -> "Predictor":
        """Move the model to a device and return this predictor.

        Raises:
            UserError: the device does not exist here.
        """
        try:
            self.model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device {device}: cannot be used ({reason(error)}); leave it out, or give 'cpu'") from error
        return self

    @overload
    def predict(self, image: list[Any] | tuple[Any, ...]) -> list[np.ndarray]: ...
    @overload
    def predict(self, image: Any) -> np.ndarray: ...
    def predict(self, image: Any) -> Any:
        """Predict the class of each pixel.

        Args:
            image: an image (see the class), or several: a list or tuple of images of any sizes, an array [N, H, W, 3], a
                tensor [N, 3, H, W], a folder, or a pattern such as "photos/*.jpg".

        Returns:
            uint8 [H, W] at the image's own size; for several a list of masks, in order. `seg predict` gives the same.

        Raises:
            UserError: it is not an image, or the file cannot be read.
        """
        images = several(image)
        pixels = ((None, each) for each in prefetch(to_pixels, [image] if images is None else images))
        masks = [mask for _, mask in self.stream(pixels)]
        return masks[0] if images is None else masks

    __call__ = predict

    def probabilities(self, image: Any) -> np.ndarray:
        """Predict the probability of each class at each pixel.

        Args:
            image: an image; see the class.

        Returns:
            float32 [C, H, W] at the image's size; the sum over C is 1. With several scales or flip, the mean of their
            softmaxes. The temperature that is stored with the weights is applied; see docs/evaluate.md.

        Raises:
            UserError: it is not an image, or the model is an exported one, which returns only masks.
        """
        pixels = to_pixels(image)
        return probabilities(self.logit_strips(pixels), pixels.shape[:2], self.temperature)

    def confidence(self, image: Any) -> Confidence:
        """Predict the class of each pixel, its probability, and the entropy. Raises UserError as `probabilities`."""
        pixels = to_pixels(image)
        return confidence(self.logit_strips(pixels), pixels.shape[:2], self.temperature)

    def logit_strips(self, pixels: np.ndarray) -> Strips:
        """Yield inputs of the softmax, some rows at a time. Raises UserError as `probabilities`."""
        return logit_strips(self._score_strips(pixels), len(self.config.scales) == 1 and not self.config.flip)

    def scores(self, pixels: np.ndarray) -> Tensor:
        """Scores of an image uint8 RGB [h, w, 3], whose argmax is the mask: float32 [classes, h, w], the logits of a single
        scale without flip, else the mean of the softmaxes. Raises UserError as `probabilities`."""
        return torch.cat([rows for _, rows in self._score_strips(pixels)], 1)

    @torch.inference_mode()
    def _score_strips(self, pixels: np.ndarray) -> Strips:
        if hasattr(self.model, "masks"):
            raise UserError("an exported model returns only masks; for probabilities, load the weights it was exported from")
        small = reduced(pixels, self.looking_size(pixels))
        with evaluation_mode(self.model, self.config.output_stride), autocast(self.device, self.precision):
            return score_strips(*self._maps([small]), (small.shape[0], small.shape[1]), (pixels.shape[0], pixels.shape[1]))

    def stream(self, samples: Iterable[tuple[Sample, np.ndarray | None]]) -> Iterator[tuple[Sample, np.ndarray | None]]:
        """Predict masks of a stream of images, in order; images of equal size share a batch.

        Args:
            samples: (sample, image) pairs: any object, and uint8 RGB [h, w, 3], or None for an image that could not be read.

        Yields:
            (sample, mask): mask uint8 [h, w], or None for an image of None. At most LOOKAHEAD images are in memory.
        """
        with evaluation_mode(self.model, self.config.output_stride):
            block: list[Looked[Sample]] = []
            started: deque[Callable[[], Iterator[tuple[Sample, np.ndarray | None]]]] = deque()
            for number, (sample, image) in enumerate(samples, 1):
                size = (0, 0) if image is None else (image.shape[0], image.shape[1])
                if image is not None:
                    image = reduced(image, self.looking_size(image))
                block.append(Looked(sample, image, size))
                # An image that fills a batch may be large, so no other image is kept in memory.
                if len(block) == LOOKAHEAD or (image is not None and self._batch_size(image) == 1):
                    started.append(self._start(block))
                    block = []
                while len(started) > UNDER_WAY[self._kind()]:
                    yield from started.popleft()()
                if number % RELEASE_EVERY == 0:
                    release_free_memory()
            for masks in [*started, self._start(block)]:
                yield from masks()

    def draw(self, image: Any, mask: np.ndarray | None = None, *, alpha: float = STRENGTH, legend: bool = False) -> Any:
        """Draw the image with each class of the mask in its color over it.

        Args:
            image: an image; see the class.
            mask: uint8 [H, W], of the image's size; None: it is predicted.
            alpha: share of the class colors, 0 to 1.
            legend: add the colors and names of the mask's classes below.

        Returns:
            A PIL image for a path or PIL image, else uint8 [H, W, 3].

        Raises:
            UserError: the sizes differ, or alpha is out of range.
        """
        pixels = to_pixels(image)
        mask = self.predict(pixels) if mask is None else np.asarray(mask)
        if mask.dtype != np.uint8 or mask.shape != pixels.shape[:2]:
            shapes = f"a mask {mask.dtype} {list(mask.shape)} for an image {list(pixels.shape[:2])}"
            raise UserError(f"{shapes}: must be uint8, of one size")
        picture = overlay(pixels, mask, self.labels, alpha)
        picture = with_legend(picture, [mask], self.labels) if legend else picture
        return Image.fromarray(picture) if isinstance(image, str | os.PathLike | Image.Image) else picture

    def __repr__(self) -> str:
        score = f", mIoU {100 * self.score['miou']:.2f} %" if "miou" in self.score else ""
        return f"<Predictor: {len(self.labels)} classes{score}>"

    def _kind(self) -> str:
        return "cpu" if self.device.type == "cpu" else "cuda"

    def _is_tiled(self, image: np.ndarray) -> bool:
        return bool(image.shape[0] * image.shape[1] > self.config.tile**2)

    def _batch_size(self, image: np.ndarray) -> int:
        """Number of images of this size in a batch."""
        if self._is_tiled(image):
            return 1
        pixels = math.prod(padded_size(image, self.config.canvas)) * max(self.config.scales) ** 2
        return max(1, int(PIXELS_PER_BATCH[self._kind()] / pixels))

    def _start(self, block: list[Looked[Sample]]) -> Callable[[], Iterator[tuple[Sample, np.ndarray | None]]]:
        """Start to predict a block of a stream. The returned function waits for the masks and yields them in order."""
        samples = [each.sample for each in block]  # the images need not stay in memory
        started = [
            (places, self._start_batch(images, [block[place].size for place in places]))
            for places, images in batches(block, self.config.canvas, self._batch_size)
        ]

        def results() -> Iterator[tuple[Sample, np.ndarray | None]]:
            masks = {place: mask for places, found in started for place, mask in zip(places, found(), strict=True)}
            for place, sample in enumerate(samples):
                yield sample, masks.get(place)

        return results

    @torch.inference_mode()
    def _start_batch(self, images: list[np.ndarray], sizes: list[tuple[int, int]]) -> Callable[[], list[np.ndarray]]:
        """Start to predict images [h, w, 3] of one padded size; a tiled image must be alone. Only a few rows of full-size
        scores are in memory at a time. The returned function waits for the masks, uint8 [H, W] at their original sizes."""
        if hasattr(self.model, "masks"):  # an exported model
            classes = [enlarged_classes(*each) for each in zip(self.model.masks(images), sizes, strict=True)]
            return lambda: classes
        with autocast(self.device, self.precision):
            maps, padded = self._maps(images)
            if all(image.shape[:2] == size for image, size in zip(images, sizes, strict=True)):
                copy = HostCopy(argmax_masks(maps, padded, *(max(size[axis] for size in sizes) for axis in (0, 1))))
                return lambda: [mask[:height, :width] for mask, (height, width) in zip(copy().numpy(), sizes, strict=True)]
            enlarged = [
                enlarged_mask([each[i : i + 1] for each in maps], padded, image.shape[:2], size)
                for i, (image, size) in enumerate(zip(images, sizes, strict=True))
            ]
            return lambda: enlarged

    def _maps(self, images: list[np.ndarray]) -> tuple[list[Tensor], tuple[int, int]]:
        """Scores [N, classes, h', w'] of images of one padded size, at each scale and flip, and the size of their input."""
        if any(self._is_tiled(image) for image in images):
            (image,) = images
            grid, size = blend_tiles(self.model, image, self.config, self.device)
            return [grid], size
        padded = torch.cat([pad_to_canvas(image, self.config.canvas, self.device) for image in images])
        padded = padded.contiguous(memory_format=torch.channels_last)
        return score_maps(self.model, padded, self.config), (padded.shape[-2], padded.shape[-1])
