"""Size of an image for the network: objects should be as large as in its training."""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .scores import ROWS, mean_scores, softmax

FAR = 1.5
"""An image is reduced if it is more than this factor larger than the training images. Training uses images at up to twice their
size, so the network recognizes objects at most of these sizes."""


SHARPEN = (-0.1, 1.2, -0.1)
"""Sharpening filter along both axes of a reduced image. Area averaging alone keeps 64 % of the contrast of the finest detail;
with the filter it is 90 %, about as in a photo of that size. An enlarged photo that is reduced again differs by 1 gray level
instead of 3.5."""


def looking_size(size: tuple[int, int], longest: Any, trained: int | None) -> tuple[int, int]:
    """Height and width of an image for the network.

    Args:
        size: height and width of the image.
        longest: `native`, `auto` or a number of pixels; see `seg.config.InferenceConfig`.
        trained: longest side of the training images; None: unknown, and `auto` is then `native`.

    Returns:
        The size, or a smaller size with the same aspect ratio.
    """
    limit, side = trained if longest == "auto" else None if longest == "native" else longest, max(size)
    if limit is None or side <= limit * (FAR if longest == "auto" else 1):
        return size
    height, width = (max(1, round(length * limit / side)) for length in size)
    return height, width


def reduced(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image uint8 [h, w, 3] at a smaller size: each pixel is the mean of the area that it covers; see `SHARPEN`."""
    if image.shape[:2] == size:
        return image
    means, kernel = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.array(SHARPEN)
    return cv2.sepFilter2D(means, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)


def enlarged_mask(maps: list[Tensor], padded: Sequence[int], small: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The mask of an image at its original size, from the scores of the reduced image. Only a few rows are in memory at a time.

    Args:
        maps: logits [1, classes, h', w'] for each scale and flip, from `score_maps`.
        padded: height and width of the padded input of the maps.
        small: height and width of the reduced image, in the input's top left corner.
        size: height and width of the image.

    Returns:
        uint8 [H, W].
    """
    mask = np.empty(size, np.uint8)
    for rows, scores in score_strips(maps, padded, small, size):
        mask[rows] = scores.argmax(0).byte().cpu().numpy()
    return mask


def score_strips(
    maps: list[Tensor], padded: Sequence[int], small: tuple[int, int], size: tuple[int, int]
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the scores of an image at its original size, some rows at a time; see `enlarged_mask`.

    Yields:
        Rows, and their float32 [classes, rows, W]: the logits of a single map, else the mean of the softmaxes.
    """
    step = ROWS["cpu" if maps[0].device.type == "cpu" else "gpu"]
    for top in range(0, size[0], step):
        bottom = min(top + step, size[0])
        if small == size:
            yield slice(top, bottom), mean_scores(maps, padded, top, bottom)[0, :, :, : size[1]]
        else:
            yield slice(top, bottom), _rows(maps, padded, small, size, top, bottom)[0]


def enlarged_classes(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge the mask uint8 [h, w] of a reduced image to the original size, for a model without scores.

    Each pixel gets the class with the largest share in the bilinear interpolation of its neighbors, so that edges are smooth.
    """
    if mask.shape == size:
        return mask
    small = mask.shape[0], mask.shape[1]
    classes, places = np.unique(mask, return_inverse=True)
    parts = F.one_hot(torch.from_numpy(places.reshape(small)), len(classes)).permute(2, 0, 1)[None].float()
    found: np.ndarray = classes[enlarged_mask([parts], small, small, size)]
    return found


def _rows(
    maps: list[Tensor], padded: Sequence[int], small: tuple[int, int], size: tuple[int, int], top: int, bottom: int
) -> Tensor:
    """Rows top..bottom of the scores at full size: [1, classes, rows, W]."""
    device = maps[0].device
    rows = _places(torch.arange(top, bottom, device=device), small[0], size[0], padded[0])
    columns = _places(torch.arange(size[1], device=device), small[1], size[1], padded[1])
    grid = torch.stack([columns.expand(len(rows), -1), rows[:, None].expand(-1, len(columns))], -1)[None]
    found = [F.grid_sample(each.contiguous(), grid, padding_mode="border", align_corners=True) for each in maps]
    return found[0] if len(found) == 1 else torch.stack([softmax(each) for each in found]).mean(0)


def _places(pixels: Tensor, small: int, full: int, padded: int) -> Tensor:
    """Positions on the maps of the pixel centers of the full side, from -1, the center of the first input pixel, to 1."""
    # Reducing averages areas, so the borders of both images coincide, not the centers of their outer pixels.
    inside = ((pixels + 0.5) * (small / full) - 0.5).clamp(0, small - 1)
    return inside * (2 / max(1, padded - 1)) - 1
