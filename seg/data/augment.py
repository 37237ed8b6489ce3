"""The paper's augmentation: random scale, padding, crop and flip, as the released code computes them.

Randomness comes from the generator given, one per sample number; nothing else is random.
"""

import os

import numpy as np

from ..classes import VOID
from ..config import DataConfig
from ..errors import UserError, nearest, reason

PAD = 127.5
"""Image value of padding: zero for the network."""


def resize_taps(size: int, new: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper source index and float32 fraction, for positions start..stop of a side of `size` resized to `new`.

    Bilinear with aligned corners, in float32 as TensorFlow's kernel does it.
    """
    step = np.float32(size - 1) / np.float32(new - 1) if new > 1 else np.float32(0)
    source = np.arange(start, stop, dtype=np.float32) * step
    low = np.minimum(source.astype(np.int64), size - 1)
    return low, np.minimum(low + 1, size - 1), source - low.astype(np.float32)


def resize_image(image: np.ndarray, size, window=None) -> np.ndarray:
    """Resize [H, W, 3] to `size`, bilinear with aligned corners, float32; or only (top, left, bottom, right) of the result."""
    top, left, bottom, right = window or (0, 0, *size)
    y0, y1, dy = resize_taps(image.shape[0], size[0], top, bottom)
    x0, x1, dx = resize_taps(image.shape[1], size[1], left, right)
    first = y0[0] if len(y0) else 0
    rows = image[first : y1[-1] + 1 if len(y1) else 0].astype(np.float32)
    west = rows[:, x0]
    rows = west + (rows[:, x1] - west) * dx[None, :, None]
    north = rows[y0 - first]
    return north + (rows[y1 - first] - north) * dy[:, None, None]


def resize_mask(mask: np.ndarray, size, window=None) -> np.ndarray:
    """Resize [H, W] to `size`, nearest with aligned corners, halves upwards; `window` as in `resize_image`."""
    top, left, bottom, right = window or (0, 0, *size)
    rows, columns = (
        np.where(fraction < 0.5, low, high)
        for low, high, fraction in (
            resize_taps(mask.shape[0], size[0], top, bottom),
            resize_taps(mask.shape[1], size[1], left, right),
        )
    )
    return mask[rows[:, None], columns[None]]


def draw_scale(config: DataConfig, rng: np.random.Generator) -> float:
    """A scale drawn evenly from scale_min, scale_min + scale_step, ..., scale_max; from the whole range where the step is 0."""
    if config.scale_step == 0:
        return float(rng.uniform(config.scale_min, config.scale_max))
    steps = int((config.scale_max - config.scale_min) / config.scale_step + 1e-6)
    return config.scale_min + config.scale_step * int(rng.integers(steps + 1))


def scaled_side(side: int, scale: float) -> int:
    """A side of the image at a random scale: the product in float32, cut, as the released code has it."""
    return max(1, int(np.float32(side) * np.float32(scale)))


class Augment:
    """uint8 image [H, W, 3] and mask [H, W] -> float32 [crop, crop, 3] in 0..255 and uint8 [crop, crop].

    The transforms that the configuration names come first, on the uint8 image at its own size.
    Raises UserError, when made, for a transform that albumentations does not have.
    """

    def __init__(self, config: DataConfig):
        self.config = config
        self.transforms = named_transforms(config.transforms) if config.transforms else None

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        crop = self.config.crop
        if self.transforms is not None:
            self.transforms.set_random_seed(int(rng.integers(2**31)))
            changed = self.transforms(image=image, mask=mask)
            image, mask = changed["image"], changed["mask"]
        scale = draw_scale(self.config, rng)
        height, width = (scaled_side(side, scale) for side in mask.shape)
        top, left = (int(rng.integers(max(0, side - crop) + 1)) for side in (height, width))
        # The crop alone is computed: at scale 2 that is a quarter of the resized image.
        window = (top, left, min(top + crop, height), min(left + crop, width))
        part, labels = resize_image(image, (height, width), window), resize_mask(mask, (height, width), window)
        pixels, target = np.full((crop, crop, 3), PAD, np.float32), np.full((crop, crop), VOID, np.uint8)
        pixels[: part.shape[0], : part.shape[1]] = part
        target[: part.shape[0], : part.shape[1]] = labels
        if rng.random() < self.config.flip:
            pixels, target = pixels[:, ::-1], target[:, ::-1]
        return np.ascontiguousarray(pixels), np.ascontiguousarray(target)


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
                raise UserError(f"data.transforms: {name} has no '{argument}'{nearest(argument, known)}")
        fill = {"fill_mask": VOID} if "fill_mask" in known else {}
        try:
            made.append(cls(**fill | arguments))
        except (TypeError, ValueError) as error:
            raise UserError(f"data.transforms: {name}: {reason(error)}") from error
    return albumentations.Compose(made)
