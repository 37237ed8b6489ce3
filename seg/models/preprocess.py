"""From pixels to the network's input: padding, canvas and normalization."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PADDING_VALUE = 127.5
"""Image value of padding: zero for the network."""
MIN_SIDE = 33
"""Pixels of the smallest side that the network takes."""


def network_input(images: Tensor, extents: Tensor, mean, std) -> Tensor:
    """The network's float32 input N3HW of a batch's images: the padding set to PADDING_VALUE, then normalized."""
    rows, first, end = extents.view(-1, 3, 1, 1, 1).unbind(1)
    down, across = (torch.arange(side, device=images.device) for side in images.shape[2:])
    inside = (down[:, None] < rows) & (across >= first) & (across < end)
    return normalize(torch.where(inside, images, PADDING_VALUE), mean, std)


def normalize(images: Tensor, mean, std) -> Tensor:
    """Images in 0..255, N3HW, to the network's input: `x / 255` less mean, by std; for 0.5 and 0.5 exactly `2/255 * x - 1`."""
    # Not to wait for the device: what it is busy with may be the batch before.
    scale, shift = (
        torch.tensor(values, dtype=torch.float64).float().to(images.device, non_blocking=True).view(-1, 1, 1)
        for values in ([1 / (255 * s) for s in std], [m / s for m, s in zip(mean, std, strict=True)])
    )
    return (images * scale).sub_(shift)


def padded_side(side, canvas: int | None):
    """A side of the image as the network sees it: `canvas`, or for a larger side the next 16 k + 1; at least 33.

    canvas: None keeps the side, so that only 33 is the least.
    Comparisons would fix a symbolic size of torch.export: none is made, and the result is an int or a symbol as `side` is.
    """
    if canvas is None:
        return torch.sym_max(MIN_SIDE, side)
    larger = torch.sym_min(torch.sym_max(side - canvas, 0), 1)
    return torch.sym_max(MIN_SIDE, canvas + larger * ((side - 2) // 16 * 16 + 17 - canvas))


def padded_size(image: np.ndarray, canvas: int | None) -> tuple[int, int]:
    """Height and width of an image [h, w, 3] as the network sees it; see `padded_side`."""
    height, width = (padded_side(side, canvas) for side in image.shape[:2])
    return height, width


def pad_to_canvas(image: np.ndarray, canvas: int | None, device=None) -> Tensor:
    """uint8 [h, w, 3] -> float32 [1, 3, H, W] in 0..255: padded with 127.5 at the bottom and right, to the canvas and to 33."""
    # A copy: the caller's array may be read-only, or a view that runs backwards.
    x = torch.from_numpy(image.copy()).to(device).permute(2, 0, 1)[None].float()
    rows, columns = (size - side for size, side in zip(padded_size(image, canvas), image.shape, strict=False))
    return F.pad(x, (0, columns, 0, rows), value=PADDING_VALUE)
