"""Section train-step: one update of the weights."""

import contextlib
import io
import itertools
from typing import Any

from ...precision import Precision
from ..harness import Case, Side, Work
from .limits import arithmetic_limit
from .networks import CLASSES, multiply_adds, noise, our_network, smp_network


def our_step(backbone: str, width: float, side: int, batch: int, precision: Precision, compiled: bool) -> Work:
    """Prepare a training step of `seg train`."""
    import numpy as np
    import torch

    from ...config import TrainConfig
    from ...data.loader import Batch
    from ...distributed import device
    from ...training.losses import Loss
    from ...training.step import Step

    config = TrainConfig(batch_size=batch, precision=precision, compile=compiled)
    loss = Loss(config, np.ones((1, CLASSES))).to(device())
    with contextlib.redirect_stderr(io.StringIO()):  # hides the warning about batch norm on a small batch
        step = Step(our_network(backbone, width), loss, config, device(), (side, side))
    images, masks = torch.from_numpy(noise(batch, side, side, 3)), torch.from_numpy(noise(batch, side, side) % CLASSES)
    crops = Batch(images.permute(0, 3, 1, 2), masks, torch.tensor([[side, 0, side]] * batch))
    if torch.cuda.is_available():
        crops = Batch(*(tensor.pin_memory() for tensor in crops))  # as the loader does
    iterations = itertools.count()
    return lambda: step(next(iterations), crops)


def smp_step(encoder: str, side: int, batch: int, precision: Precision, compiled: bool) -> Work:
    """Prepare a training step of segmentation-models-pytorch's network with our optimizer settings, in the usual best way: on a
    GPU with autocast, channels-last weights, measured algorithms and a fused optimizer; on a CPU with autocast alone."""
    import torch
    import torch.nn.functional as F

    from ...distributed import device
    from ...precision import autocast

    here = device()
    model: Any = smp_network(encoder).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.007, momentum=0.9, weight_decay=4e-5, fused=True)
    torch.backends.cudnn.benchmark = True
    pixels, labels = (
        torch.from_numpy(noise(batch, side, side, 3)).permute(0, 3, 1, 2),
        torch.from_numpy(noise(batch, side, side)),
    )
    labels %= CLASSES
    if here.type == "cuda":
        pixels, labels = pixels.pin_memory(), labels.pin_memory()
    network = torch.compile(model) if compiled else model

    def work() -> None:
        optimizer.zero_grad()
        images = pixels.to(here, non_blocking=True) / 127.5 - 1
        masks = labels.to(here, non_blocking=True).long()
        with autocast(here, precision):
            logits = network(images)
        F.cross_entropy(logits.float(), masks, ignore_index=255).backward()
        optimizer.step()

    return work


def cases(
    backbone: str = "xception65",
    width: float = 1.0,
    side: int | None = None,
    batch: int | None = None,
    encoder: str = "tu-xception65",
    peer_side: int | None = None,
) -> list[Case]:
    """Compare training steps with segmentation-models-pytorch's, which needs sides divisible by 16.

    In float32, and in the precision that the hardware is fastest at; on a GPU also compiled.

    Args:
        backbone, width: of our network.
        side, batch: of the crops. None: 16 of 513x513 on a GPU, 2 of 321x321 on a CPU.
        encoder: of the peer.
        peer_side: of its crops. None: one pixel less.
    """
    from ...distributed import device
    from ...precision import best_precision

    here = device()
    gpu = here.type == "cuda"
    side, batch = side or (513 if gpu else 321), batch or (16 if gpu else 2)
    peer_side = peer_side or side - 1
    # The gradients of the input and of the weights need as many multiply-adds each as the forward pass.
    amount = 3 * batch * multiply_adds(backbone, width, side)
    found = []
    for precision in dict.fromkeys(("float32", best_precision(here))):
        for compiled in (False, True) if gpu else (False,):
            how = precision + ", compiled" * compiled
            ours = Side(f"ours, {how}", our_step, (backbone, width, side, batch, precision, compiled))
            peer = Side(
                f"smp DeepLabV3Plus {encoder}, {peer_side}x{peer_side}",
                smp_step,
                (encoder, peer_side, batch, precision, compiled),
            )
            name = f"batch {batch}, {side}x{side}, {how}"
            found.append(Case("train-step", name, ours, peer, arithmetic_limit(amount, precision)))
    return found
