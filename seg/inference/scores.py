"""Class scores of padded images: scales, flip and resizing as in the released evaluation code."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..config import InferenceConfig
from ..models.interface import SegmentationModel
from ..models.ops.resize import resize
from ..models.preprocess import normalize

ROWS = {"cpu": 64, "gpu": 513}
"""Number of mask rows computed at a time. On a CPU, their logits stay in the cache; on a GPU, launches are few."""


def scaled_side(side: int, scale: float) -> int:
    """Return `side` at a scale, counted between the centers of the outer pixels as align_corners does."""
    return int((side - 1) * scale + 1)


def score_maps(model: SegmentationModel, padded: Tensor, config: InferenceConfig) -> list[Tensor]:
    """Compute the logits of images at each scale, and of their mirror images where the configuration flips.

    Args:
        model: in evaluation mode, at the wanted output stride.
        padded: images [N, 3, H, W] with values 0..255.
        config: scales and flip.

    Returns:
        Logits [N, classes, h, w] for each scale and flip, in the order of the released code. Those of a scale below 1 are
        resized to the size of the logits at scale 1. They are channels-last in memory: resizing then takes half the time.
    """
    size, maps = padded.shape[-2:], []
    for scale in config.scales:
        images = normalize(resize(padded, [scaled_side(side, scale) for side in size]), model.mean, model.std)
        for mirrored in (False, True) if config.flip else (False,):
            logits = model.logits(images.flip(3) if mirrored else images).float()
            if mirrored:
                logits = logits.flip(3)
            if scale < 1:
                logits = resize(logits, [scaled_side(side, 1 / model.logits_stride) for side in size])
            maps.append(logits.contiguous(memory_format=torch.channels_last))
    return maps


def resize_rows(x: Tensor, size: Sequence[int], top: int, bottom: int) -> Tensor:
    """Compute rows top..bottom of `resize(x, size)`; the full result is never in memory."""
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


def softmax(x: Tensor) -> Tensor:
    """Compute `x.softmax(1)`, which would copy a channels-last tensor twice."""
    return x.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2)


def mean_scores(maps: list[Tensor], size: Sequence[int], top: int, bottom: int) -> Tensor:
    """Compute rows top..bottom of the scores at full size: the logits of a single map, else the mean of the softmaxes."""
    if len(maps) == 1:
        return resize_rows(maps[0], size, top, bottom)
    total = softmax(resize_rows(maps[0], size, top, bottom))
    for logits in maps[1:]:
        total += softmax(resize_rows(logits, size, top, bottom))
    return total / len(maps)


def argmax_masks(maps: list[Tensor], size: Sequence[int], height: int, width: int) -> Tensor:
    """Return uint8 [N, height, width]: the class of each pixel of the top left part of the scores at `size`."""
    masks = torch.empty(len(maps[0]), height, width, dtype=torch.uint8, device=maps[0].device)
    rows = ROWS["cpu" if masks.device.type == "cpu" else "gpu"]
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        masks[:, top:bottom] = mean_scores(maps, size, top, bottom)[..., :width].max(1).indices
    return masks
