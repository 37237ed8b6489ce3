"""One training step: forward pass, loss, backward pass and update, with mixed precision, accumulation and several processes."""

import contextlib
import functools
import inspect
import math
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from .. import distributed
from ..config import TrainConfig
from ..data.loader import Batch
from ..host_copy import HostCopy
from ..labels import VOID
from ..memory import keep_free_memory
from ..models.interface import SegmentationModel
from ..models.layers import LogitsModule
from ..models.ops.recompute import recompute
from ..models.preprocess import network_input
from ..precision import autocast, cuda_algorithms
from .activation_checkpointing import checkpoint_activations
from .batch_norm import all_synchronized, freeze_backbone, freeze_batch_norm, set_batch_norm_momentum, synchronize_batch_norm
from .losses import Loss, hard_share
from .memory import choose_precision, choose_recompute
from .optimizer import learning_rate, make_optimizer, set_learning_rate

DROPOUT = 4
"""Random stream of dropout; the sampler and the loader have their own."""
BROADCAST = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(nn.parallel.DistributedDataParallel.__init__).parameters
)
"""PyTorch's name for sending the buffers of rank 0 to all processes before each forward pass; it changed in 2.14."""


def prepare_mode(model: nn.Module, config: TrainConfig) -> None:
    """Put the network into training mode, with batch norm as configured: its momentum, and where it is frozen."""
    model.train()
    set_batch_norm_momentum(model, config.batch_norm_momentum)
    freeze_batch_norm(model, config.freeze_batch_norm)


def seed_part(seed: int, iteration: int, rank: int, part: int) -> None:
    """Seed torch for one part of a batch: a resumed run draws the same dropout as an uninterrupted one."""
    sequence = np.random.SeedSequence([seed, DROPOUT, iteration, rank, part])
    torch.manual_seed(int(sequence.generate_state(1)[0]))


class Step:
    """Updates the weights from the batch of one iteration: `step(iteration, batch)`.

    The gradient is that of the mean loss over the labeled pixels of the whole batch, on any number of processes and in any
    number of parts. Where batch norm is frozen, both change only the rounding. Where it trains, all processes normalize
    together, and each part is normalized by itself, as in a smaller batch. The losses of segmentation-models-pytorch, and
    that of hard pixels, are not sums over pixels: they are averaged over parts and processes.

    Args:
        model: the network, on `device`.
        loss: on `device`.
        config: the settings of the training.
        device: where to compute.
        crop: height and width of the crops, in pixels, for the estimate of the memory.

    Raises:
        UserError: if the network does not support activation checkpointing.
    """

    def __init__(self, model: nn.Module, loss: Loss, config: TrainConfig, device: torch.device, crop: tuple[int, int]):
        self.device, self.loss = device, loss
        if config.freeze_backbone:
            freeze_backbone(model)
        if distributed.world_size() > 1:
            model = synchronize_batch_norm(model, device)
        self.model = model
        self.optimizer = make_optimizer(model, config)
        prepare_mode(model, config)
        self.precision = choose_precision(config, device)
        recomputes = choose_recompute(model, config, *crop, device)
        self.config = replace(config, precision=self.precision, recompute=recomputes)
        """The settings, without auto."""
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "float16")
        if config.checkpoint_activations:
            checkpoint_activations(model)
        if device.type == "cpu":
            keep_free_memory()
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # what names no GPU, such as a generator, is on the current one
        self._modules, self._modes = list(model.modules()), list[bool]()
        self._stops: list[HostCopy] = []
        self._outcomes: list[tuple[int, HostCopy]] = []

    @functools.cached_property
    def parallel(self) -> nn.Module:
        """The network's logits, distributed and compiled as configured.

        Built at the first step: DistributedDataParallel communicates when it is built, and would hang if another process had
        failed to open its data.
        """
        network: nn.Module = LogitsModule(self.model)
        if distributed.world_size() > 1:
            network = nn.parallel.DistributedDataParallel(
                network,
                device_ids=[self.device.index] if self.device.type == "cuda" else None,
                # Synchronized norms have the same moving statistics in all processes.
                **{BROADCAST: not all_synchronized(self.model)},  # type: ignore[arg-type]
                gradient_as_bucket_view=True,
                # A network of the library may have parts that its forward pass does not use.
                find_unused_parameters=not hasattr(self.model, "aspp"),
            )
        return torch.compile(network) if self.config.compile else network  # type: ignore[return-value]

    def __call__(self, iteration: int, batch: Batch, stop: bool = False) -> bool:
        """Update the weights, unless the gradient is not finite (see `failures`).

        Afterwards `loss_value` is this process's share of the loss, and `learning_rate` that of the iteration.

        Args:
            iteration: from 0.
            batch: this process's part of the batch.
            stop: whether this process was asked to stop.

        Returns:
            Whether any process was asked to stop. With several processes, this is known one step later.
        """
        config = self.config
        self._ensure_mode()
        self.learning_rate = learning_rate(iteration, config)
        set_learning_rate(self.optimizer, self.learning_rate)
        self.loss.share = hard_share(iteration, config)
        batch = Batch(*(tensor.to(self.device, non_blocking=True) for tensor in batch))
        # One all-reduce for both: the labeled pixels of the whole batch, and whether a process was asked to stop.
        asked = torch.full((), int(stop), device=self.device)
        sums = distributed.all_reduce_sum(torch.stack([(batch.masks != VOID).sum(), asked]))
        # DistributedDataParallel averages gradients, so the mean is over pixels / world size.
        pixels = sums[0].clamp(min=1) / distributed.world_size()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss_value = torch.zeros((), device=self.device)
        parts = [Batch(*part) for part in zip(*(t.chunk(config.grad_accumulation) for t in batch), strict=True)]
        statistics = cast(SegmentationModel, self.model)
        with cuda_algorithms(self.precision, config.deterministic):
            for index, part in enumerate(parts):
                seed_part(config.seed, iteration, distributed.rank(), index)
                images = network_input(part.images, part.extents, statistics.mean, statistics.std)
                with self._gradients_kept_local(index + 1 < len(parts)):
                    self.loss_value += self._pass(images, part.masks, pixels)
            self._update_weights(iteration)
        if distributed.world_size() == 1:
            return stop
        self._stops.append(HostCopy(sums[1:]))
        return len(self._stops) > 1 and bool(self._stops.pop(0)()[0] > 0)

    def _ensure_mode(self) -> None:
        """Set the training mode if it was changed, for example by a callback. For Xception-65, comparing the modes takes 20
        microseconds, setting them 1.6 milliseconds."""
        if [module.training for module in self._modules] != self._modes:
            prepare_mode(self.model, self.config)
            self._modes = [module.training for module in self._modules]

    def _pass(self, images: Tensor, masks: Tensor, pixels: Tensor) -> Tensor:
        """Run the forward pass, the loss and the backward pass of a part of the batch, and return its loss.

        With compiling or checkpointing, these decide what the backward pass recomputes."""
        config = self.config
        recomputes = config.recompute and not (config.compile or config.checkpoint_activations)
        with recompute() if recomputes else contextlib.nullcontext(), autocast(self.device, self.precision):
            logits: Tensor = self.parallel(images)
        loss: Tensor = self.loss(logits, masks, pixels, config.grad_accumulation)
        self.scaler.scale(loss).backward()
        return loss.detach()

    def _gradients_kept_local(self, more_parts: bool) -> AbstractContextManager[None]:
        """Context that keeps gradients local: processes exchange them only with the last part of the batch."""
        if more_parts and distributed.world_size() > 1:
            return self.parallel.no_sync()  # type: ignore[operator, no-any-return]
        return contextlib.nullcontext()

    def _update_weights(self, iteration: int) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in parameters])
        if self.config.grad_clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.config.grad_clip_norm, norm)
        if not self.scaler.is_enabled():
            # As with a scaler, the optimizer skips the update on the device: the host does not wait for the norm.
            self.optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._outcomes.append((iteration, HostCopy(torch.stack([norm, self.loss_value.to(norm)]))))

    def failures(self, under_way: int = 0) -> list[tuple[int, float]]:
        """Return the steps since the last call whose gradient was not finite. They did not update the weights.

        With float16, an overflow is not a failure: it adjusts the scale of the loss.

        Args:
            under_way: number of last steps to leave for the next call instead of waiting for them.

        Returns:
            Iteration and loss of each.
        """
        found = []
        while len(self._outcomes) > under_way:
            iteration, outcome = self._outcomes.pop(0)
            norm, loss = outcome().tolist()
            overflow = self.scaler.is_enabled() and math.isfinite(loss)
            if not math.isfinite(norm) and not overflow:
                found.append((iteration, loss))
        return found

    def finite_statistics(self) -> bool:
        """Whether batch norm's moving statistics are finite. An overflow in the forward pass makes them invalid, even if the
        update of the weights is skipped."""
        return all(bool(torch.isfinite(statistic).all()) for statistic in self.model.buffers())

    def mean_loss(self) -> float:
        """Return the loss of the last step, averaged over all processes. All processes must call this. Waits for the device."""
        return float(distributed.all_reduce_sum(self.loss_value.clone()) / distributed.world_size())
