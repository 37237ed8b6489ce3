"""Our network, the peer's network and their input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

CLASSES = 21


def seeded_network(backbone: str, width: float) -> nn.Module:
    """Build the network of configs/voc_xception65.yaml, with another backbone or width, and random weights of a fixed seed."""
    import torch

    from ...config import ModelConfig
    from ...models.factory import build_model

    torch.manual_seed(0)
    return build_model(ModelConfig(backbone=backbone, width=width, activation_placement="tf"), CLASSES)


def our_network(backbone: str, width: float) -> Any:
    """Put the network on the device in evaluation mode, in a process with the memory settings of the `seg` command."""
    import torch

    from ...distributed import device
    from ...memory import keep_free_memory

    keep_free_memory()
    return seeded_network(backbone, width).to(device()).to(memory_format=torch.channels_last).eval()


def smp_network(encoder: str) -> nn.Module:
    """Build segmentation-models-pytorch's DeepLabV3+ on the device."""
    import segmentation_models_pytorch as smp
    import torch

    from ...distributed import device

    torch.manual_seed(0)
    return smp.DeepLabV3Plus(encoder, encoder_weights=None, classes=CLASSES).to(device())  # type: ignore[no-any-return]


def multiply_adds(backbone: str, width: float, side: int) -> int:
    """Return the multiply-adds of our forward pass on one image of side x side pixels."""
    from ...models.summary import summary

    return summary(seeded_network(backbone, width), side, side)[-1].multiply_adds


def noise(*size: int) -> np.ndarray:
    """Return a uint8 array of this size, the same at each call."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, size, np.uint8)
