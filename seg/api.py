"""A model as a Python object: `seg.load(...)`, then masks of whatever holds an image."""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import distributed
from .config import as_dict, from_dict
from .data.images import PIXELS, of_pillow, read_image
from .errors import UserError, reason
from .inference.predictor import masks_in_order, output_stride
from .labels import LabelSet
from .runtimes.models import GRAPHS, in_runtime, open_runtime
from .threads import prefetch
from .visualize import overlay
from .weights.file import Metadata
from .weights.loading import open_model


class Segmenter:
    """A model with its classes and its way of inference; see `load`.

    An image is a path, a PIL image of any mode, a NumPy array uint8 [H, W, 3] (RGB) or [H, W] (gray), or a torch tensor uint8
    [3, H, W], [1, H, W] or as an array. Files and PIL images are turned upright by their EXIF.
    """

    def __init__(self, model: torch.nn.Module, about: Metadata):
        self.model, self.policy = model, about.config.evaluate
        self.labels: LabelSet = about.labels
        self.score: dict = about.score
        """Such as {"iteration": 2000, "miou": 0.41}; empty where never validated."""

    @property
    def classes(self) -> list[str]:
        """Their names, in index order."""
        return list(self.labels.names)

    @property
    def palette(self) -> np.ndarray:
        """uint8 [256, 3]: the color of every mask value."""
        return self.labels.palette

    def predict(self, image):
        """The class of each pixel, uint8 [H, W], as `seg predict` has it; of a list or tuple of images a list of masks.

        Raises UserError for what is no image, or a file that cannot be read.
        """
        images = image if isinstance(image, list | tuple) else [image]
        with output_stride(self.model, self.policy.output_stride):
            samples = ((None, pixels) for pixels in prefetch(to_pixels, images))
            masks = [mask for _, mask in masks_in_order(self.model, samples, self.policy)]
        return masks if images is image else masks[0]

    def draw(self, image, mask: np.ndarray):
        """The image with each class of the mask, uint8 [H, W], in its color over it: of a path or PIL image a PIL image, else
        uint8 [H, W, 3]. Raises UserError where their sizes differ."""
        pixels, mask = to_pixels(image), np.asarray(mask)
        if mask.dtype != np.uint8 or mask.shape != pixels.shape[:2]:
            raise UserError(
                f"a mask {mask.dtype} {list(mask.shape)} for an image {list(pixels.shape[:2])}: must be uint8, of one size"
            )
        picture = overlay(pixels, mask, self.labels)
        return Image.fromarray(picture) if isinstance(image, str | os.PathLike | Image.Image) else picture

    def __repr__(self) -> str:
        score = f", mIoU {self.score['miou']:.4f}" if "miou" in self.score else ""
        return f"<Segmenter: {len(self.labels)} classes{score}>"


def load(weights, device=None, runtime=None, **policy) -> Segmenter:
    """The model in a weights file of ours, such as a run's best.safetensors, or in a graph of `seg export`, .onnx or .xml.

    device: as torch names it; default the GPU where there is one. runtime: what runs the network, one of
    `seg.runtimes.models.RUNTIMES`; default PyTorch, as trained. `policy`: settings of `seg.config.EvaluateConfig` over those
    of the file: output_stride, scales, flip, canvas (None: the size of each image), tile. A graph has all of these within.
    Raises UserError where the file is none, or a setting.
    """
    if Path(weights).suffix in GRAPHS:
        return Segmenter(*open_runtime(weights, runtime or device, list(policy)))
    model, about = open_model(weights)
    settings = as_dict(about.config)
    settings["evaluate"] |= policy
    about.config = from_dict(settings, "seg.load")
    try:
        model.to(distributed.device() if device is None else device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device}: cannot be used ({reason(error)}); leave it out, or give 'cpu'") from error
    if runtime is not None:
        model = in_runtime(model, runtime, about.config.evaluate.output_stride)
    return Segmenter(model, about)


def to_pixels(image) -> np.ndarray:
    """uint8 [H, W, 3], RGB, of an image as `Segmenter` takes it."""
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        return of_pillow(image)
    if isinstance(image, torch.Tensor):
        image = image.movedim(0, -1) if image.ndim == 3 and len(image) in (1, 3) else image
        image = image.detach().cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise UserError(f"{type(image).__name__}: not an image; give a path, a PIL image, a NumPy array or a torch tensor")
    shape = list(image.shape)
    if image.dtype != np.uint8:
        raise UserError(
            f"an image {image.dtype} {shape}: must be uint8, 0 to 255; for values from 0 to 1, round 255 times them"
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[2] not in (1, 3)) or not 0 < shape[0] * shape[1] <= PIXELS:
        raise UserError(
            f"an image {shape}: must be [H, W, 3] (RGB) or [H, W] (gray), of at most {PIXELS:,} pixels; many: a list"
        )
    return np.broadcast_to(image if image.ndim == 3 else image[..., None], (*shape[:2], 3))
