"""Less memory for more arithmetic."""

import contextlib
import functools

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import UserError


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
