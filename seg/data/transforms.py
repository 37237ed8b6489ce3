"""The paper's augmentation: random scale, padding, crop and flip, as the released code computes them.

Randomness comes from the generator given, one per sample number; nothing else is random.
"""

import os

import numpy as np

from ..config import DataConfig
from ..errors import UserError, did_you_mean, reason
from ..labels import VOID

ROWS = 128
"""Rows that are resized at a time: what is made on the way stays in the processor's cache."""


def resize_image(image: np.ndarray, size, window=None, mirror: bool = False, out: np.ndarray | None = None) -> np.ndarray:
    """Resize uint8 [H, W, 3] to `size`, bilinear with aligned corners; or only (top, left, bottom, right) of the result.

    uint8: at most 0.51 of a gray level from the exact value, whatever the size; at the image's own size its pixels. A fourth
    channel is left out. What is outside of the window is not computed. `mirror`: the result with left for right. `out`: where
    it is written.
    """
    import cv2

    top, left, bottom, right = window or (0, 0, *size)
    out = np.empty((bottom - top, right - left, 3), np.uint8) if out is None else out
    if image.shape[:2] == tuple(size) and not mirror:
        return cv2.cvtColor(_four_channels(image[top:bottom, left:right]), cv2.COLOR_RGBA2RGB, out)
    down, across = ((side - 1) / max(1, new - 1) for side, new in zip(image.shape, size, strict=False))
    start, step = (right - 1, -across) if mirror else (left, across)
    x, end = int(left * across), int((right - 1) * across) + 2
    for row in range(top, bottom, ROWS):
        last = min(row + ROWS, bottom) - 1
        # OpenCV's positions are float32: counted from the first pixel of a part they are as exact in large images as in small.
        y = int(row * down)
        matrix = np.array([[step, 0, start * across - x], [0, down, row * down - y]])
        part = _four_channels(image[y : int(last * down) + 2, x:end])
        size = right - left, last + 1 - row
        part = cv2.warpAffine(part, matrix, size, None, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE)
        cv2.cvtColor(part, cv2.COLOR_RGBA2RGB, out[row - top : last + 1 - top])
    return out


def _four_channels(image: np.ndarray) -> np.ndarray:
    """With a fourth channel OpenCV takes half the time."""
    import cv2

    return image if image.shape[2] == 4 else cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)


def resize_mask(mask: np.ndarray, size, window=None, mirror: bool = False) -> np.ndarray:
    """Resize [H, W] to `size`, nearest with aligned corners, halves upwards, to the bit as TensorFlow; else as above."""
    top, left, bottom, right = window or (0, 0, *size)
    rows, columns = nearest_pixels(mask.shape[0], size[0], top, bottom), nearest_pixels(mask.shape[1], size[1], left, right)
    return mask.take(rows, 0).take(columns[::-1] if mirror else columns, 1)


def nearest_pixels(side: int, new: int, start: int, stop: int) -> np.ndarray:
    """Source index for positions start..stop of a side resized to `new`, computed in float32 as TensorFlow's kernel does it."""
    position = np.arange(start, stop, dtype=np.float32) * (np.float32(side - 1) / np.float32(max(1, new - 1)))
    low = position.astype(np.int64)
    return np.minimum(low + (position - low.astype(np.float32) >= 0.5), side - 1)


def draw_scale(config: DataConfig, rng: np.random.Generator) -> float:
    """A scale drawn evenly from scale_min, scale_min + scale_step, ..., scale_max; from the whole range where the step is 0."""
    if config.scale_step == 0:
        return float(rng.uniform(config.scale_min, config.scale_max))
    steps = int((config.scale_max - config.scale_min) / config.scale_step + 1e-6)
    return config.scale_min + config.scale_step * int(rng.integers(steps + 1))


def scaled_side(side: int, scale: float) -> int:
    """A side of the image at a random scale: the product in float32, cut, as the released code has it."""
    return max(1, int(np.float32(side) * np.float32(scale)))


class TrainTransform:
    """uint8 image [H, W, 3] and mask [H, W] -> uint8 crop [crop, crop, 3], mask [crop, crop] and extent, int64 [3]. A fourth
    channel of the image is left out (see `seg.data.images.read_rgbx`).

    The extent says which part of the crop is image: rows 0..extent[0], columns extent[1]..extent[2]. The rest is padding: the
    mask is void there, and the network's input is made `PAD`, which no uint8 holds (`seg.data.loader.network_input`).

    The transforms that the configuration names come first, on the uint8 image at its own size.
    Raises UserError, when made, for a transform that albumentations does not have.
    """

    def __init__(self, config: DataConfig):
        self.config = config
        self.transforms = named_transforms(config.transforms) if config.transforms else None

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, out=None) -> tuple[np.ndarray, ...]:
        """`out`: the arrays in which crop and mask are written; whatever they hold is overwritten."""
        crop = self.config.crop_size
        if self.transforms is not None:
            self.transforms.set_random_seed(int(rng.integers(2**31)))
            changed = self.transforms(image=np.ascontiguousarray(image[..., :3]), mask=mask)
            image, mask = changed["image"], changed["mask"]
            if image.dtype != np.uint8 or image.shape != (*mask.shape, 3):
                raise UserError(
                    f"data.transforms: they make {image.dtype} of shape {image.shape} of an image, which stays uint8 RGB here, "
                    "normalized on the way to the network; leave out the one that does (Normalize, ToFloat, ...)"
                )
        scale = draw_scale(self.config, rng)
        size = [scaled_side(side, scale) for side in mask.shape]
        top, left = (int(rng.integers(max(0, side - crop) + 1)) for side in size)
        bottom, right = (min(start + crop, side) for start, side in zip((top, left), size, strict=True))
        rows, columns, mirror = bottom - top, right - left, rng.random() < self.config.flip
        first = crop - columns if mirror else 0
        pixels, target = out or (np.empty((crop, crop, 3), np.uint8), np.empty((crop, crop), np.uint8))
        here = np.s_[:rows, first : first + columns]
        for padding in (np.s_[rows:], np.s_[:rows, :first], np.s_[:rows, first + columns :]):
            pixels[padding], target[padding] = 0, VOID
        resize_image(image, size, (top, left, bottom, right), mirror, out=pixels[here])
        target[here] = resize_mask(mask, size, (top, left, bottom, right), mirror)
        return pixels, target, np.array([rows, first, first + columns])


def named_transforms(entries: list):
    """Composition of albumentations transforms, each a name or {name: {argument: value}}; masks are filled with void."""
    # Importing albumentations asks the package index for a newer version unless told not to.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    made = []
    for entry in entries:
        named = entry if isinstance(entry, dict) else {entry: None}
        if len(named) != 1:
            raise UserError(f"data.transforms: {entry}: each is a name, or one name with its arguments, {{ToGray: {{p: 0.1}}}}")
        name, arguments = next(iter(named.items()))
        cls = getattr(albumentations, str(name), None)
        # Its abstract bases lie outside of the package's augmentations.
        if not isinstance(cls, type) or not cls.__module__.startswith("albumentations.augmentations"):
            raise UserError(f"data.transforms: '{name}' is not a transform of albumentations {albumentations.__version__}")
        arguments = {} if arguments is None else arguments
        known = cls.InitSchema.model_fields
        if not isinstance(arguments, dict):
            raise UserError(f"data.transforms: {name}: its arguments are a mapping, as {{p: 0.5}}, not {arguments!r}")
        for argument in arguments:
            if argument not in known:  # albumentations would only warn
                raise UserError(f"data.transforms: {name} has no '{argument}'{did_you_mean(argument, known)}")
        fill = {"fill_mask": VOID} if "fill_mask" in known else {}
        try:
            made.append(cls(**fill | arguments))
        except (TypeError, ValueError) as error:
            raise UserError(f"data.transforms: {name}: {reason(error)}") from error
    return albumentations.Compose(made)
