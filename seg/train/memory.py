"""Less memory for more arithmetic, and less time for memory."""

import contextlib
import ctypes
import functools

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import UserError

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of mallopt(3)."""


def keep_free_memory() -> None:
    """Have the C library keep the memory that a step frees for the next one (glibc; others have no such setting).

    It gives large pieces back to the system otherwise, and each page of them, taken anew, costs a fault: a step of Xception-65
    on two images of 321x321 has 100,000.
    """
    with contextlib.suppress(AttributeError):
        for setting in (TRIM_THRESHOLD, MMAP_THRESHOLD):
            ctypes.CDLL(None).mallopt(setting, 2**31 - 1)


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
