"""From images to class probabilities and masks: canvas, scales and flip as in the released evaluation code, tiles for what is
larger."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from ..config import InferenceConfig
from ..models.layers import resize
from ..models.preprocess import normalize, pad_to_canvas, padded_size

ROWS = 64
"""Rows of a mask that are computed at a time: their logits then stay in the processor's cache."""
WINDOW = 8
"""Images among which those of one size are put together."""
AT_ONCE = {"cpu": 8 * 129**2, "cuda": 8 * 513**2}
"""Pixels that go through the network together: small images cost a processor a third less so, large ones the same."""
OVERLAP = 128
"""Least overlap of two tiles, in pixels."""
TILE_STRIDE = 4
"""Stride of the grid on which tiles are blended, whatever the network's."""


def scaled(side: int, scale: float) -> int:
    """`side` at a scale, counted between the centers of the outer pixels as align_corners does."""
    return int((side - 1) * scale + 1)


def score_maps(model: nn.Module, padded: Tensor, policy: InferenceConfig) -> list[Tensor]:
    """Logits [N, classes, h, w] of images N,3,H,W in 0..255 for each scale and flip, in the order of the released code: those
    of a scale below 1 resized to the size of the logits at scale 1, the others as the network gives them. They lie in memory
    channels last, in which resizing takes half the time."""
    size, maps = padded.shape[-2:], []
    for scale in policy.scales:
        images = normalize(resize(padded, [scaled(side, scale) for side in size]), model.mean, model.std)
        for mirrored in (False, True) if policy.flip else (False,):
            logits = model.logits(images.flip(3) if mirrored else images).float()
            if mirrored:
                logits = logits.flip(3)
            if scale < 1:
                logits = resize(logits, [scaled(side, 1 / model.logits_stride) for side in size])
            maps.append(logits.contiguous(memory_format=torch.channels_last))
    return maps


def resize_rows(x: Tensor, size, top: int, bottom: int) -> Tensor:
    """Rows top..bottom of `resize(x, size)`: the whole of it is never in memory."""
    rows = x.permute(0, 2, 3, 1)
    height = x.shape[2]
    if height != size[0]:
        step = (height - 1) / max(1, size[0] - 1)
        source = torch.arange(top, bottom, dtype=torch.float32, device=x.device) * step
        low = source.long().clamp(max=height - 1)
        north, south = rows[:, low], rows[:, (low + 1).clamp(max=height - 1)]
        rows = north + (south - north) * (source - low).view(1, -1, 1, 1)
    else:
        rows = rows[:, top:bottom]
    return resize(rows.permute(0, 3, 1, 2), (bottom - top, size[1]))


def combined(maps: list[Tensor], size, top: int, bottom: int) -> Tensor:
    """Rows top..bottom of the scores at full size: logits of a single map, else the mean of the softmaxes."""
    if len(maps) == 1:
        return resize_rows(maps[0], size, top, bottom)
    total = softmax(resize_rows(maps[0], size, top, bottom))
    for logits in maps[1:]:
        total += softmax(resize_rows(logits, size, top, bottom))
    return total / len(maps)


def softmax(x: Tensor) -> Tensor:
    """`x.softmax(1)`, which copies twice what lies channels last in memory."""
    return x.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2)


@torch.inference_mode()
def infer(model: nn.Module, image: np.ndarray, policy: InferenceConfig) -> Tensor:
    """Scores [classes, h, w] of a uint8 RGB image [h, w, 3], at its own size: their argmax is the prediction.

    Logits for a single scale without flip; else the mean of the softmaxes over scales and flips (see `score_maps`), each
    resized to the image's size. The model is in evaluation mode and has the policy's output stride.
    """
    padded = pad_to_canvas(image, policy.canvas, device_of(model))
    scores = combined(score_maps(model, padded, policy), padded.shape[-2:], 0, image.shape[0])
    return scores[0, :, :, : image.shape[1]]


@torch.inference_mode()
def predict_masks(model: nn.Module, images: list[np.ndarray], policy: InferenceConfig) -> list[np.ndarray]:
    """uint8 [h, w] for each uint8 RGB image [h, w, 3]: the class of every pixel, the argmax of `infer`.

    Full-size scores are never in memory, only those of a few rows. Several images must have one `padded_size`. An image of more
    pixels than a square of `policy.tile` goes in tiles (see `blend_tiles`), alone.
    """
    if hasattr(model, "masks"):  # an exported graph
        return model.masks(images)
    if any(image.shape[0] * image.shape[1] > policy.tile**2 for image in images):
        (image,) = images
        grid, size = blend_tiles(model, image, policy)
        return [_argmax([grid], size, *image.shape[:2])[0]]
    padded = torch.cat([pad_to_canvas(image, policy.canvas, device_of(model)) for image in images])
    padded = padded.contiguous(memory_format=torch.channels_last)
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    masks = _argmax(score_maps(model, padded, policy), padded.shape[-2:], height, width)
    return [mask[: image.shape[0], : image.shape[1]] for mask, image in zip(masks, images, strict=True)]


def predict_mask(model: nn.Module, image: np.ndarray, policy: InferenceConfig) -> np.ndarray:
    """uint8 [h, w]: the class of every pixel of a uint8 RGB image [h, w, 3]; see `predict_masks`."""
    return predict_masks(model, [image], policy)[0]


def masks_in_order(model: nn.Module, samples, policy: InferenceConfig):
    """Yield (sample, mask) of each (sample, image), in their order: what `predict_masks` gives, of images of one size together.

    An image of None, as of a file that could not be read, has the mask None.
    """
    block = []
    for sample, image in samples:
        block.append((sample, image))
        # What goes alone may be large: nothing is kept waiting for others with it.
        if len(block) == WINDOW or (image is not None and _together(model, image, policy) == 1):
            yield from _masks_of(model, block, policy)
            block = []
    yield from _masks_of(model, block, policy)


def _masks_of(model: nn.Module, block, policy: InferenceConfig):
    masks, groups = [None] * len(block), {}
    for place, (_, image) in enumerate(block):
        if image is not None:
            groups.setdefault(padded_size(image, policy.canvas), []).append(place)
    for places in groups.values():
        most = _together(model, block[places[0]][1], policy)
        for start in range(0, len(places), most):
            part = places[start : start + most]
            for place, mask in zip(part, predict_masks(model, [block[p][1] for p in part], policy), strict=True):
                masks[place] = mask
    for (sample, _), mask in zip(block, masks, strict=True):
        yield sample, mask


def _together(model: nn.Module, image: np.ndarray, policy: InferenceConfig) -> int:
    """How many images of this size go through the network together."""
    if image.shape[0] * image.shape[1] > policy.tile**2:
        return 1
    pixels = math.prod(padded_size(image, policy.canvas)) * max(policy.scales) ** 2
    return max(1, int(AT_ONCE["cpu" if device_of(model).type == "cpu" else "cuda"] / pixels))


def _argmax(maps: list[Tensor], size, height: int, width: int) -> np.ndarray:
    """uint8 [N, height, width]: class of each pixel of the top left part of the scores at `size`."""
    mask = torch.empty(len(maps[0]), height, width, dtype=torch.uint8, device=maps[0].device)
    for top in range(0, height, ROWS):
        bottom = min(top + ROWS, height)
        mask[:, top:bottom] = combined(maps, size, top, bottom)[..., :width].max(1).indices
    return mask.cpu().numpy()


def tile_starts(side: int, tile: int) -> list[int]:
    """Where tiles begin that cover a side of 16 k + 1 pixels: multiples of 16, evenly spread, each overlapping the next."""
    if side <= tile:
        return [0]
    last = (side - tile) // 16
    steps = math.ceil(last / ((tile - OVERLAP) // 16))
    return [16 * (last * index // steps) for index in range(steps + 1)]


def blend_tiles(model: nn.Module, image: np.ndarray, policy: InferenceConfig) -> tuple[Tensor, tuple[int, int]]:
    """Scores [1, classes, h, w] at stride 4 of an image of any size, and the size that they stand for, sides of 16 k + 1.

    Each tile is scored as an image of its own, at all scales; where tiles overlap, its scores weigh less towards its border.
    Tiles begin at multiples of 16, so that their grids coincide.
    """
    padded = pad_to_canvas(image, 33)
    size = tuple(padded.shape[-2:])
    total = weights = None
    for top in tile_starts(size[0], policy.tile):
        for left in tile_starts(size[1], policy.tile):
            part = padded[..., top : top + policy.tile, left : left + policy.tile].to(device_of(model))
            maps = score_maps(model, part.contiguous(memory_format=torch.channels_last), policy)
            grid = [(side - 1) // TILE_STRIDE + 1 for side in part.shape[-2:]]
            scores = combined([resize(logits, grid) for logits in maps], grid, 0, grid[0])
            if total is None:
                whole = [(side - 1) // TILE_STRIDE + 1 for side in size]
                total, weights = scores.new_zeros(1, scores.shape[1], *whole), scores.new_zeros(whole)
            window = [slice(start // TILE_STRIDE, start // TILE_STRIDE + n) for start, n in zip((top, left), grid, strict=True)]
            weight = _ramp(grid[0], scores.device)[:, None] * _ramp(grid[1], scores.device)
            total[:, :, window[0], window[1]] += scores * weight
            weights[window[0], window[1]] += weight
    return total.div_(weights), size


def _ramp(length: int, device) -> Tensor:
    """Weights that rise from both ends over the overlap."""
    place = torch.arange(length, device=device)
    return (torch.minimum(place, length - 1 - place) + 1).clamp(max=OVERLAP // TILE_STRIDE).float()


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters(), torch.empty(0)).device


class output_stride:
    """Evaluation mode and the output stride `value` (None: the model's) for a while; then both as they were."""

    def __init__(self, model: nn.Module, value: int | None):
        self.model, self.value = model, model.output_stride if value is None else value

    def __enter__(self):
        self.before = self.model.output_stride
        self.model.output_stride = self.value  # first: a model may refuse it
        self.modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()

    def __exit__(self, *_):
        for module, training in self.modes:
            module.training = training
        self.model.output_stride = self.before
