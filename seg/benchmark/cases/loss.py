"""Section loss: forward and backward pass of the cross-entropy, from logits at stride 4."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..harness import Case, Side, Work
from .networks import CLASSES, noise

if TYPE_CHECKING:
    import torch


def logits_and_target(batch: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 logits [batch, CLASSES, h, w] at stride 4 and a uint8 target [batch, side, side], 5 % of it void."""
    import torch

    from ...distributed import device

    torch.manual_seed(0)
    small = (side - 1) // 4 + 1
    logits = torch.randn(batch, CLASSES, small, small, device=device(), requires_grad=True)
    target = torch.from_numpy(noise(batch, side, side) % CLASSES).to(device())
    target[:, : side // 20] = 255
    return logits, target


def our_loss(batch: int, side: int) -> Work:
    """Prepare the loss of `seg train`, computed in tiles."""
    import torch

    from ...training.losses import cross_entropy

    logits, target = logits_and_target(batch, side)
    return lambda: torch.autograd.grad(cross_entropy(logits, target), logits)


def plain_loss(batch: int, side: int) -> Work:
    """Prepare the usual way: resize the logits to full size, then take torch's cross-entropy."""
    import torch
    import torch.nn.functional as F

    logits, target = logits_and_target(batch, side)
    target = target.long()

    def work() -> object:
        full = F.interpolate(logits, size=target.shape[1:], mode="bilinear", align_corners=True)
        return torch.autograd.grad(F.cross_entropy(full, target, ignore_index=255), logits)

    return work


def cases(batch: int = 8, side: int = 513) -> list[Case]:
    """Compare the loss with torch's own functions."""
    peer = Side("interpolate + cross_entropy", plain_loss, (batch, side))
    ours = Side("ours", our_loss, (batch, side))
    return [Case("loss", f"batch {batch}, {CLASSES} classes, {side}x{side}", ours, peer)]
