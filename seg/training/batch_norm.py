"""Batch norm in training: momentum, synchronization and freezing. Also freezes the weights of the backbone."""

import torch
from torch import nn

from ..models.ops.batch_norm import BatchNorm2d

BatchNorm = nn.modules.batchnorm._BatchNorm
"""The base class of every batch norm, synchronized ones included."""


def set_batch_norm_momentum(model: nn.Module, momentum: float) -> None:
    """Set the share of the current batch in the moving statistics of every batch norm, above 0 to 1."""
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.momentum = momentum


def synchronize_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Synchronize the batch norms that train: they normalize with the statistics of all processes' batches.

    Those of seg are synchronized on every device. Those of other libraries are replaced by PyTorch's, which need a GPU.

    Args:
        model: changed in place.
        device: of the training.
    """
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.synchronized = True
    if device.type == "cuda" and not all_synchronized(model):
        from timm.layers.norm_act import convert_sync_batchnorm  # as PyTorch's, and keeps the activation in timm's norms

        synchronized: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return synchronized
    return model


def all_synchronized(model: nn.Module) -> bool:
    """Whether every batch norm that trains is synchronized: then all processes have the same moving statistics."""
    norms = (module for module in model.modules() if isinstance(module, BatchNorm) and module.training)
    return all(isinstance(norm, nn.SyncBatchNorm) or getattr(norm, "synchronized", False) for norm in norms)


def freeze_batch_norm(model: nn.Module, where: str) -> None:
    """Put batch norms into evaluation mode: they use their moving statistics and do not update them.

    `model.train()` undoes it. Weights and biases of the batch norms still train.

    Args:
        model: a network with a `backbone`.
        where: none, backbone or all.
    """
    if where == "none":
        return
    for module in (model if where == "all" else model.get_submodule("backbone")).modules():
        if isinstance(module, BatchNorm):
            module.eval()


def freeze_backbone(model: nn.Module) -> None:
    """Freeze the weights of the backbone: only the head trains. `freeze_batch_norm` freezes the moving statistics."""
    model.get_submodule("backbone").requires_grad_(False)
