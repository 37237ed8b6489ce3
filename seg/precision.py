"""Floating-point precision of the network: what the hardware is fast at, and mixed precision by autocast."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

from .errors import UserError

if TYPE_CHECKING:  # the configuration does not wait for torch
    import torch

Precision = Literal["float32", "float32-exact", "bfloat16", "float16"]
"""float32: on NVIDIA GPUs, convolutions round their inputs to TF32 (10 bits of mantissa), as PyTorch does by default.
float32-exact: they do not. bfloat16, float16: convolutions and matrix products in that type; weights, batch-norm statistics,
losses and sums stay float32."""


def best_precision(device: torch.device) -> Precision:
    """The fastest precision that the device's hardware supports and that trains as well as float32.

    Returns:
        bfloat16 on NVIDIA GPUs of compute capability 8.0 and later, AMD GPUs, Intel GPUs, and CPUs with AVX512-BF16 or AMX;
        float16 on NVIDIA GPUs of compute capability 7.0 and 7.5, which needs a scaled loss; else float32.
    """
    import torch

    if device.type == "cuda":
        if torch.version.hip or torch.cuda.get_device_capability(device) >= (8, 0):
            return "bfloat16"
        return "float16" if torch.cuda.get_device_capability(device) >= (7, 0) else "float32"
    if device.type == "xpu":
        return "bfloat16" if torch.xpu.is_bf16_supported() else "float32"
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bfloat16"
    return "float32"


def require_precision(precision: Precision, device: torch.device, what: str) -> None:
    """Refuse bfloat16 where it would be slower than float32.

    Args:
        precision: of a prediction.
        device: where the network computes.
        what: the setting and where it comes from, for the message.

    Raises:
        UserError: the device's hardware lacks bfloat16.
    """
    if precision == "bfloat16" and best_precision(device) != "bfloat16":
        need = "AVX512-BF16 or AMX" if device.type == "cpu" else "bfloat16, as NVIDIA GPUs from Ampere on have it"
        raise UserError(
            f"{what}: this {'processor' if device.type == 'cpu' else f'device ({device})'} has no {need}; use float32"
        )


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Run the network in a precision: the context of its forward pass."""
    import torch

    mixed = precision in ("bfloat16", "float16")
    return torch.autocast(device.type, getattr(torch, precision) if mixed else torch.bfloat16, enabled=mixed)


@contextlib.contextmanager
def cuda_algorithms(precision: Precision, deterministic: bool) -> Iterator[None]:
    """Choose the algorithms of CUDA operators within the block, which sees inputs of one size: a training step.

    cuDNN measures its algorithms at the first input of each size, unless they are to be deterministic.

    Args:
        precision: float32-exact keeps TF32 out of cuDNN's convolutions. Matrix products, such as the loss's, never use it.
        deterministic: use deterministic algorithms only. An operator that has none raises RuntimeError.
    """
    import torch

    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn.benchmark, cudnn.deterministic = not deterministic, deterministic
    cudnn.allow_tf32 = precision != "float32-exact"
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first matrix product
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before
        torch.use_deterministic_algorithms(strict, warn_only=warns)
