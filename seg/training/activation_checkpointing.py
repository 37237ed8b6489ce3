"""Activation checkpointing: less memory for more computation."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import UserError
from .batch_norm import BatchNorm


def checkpoint_activations(model: nn.Module) -> None:
    """Store only the input of each backbone block in training; the backward pass recomputes the rest (arXiv 1604.06174).

    Raises:
        UserError: for a network of segmentation-models-pytorch.
    """
    blocks = getattr(model.backbone, "flow", None)
    if not isinstance(blocks, nn.ModuleDict):
        raise UserError("train.checkpoint_activations: not available for networks of segmentation-models-pytorch; leave it out")
    for block in blocks.values():
        block.forward = functools.partial(_checkpointed, block, block.forward)


def _checkpointed(block: nn.Module, forward: Callable[..., object], x: Tensor) -> object:
    if not (block.training and torch.is_grad_enabled()):
        return forward(x)
    return checkpoint(forward, x, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _fixed_statistics(block)))


@contextlib.contextmanager
def _fixed_statistics(block: nn.Module) -> Iterator[None]:
    """Keep batch norm's moving statistics unchanged: the second forward pass must not update them again."""
    norms = [module for module in block.modules() if isinstance(module, BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
