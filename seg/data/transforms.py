"""The paper's augmentation: random scale, padding, crop and flip, computed as the released code computes them.

`RandomCrop` works on uint8 arrays with a given random generator: the loader of `seg train` uses it. `TrainTransform` makes
tensors of the same crops for your own training loop.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import DataConfig
from ..errors import UserError, did_you_mean, reason
from ..labels import VOID
from ..threads import limit_opencv_threads

if TYPE_CHECKING:  # nothing here but TrainTransform needs torch
    from albumentations import Compose
    from torch import Tensor

Size = Sequence[int]
"""Height and width."""
Window = tuple[int, int, int, int]
"""Top, left, bottom and right of a part of an image."""

ROWS = 128
"""Number of rows resized at a time: the intermediate results then stay in the CPU cache."""


def resize_image(
    image: np.ndarray, size: Size, window: Window | None = None, mirror: bool = False, out: np.ndarray | None = None
) -> np.ndarray:
    """Resize an image, bilinear with aligned corners.

    The result is within 0.51 of a gray level of the exact value, and equal to the image at its own size.

    Args:
        image: uint8 [H, W, 3] or [H, W, 4]; a fourth channel is dropped.
        size: height and width of the whole result.
        window: the part of the result to compute; None for all of it.
        mirror: flip the result horizontally.
        out: uint8 array for the result; None to allocate one.

    Returns:
        uint8 [bottom - top, right - left, 3].
    """
    import cv2

    top, left, bottom, right = window or (0, 0, *size)
    out = np.empty((bottom - top, right - left, 3), np.uint8) if out is None else out
    if image.shape[:2] == tuple(size) and not mirror:
        return cv2.cvtColor(_with_four_channels(image[top:bottom, left:right]), cv2.COLOR_RGBA2RGB, out)
    down, across = ((side - 1) / max(1, new - 1) for side, new in zip(image.shape, size, strict=False))
    start, step = (right - 1, -across) if mirror else (left, across)
    x, end = int(left * across), int((right - 1) * across) + 2
    for row in range(top, bottom, ROWS):
        last = min(row + ROWS, bottom) - 1
        # OpenCV's positions are float32: counted from the first pixel of a part, they are as exact in large images as in small.
        y = int(row * down)
        matrix = np.array([[step, 0, start * across - x], [0, down, row * down - y]])
        part = _with_four_channels(image[y : int(last * down) + 2, x:end])
        part_size = right - left, last + 1 - row
        part = cv2.warpAffine(part, matrix, part_size, None, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE)
        cv2.cvtColor(part, cv2.COLOR_RGBA2RGB, out[row - top : last + 1 - top])
    return out


def _with_four_channels(image: np.ndarray) -> np.ndarray:
    """The image with a fourth channel: OpenCV resizes it in half the time."""
    import cv2

    return image if image.shape[2] == 4 else cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)


def resize_mask(mask: np.ndarray, size: Size, window: Window | None = None, mirror: bool = False) -> np.ndarray:
    """Resize a mask [H, W], nearest neighbor with aligned corners, halves upwards: bit for bit as TensorFlow does.

    `size`, `window` and `mirror` are those of `resize_image`.
    """
    top, left, bottom, right = window or (0, 0, *size)
    rows, columns = nearest_pixels(mask.shape[0], size[0], top, bottom), nearest_pixels(mask.shape[1], size[1], left, right)
    return mask.take(rows, 0).take(columns[::-1] if mirror else columns, 1)


def nearest_pixels(side: int, new: int, start: int, stop: int) -> np.ndarray:
    """The source index of positions start to stop - 1 of a side resized to `new`, in float32 as TensorFlow's kernel has it."""
    position = np.arange(start, stop, dtype=np.float32) * (np.float32(side - 1) / np.float32(max(1, new - 1)))
    low = position.astype(np.int64)
    nearest: np.ndarray = np.minimum(low + (position - low.astype(np.float32) >= 0.5), side - 1)
    return nearest


def draw_scale(config: DataConfig, rng: np.random.Generator) -> float:
    """A random scale: one of scale_min, scale_min + scale_step, ..., scale_max; any in between if scale_step is 0."""
    if config.scale_step == 0:
        return float(rng.uniform(config.scale_min, config.scale_max))
    steps = int((config.scale_max - config.scale_min) / config.scale_step + 1e-6)
    return config.scale_min + config.scale_step * int(rng.integers(steps + 1))


def scaled_side(side: int, scale: float) -> int:
    """A side of the scaled image in pixels: the float32 product, truncated, as in the released code."""
    return max(1, int(np.float32(side) * np.float32(scale)))


class RandomCrop:
    """Cuts a crop of an image and its mask, at a random scale, place and flip.

    The transforms of `config.transforms` come first, on the uint8 image at its own size.

    Args:
        config: crop_size, scale_min, scale_max, scale_step, flip and transforms.

    Raises:
        UserError: for a transform that albumentations does not have.
    """

    def __init__(self, config: DataConfig):
        self.config = config
        self.transforms = named_transforms(config.transforms) if config.transforms else None

    def __call__(
        self,
        image: np.ndarray,
        mask: np.ndarray,
        rng: np.random.Generator,
        out: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw a crop.

        Args:
            image: uint8 [H, W, 3] or [H, W, 4]; a fourth channel is dropped (see `seg.data.images.read_rgbx`).
            mask: uint8 [H, W].
            rng: the only source of random numbers.
            out: arrays for crop and mask, which are overwritten; None to allocate them.

        Returns:
            Crop, uint8 [H, W, 3] of crop_size; mask, uint8 [H, W], void in the padding; extent, int64 [3]: the image fills
            rows 0 to extent[0] - 1 and columns extent[1] to extent[2] - 1. `seg.models.preprocess.network_input` fills the
            rest with the padding value, which no uint8 can hold.
        """
        size = self.config.crop
        if self.transforms is not None:
            image, mask = self._transform(image, mask, rng)
        scale = draw_scale(self.config, rng)
        height, width = (scaled_side(side, scale) for side in mask.shape)
        top, left = (int(rng.integers(max(0, side - new) + 1)) for side, new in zip((height, width), size, strict=True))
        bottom, right = min(top + size[0], height), min(left + size[1], width)
        rows, columns, mirror = bottom - top, right - left, rng.random() < self.config.flip
        first = size[1] - columns if mirror else 0
        pixels, target = out or (np.empty((*size, 3), np.uint8), np.empty(size, np.uint8))
        here = np.s_[:rows, first : first + columns]
        for padding in (np.s_[rows:], np.s_[:rows, :first], np.s_[:rows, first + columns :]):
            pixels[padding], target[padding] = 0, VOID
        resize_image(image, (height, width), (top, left, bottom, right), mirror, out=pixels[here])
        target[here] = resize_mask(mask, (height, width), (top, left, bottom, right), mirror)
        return pixels, target, np.array([rows, first, first + columns])

    def _transform(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        assert self.transforms is not None
        self.transforms.set_random_seed(int(rng.integers(2**31)))
        changed = self.transforms(image=np.ascontiguousarray(image[..., :3]), mask=mask)
        image, mask = changed["image"], changed["mask"]
        if image.dtype != np.uint8 or image.shape != (*mask.shape, 3):
            raise UserError(
                f"data.transforms: they turn the image into {image.dtype} {list(image.shape)}, but it must stay uint8 RGB: "
                "leave out the transform that normalizes it (Normalize, ToFloat, ...), which is done later"
            )
        return image, mask


class TrainTransform:
    """Random scale, crop and flip of an image and its mask, as tensors for your own training loop.

    It draws crops as `seg train` does (arXiv 1802.02611, section 4; arXiv 1706.05587, section 4.1). Its random numbers come
    from torch's default generator: `torch.manual_seed` makes them reproducible, and each DataLoader worker draws its own.

    Args:
        crop_size: of the crop, in pixels, at least 33: the side of a square, or height and width.
        scale_min, scale_max, scale_step: the random scale is one of scale_min, scale_min + scale_step, ..., scale_max; with
            scale_step 0 it is any number in between.
        flip: probability of a horizontal flip, 0 to 1.
        transforms: albumentations transforms by name, applied first, to the uint8 image: ["ToGray", {"Blur": {"p": 0.1}}].
        mean, std: statistics of the network's input, for images in 0..1: `net.mean` and `net.std`.

    Raises:
        UserError: for a value out of range, or a transform that albumentations does not have.
    """

    def __init__(
        self,
        crop_size: int | Size = 513,
        scale_min: float = 0.5,
        scale_max: float = 2.0,
        scale_step: float = 0.25,
        flip: float = 0.5,
        transforms: Sequence[Any] = (),
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ):
        self.crop = RandomCrop(
            DataConfig(
                crop_size=list(crop_size) if isinstance(crop_size, Sequence) else crop_size,
                scale_min=scale_min,
                scale_max=scale_max,
                scale_step=scale_step,
                flip=flip,
                transforms=list(transforms),
            )
        )
        self.mean, self.std = tuple(mean), tuple(std)

    def __call__(self, image: np.ndarray, mask: np.ndarray) -> tuple[Tensor, Tensor]:
        """Draw a crop.

        Args:
            image: uint8 [H, W, 3], RGB.
            mask: uint8 [H, W]: class index, or 255 for void.

        Returns:
            Image, float32 [3, H, W] of the crop, normalized; mask, int64 [H, W], 255 in the padding.

        Raises:
            UserError: for an image or mask of another type or shape.
        """
        import torch

        from ..models.preprocess import network_input

        _check_sample(image, mask)
        if torch.utils.data.get_worker_info() is not None:
            limit_opencv_threads()
        rng = np.random.default_rng(int(torch.randint(2**63 - 1, ())))
        pixels, target, extent = (torch.from_numpy(array) for array in self.crop(image, mask, rng))
        images = network_input(pixels.permute(2, 0, 1)[None], extent[None], self.mean, self.std)
        return images[0], target.long()


def _check_sample(image: np.ndarray, mask: np.ndarray) -> None:
    """Raise UserError unless the image is uint8 [H, W, 3] and the mask uint8 [H, W] of the same size."""
    for what, array, dimensions, wanted in (("image", image, 3, "[H, W, 3]"), ("mask", mask, 2, "[H, W]")):
        if not isinstance(array, np.ndarray):
            raise UserError(f"TrainTransform: the {what} is a {type(array).__name__}; give a NumPy array: np.asarray({what})")
        if array.dtype != np.uint8 or array.ndim != dimensions or (dimensions == 3 and array.shape[2] != 3):
            raise UserError(f"TrainTransform: the {what} is {array.dtype} {list(array.shape)}; it must be uint8 {wanted}")
    if image.shape[:2] != mask.shape:
        raise UserError(f"TrainTransform: the image is {list(image.shape[:2])}, its mask {list(mask.shape)}; they must match")


def named_transforms(entries: Sequence[Any]) -> Compose:
    """Compose albumentations transforms given by name. Pixels that they add to a mask are void.

    Args:
        entries: each a name or {name: {argument: value}}.

    Raises:
        UserError: for a transform or an argument that albumentations does not have.
    """
    # Importing albumentations asks the package index for a newer version unless told not to.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    made = []
    for entry in entries:
        named = entry if isinstance(entry, dict) else {entry: None}
        if len(named) != 1:
            raise UserError(f"data.transforms: {entry}: give a name, or one name with its arguments: {{ToGray: {{p: 0.1}}}}")
        name, arguments = next(iter(named.items()))
        cls = getattr(albumentations, str(name), None)
        # albumentations.augmentations holds the transforms; their abstract bases are elsewhere.
        if not isinstance(cls, type) or not cls.__module__.startswith("albumentations.augmentations"):
            raise UserError(f"data.transforms: '{name}' is not a transform of albumentations {albumentations.__version__}")
        arguments = {} if arguments is None else arguments
        known = cls.InitSchema.model_fields  # type: ignore[attr-defined]
        if not isinstance(arguments, dict):
            raise UserError(f"data.transforms: {name}: its arguments must be a mapping, such as {{p: 0.5}}, not {arguments!r}")
        for argument in arguments:
            if argument not in known:  # albumentations would only warn
                raise UserError(f"data.transforms: {name} has no '{argument}'{did_you_mean(argument, known)}")
        fill = {"fill_mask": VOID} if "fill_mask" in known else {}
        try:
            made.append(cls(**fill | arguments))
        except (TypeError, ValueError) as error:
            raise UserError(f"data.transforms: {name}: {reason(error)}") from error
    return albumentations.Compose(made)
