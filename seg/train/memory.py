"""Less memory for more arithmetic."""

import contextlib
import ctypes
import functools

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import UserError

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Of mallopt(3), in bytes and in heaps."""


def checkpoint_activations(model: nn.Module) -> None:
    """Keep of each backbone module its input alone in training; the backward pass computes the rest (arXiv 1604.06174)."""
    if not hasattr(model.backbone, "flow"):
        raise UserError("train.checkpoint_activations: for our own networks; leave it out with model.smp")
    for module in model.backbone.flow.values():
        module.forward = functools.partial(_checkpointed, module, module.forward)


def _checkpointed(module: nn.Module, forward, x):
    if not (module.training and torch.is_grad_enabled()):
        return forward(x)
    return checkpoint(forward, x, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _once(module)))


@contextlib.contextmanager
def _once(module: nn.Module):
    """The second pass must not move the moving statistics again."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def keep_freed_memory() -> None:
    """Have the C library keep what tensors free for those to come, in one heap for all threads.

    By default it gives large blocks back to the system, which clears each page when it is next asked for, and the backward
    pass, a thread of its own, cannot use what the forward pass has freed. glibc only; elsewhere nothing is changed.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018
        for parameter, value in ((ARENA_MAX, 1), (MMAP_THRESHOLD, 32 << 20), (TRIM_THRESHOLD, (1 << 31) - 1)):
            library.mallopt(parameter, value)
