"""Batch norm in training: its momentum, synchronizing and freezing it; and freezing the backbone's weights."""

from torch import nn

BatchNorm = nn.modules.batchnorm._BatchNorm
"""The base class of every batch norm, synchronized ones included."""


def set_batch_norm_momentum(model: nn.Module, momentum: float) -> None:
    """Set the share of the current batch in the moving statistics of every batch norm, above 0 to 1."""
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.momentum = momentum


def synchronize_batch_norm(model: nn.Module) -> nn.Module:
    """Replace batch norms by synchronized ones, which normalize with the statistics of all processes' batches (GPUs only)."""
    synchronized: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return synchronized


def freeze_batch_norm(model: nn.Module, where: str) -> None:
    """Put batch norms into evaluation mode: they use their moving statistics and leave them as they are.

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
    """Keep the backbone's weights as they are: only the head trains. For its moving statistics, see `freeze_batch_norm`."""
    model.get_submodule("backbone").requires_grad_(False)
