"""Section train-step: one update of the weights."""

import contextlib
import io
import itertools

from ..harness import Case, Side, Work
from .limits import arithmetic_limit
from .networks import CLASSES, multiply_adds, noise, our_network, smp_network


def our_step(backbone: str, width: float, side: int, batch: int) -> Work:
    """Prepare a training step of `seg train` in float32."""
    import numpy as np
    import torch

    from ...config import TrainConfig
    from ...data.loader import Batch
    from ...distributed import device
    from ...training.losses import Loss
    from ...training.step import Step

    config = TrainConfig(batch_size=batch)
    loss = Loss(config, np.ones((1, CLASSES))).to(device())
    with contextlib.redirect_stderr(io.StringIO()):  # hides the warning about batch norm on a small batch
        step = Step(our_network(backbone, width), loss, config, device(), side)
    images, masks = torch.from_numpy(noise(batch, side, side, 3)), torch.from_numpy(noise(batch, side, side) % CLASSES)
    crops = Batch(images.permute(0, 3, 1, 2), masks, torch.tensor([[side, 0, side]] * batch))
    iterations = itertools.count()
    return lambda: step(next(iterations), crops)


def smp_step(encoder: str, side: int, batch: int) -> Work:
    """Prepare a plain training step of segmentation-models-pytorch's network, with our optimizer settings."""
    import torch
    import torch.nn.functional as F

    from ...distributed import device

    model = smp_network(encoder).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.007, momentum=0.9, weight_decay=4e-5)
    images = torch.from_numpy(noise(batch, 3, side, side)).to(device()) / 127.5 - 1
    masks = torch.from_numpy(noise(batch, side, side) % CLASSES).long().to(device())

    def work() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), masks, ignore_index=255).backward()
        optimizer.step()

    return work


def cases(
    backbone: str = "xception65",
    width: float = 1.0,
    side: int = 321,
    batch: int = 2,
    encoder: str = "tu-xception65",
    peer_side: int = 320,
) -> list[Case]:
    """Compare a training step with segmentation-models-pytorch's, which needs sides divisible by 16."""
    peer = Side(f"smp DeepLabV3Plus {encoder}, {peer_side}x{peer_side}", smp_step, (encoder, peer_side, batch))
    # The gradients of the input and of the weights need as many multiply-adds each as the forward pass.
    limit = arithmetic_limit(3 * batch * multiply_adds(backbone, width, side))
    ours = Side("ours", our_step, (backbone, width, side, batch))
    return [Case("train-step", f"batch {batch}, {side}x{side}, float32", ours, peer, limit)]
