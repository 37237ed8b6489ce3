"""Bilinear resize with aligned corners, and the matrices of its two axes.

On CUDA, the gradient of F.interpolate is summed by atomic adds: in any order, so that two runs differ, and in the type of the
maps, which costs bfloat16 0.8 % of accuracy. As products with the transposed matrices it is summed in order and in float32.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize with aligned corners, as everywhere in the released code: [N, C, h, w] -> [N, C, *size]."""
    if x.shape[-2:] == tuple(size):
        return x
    if x.is_cuda and x.requires_grad and torch.is_grad_enabled():
        out: Tensor = _Resize.apply(x, tuple(size))
        return out
    return _interpolate(x, size)


def _interpolate(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def interpolation(size: int, wanted: int, dtype: torch.dtype) -> np.ndarray:
    """The linear interpolation of an axis as a matrix, with aligned corners and rounded as in F.interpolate.

    Args:
        size, wanted: pixels along the axis before and after.
        dtype: float64, or the result is float32.

    Returns:
        [wanted, size].
    """
    position = np.arange(wanted, dtype=np.float64 if dtype == torch.float64 else np.float32)
    position *= position.dtype.type((size - 1) / max(wanted - 1, 1))
    before = position.astype(int).clip(max=size - 1)
    after = before if size == wanted else (before + 1).clip(max=size - 1)
    fraction, every = position - before, np.arange(wanted)
    matrix = np.zeros((wanted, size), position.dtype)
    matrix[every, before] = 1 - fraction
    matrix[every, after] += fraction
    return matrix


@functools.lru_cache(maxsize=64)
def _matrix(size: int, wanted: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix of `interpolation` on a device."""
    return torch.from_numpy(interpolation(size, wanted, dtype)).to(device, dtype)


class _Resize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.size = x.shape[-2:]
        return _interpolate(x, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        vertical, horizontal = (
            _matrix(before, after, grad.dtype, grad.device).T for before, after in zip(ctx.size, grad.shape[-2:], strict=True)
        )
        rows = grad.permute(0, 2, 3, 1)  # [N, H, W, C], in the memory of channels-last maps
        count, height, width, channels = rows.shape
        rows = torch.matmul(vertical, rows.reshape(count, height, width * channels))
        rows = torch.matmul(horizontal, rows.view(count * len(vertical), width, channels))
        return rows.view(count, len(vertical), len(horizontal), channels).permute(0, 3, 1, 2), None
