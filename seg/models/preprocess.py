"""From pixels to the network's input: padding, canvas and normalization."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import SymInt, Tensor

PADDING_VALUE = 127.5
"""Image value of padding: 0 after normalization."""
MIN_SIDE = 33
"""Smallest side that the network takes, in pixels."""


def network_input(images: Tensor, extents: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The network's input from a batch of padded crops.

    Args:
        images: [N, 3, H, W] in 0..255.
        extents: [N, 3]: number of rows, first column and end column of the image in the crop. The rest is padding.
        mean, std: of each channel, for images in [0, 1].

    Returns:
        float32 [N, 3, H, W], normalized, with the padding at PADDING_VALUE.
    """
    rows, first, end = extents.view(-1, 3, 1, 1, 1).unbind(1)
    down, across = (torch.arange(side, device=images.device) for side in images.shape[2:])
    inside = (down[:, None] < rows) & (across >= first) & (across < end)
    return normalize(torch.where(inside, images, PADDING_VALUE), mean, std)


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalize images: `(x / 255 - mean) / std`. For mean and std 0.5 this is exactly `2/255 * x - 1`.

    Args:
        images: [N, 3, H, W] in 0..255.
        mean, std: of each channel, for images in [0, 1].
    """
    # Non-blocking: the device may still be busy with the batch before.
    scale, shift = (
        torch.tensor(values, dtype=torch.float64).float().to(images.device, non_blocking=True).view(-1, 1, 1)
        for values in ([1 / (255 * s) for s in std], [m / s for m, s in zip(mean, std, strict=True)])
    )
    return (images * scale).sub_(shift)


def padded_side(side: int | SymInt, canvas: int | None) -> int | SymInt:
    """A side of the image after padding: `canvas`, or for a larger side the next 16 k + 1; at least MIN_SIDE.

    Args:
        side: in pixels. A symbolic size of torch.export gives a symbolic result: a comparison would fix it.
        canvas: in pixels. None keeps a side of at least MIN_SIDE.
    """
    if canvas is None:
        return torch.sym_max(MIN_SIDE, side)
    larger = torch.sym_min(torch.sym_max(side - canvas, 0), 1)
    return torch.sym_max(MIN_SIDE, canvas + larger * ((side - 2) // 16 * 16 + 17 - canvas))


def padded_size(image: NDArray[np.uint8], canvas: int | None) -> tuple[int, int]:
    """Height and width of an image [h, w, 3] after padding; see `padded_side`."""
    height, width = (int(padded_side(side, canvas)) for side in image.shape[:2])
    return height, width


def pad_to_canvas(image: NDArray[np.uint8], canvas: int | None, device: torch.device | str | None = None) -> Tensor:
    """Pad an image at the bottom and right with PADDING_VALUE: uint8 [h, w, 3] -> float32 [1, 3, H, W] in 0..255.

    Args:
        image: RGB.
        canvas: see `padded_side`.
        device: of the result.
    """
    # A copy: the caller's array may be read-only, or a view with negative strides.
    pixels = torch.from_numpy(image.copy())
    if device is not None and torch.device(device).type == "cuda":
        # From pinned memory, the copy does not wait for the device.
        pixels = pixels.pin_memory().to(device, non_blocking=True)
    x = pixels.to(device).permute(2, 0, 1)[None].float()
    rows, columns = (size - side for size, side in zip(padded_size(image, canvas), image.shape, strict=False))
    return F.pad(x, (0, columns, 0, rows), value=PADDING_VALUE)
