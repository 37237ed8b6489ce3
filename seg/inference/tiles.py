"""Large images in overlapping tiles, whose scores are blended."""

import math

import numpy as np
import torch
from torch import Tensor

from ..config import InferenceConfig
from ..models.interface import SegmentationModel
from ..models.ops.resize import resize
from ..models.preprocess import pad_to_canvas
from .scores import mean_scores, score_maps

OVERLAP = 128
"""Smallest overlap of two tiles, in pixels."""
GRID_STRIDE = 4
"""Stride of the grid on which tiles are blended, for any output stride."""


def tile_starts(side: int, tile: int) -> list[int]:
    """Return where the tiles that cover a side begin.

    Args:
        side: 16 k + 1 pixels.
        tile: side of a tile, 16 k + 1 pixels.

    Returns:
        Multiples of 16, evenly spread, so that neighbors overlap by OVERLAP or more.
    """
    if side <= tile:
        return [0]
    last = (side - tile) // 16
    steps = math.ceil(last / ((tile - OVERLAP) // 16))
    return [16 * (last * index // steps) for index in range(steps + 1)]


def blend_tiles(
    model: SegmentationModel, image: np.ndarray, config: InferenceConfig, device: torch.device
) -> tuple[Tensor, tuple[int, int]]:
    """Score an image of any size tile by tile, and blend the scores where tiles overlap.

    Each tile is scored like a whole image, at all scales. The weight of its scores decreases towards its border. Tiles start at
    multiples of 16, so that their grids coincide.

    Args:
        model: in evaluation mode, at the wanted output stride.
        image: uint8 [h, w, 3].
        config: tile size, scales and flip.
        device: where the model is.

    Returns:
        Scores [1, classes, h', w'] at stride 4, and the size of their input, with sides of 16 k + 1.
    """
    padded = pad_to_canvas(image, 33)
    size = (padded.shape[-2], padded.shape[-1])
    total: Tensor | None = None
    for top in tile_starts(size[0], config.tile):
        for left in tile_starts(size[1], config.tile):
            part = padded[..., top : top + config.tile, left : left + config.tile].to(device)
            maps = score_maps(model, part.contiguous(memory_format=torch.channels_last), config)
            grid = [(side - 1) // GRID_STRIDE + 1 for side in part.shape[-2:]]
            scores = mean_scores([resize(logits, grid) for logits in maps], grid, 0, grid[0])
            if total is None:
                full = [(side - 1) // GRID_STRIDE + 1 for side in size]
                total, weights = scores.new_zeros(1, scores.shape[1], *full), scores.new_zeros(full)
            rows = slice(top // GRID_STRIDE, top // GRID_STRIDE + grid[0])
            columns = slice(left // GRID_STRIDE, left // GRID_STRIDE + grid[1])
            weight = _ramp(grid[0], scores.device)[:, None] * _ramp(grid[1], scores.device)
            total[:, :, rows, columns] += scores * weight
            weights[rows, columns] += weight
    assert total is not None  # at least one tile covers the image
    return total.div_(weights), size


def _ramp(length: int, device: torch.device) -> Tensor:
    """Return weights that rise from both ends over the overlap."""
    place = torch.arange(length, device=device)
    return (torch.minimum(place, length - 1 - place) + 1).clamp(max=OVERLAP // GRID_STRIDE).float()
