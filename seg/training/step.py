"""One update of the weights from the crops of one iteration: precision, accumulation, processes and guards."""

import contextlib
import math

import numpy as np
import torch
from torch import Tensor, nn

from .. import distributed
from ..config import TrainConfig
from ..data.loader import Batch
from ..errors import UserError
from ..labels import VOID
from ..memory import keep_free_memory
from ..models.layers import LogitsModule
from ..models.ops.recompute import recompute
from ..models.preprocess import network_input
from ..progress import print_stderr
from .activation_checkpointing import checkpoint_activations
from .losses import Loss
from .optimizer import learning_rate, make_optimizer, set_learning_rate

DROPOUT = 4
"""Stream of random numbers, beside the loader's."""
FEW = 12
"""Images a batch norm should at least train on: the released code's advice."""
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def prepare_mode(model: nn.Module, config: TrainConfig) -> None:
    """Training mode, with the batch norms that the configuration freezes in evaluation mode, and its momentum in all."""
    model.train()
    frozen = {"none": [], "backbone": model.backbone.modules(), "all": model.modules()}[config.freeze_batch_norm]
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = config.batch_norm_momentum
    for module in frozen:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def seed_part(seed: int, iteration: int, rank: int, part: int) -> None:
    """Dropout is a function of these, so that a resumed run draws what an uninterrupted one does."""
    sequence = np.random.SeedSequence([seed, DROPOUT, iteration, rank, part])
    torch.manual_seed(int(sequence.generate_state(1)[0]))


class AsyncHostCopy:
    """Numbers on their way from the device. Asked for a step later, they do not keep the processor from giving it more work."""

    def __init__(self, values: Tensor):
        self.values, self.event = values, None
        if values.device.type == "cuda":
            self.values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()

    def __call__(self) -> list[float]:
        if self.event is not None:
            self.event.synchronize()
        return self.values.tolist()


class Step:
    """`step(iteration, batch)` updates `step.model`. The batch is this process's part of it.

    The gradient is that of the mean loss over the labeled pixels of the whole batch, on however many processes and in however
    many parts: with batch norm frozen both change nothing but rounding. Where batch norm trains, each part is normalized
    by itself, as it would be in a smaller batch (by all processes together on GPUs). The losses of segmentation-models-pytorch,
    which are no sums over pixels, are averaged over parts and processes.
    """

    def __init__(self, model: nn.Module, loss: Loss, config: TrainConfig, device: torch.device):
        self.config, self.device, self.loss = config, device, loss
        trains = config.freeze_batch_norm != "all"
        if config.freeze_backbone:
            model.backbone.requires_grad_(False)
        if distributed.world_size() > 1 and trains and device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model = model
        self.optimizer = make_optimizer(model, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        if config.checkpoint_activations:
            checkpoint_activations(model)
        if device.type == "cpu":
            keep_free_memory()
        self.parallel = LogitsModule(model)
        if distributed.world_size() > 1:
            # A library's network may have parts that its forward pass leaves out.
            ids = [device.index] if device.type == "cuda" else None
            unused = not hasattr(model, "aspp")
            self.parallel = nn.parallel.DistributedDataParallel(self.parallel, device_ids=ids, find_unused_parameters=unused)
        if config.compile:
            self.parallel = torch.compile(self.parallel)
        self._stops: list[AsyncHostCopy] = []
        self._outcomes: list[tuple[int, AsyncHostCopy]] = []
        if trains and distributed.is_main():
            self._warn_of_few_images()

    def _warn_of_few_images(self) -> None:
        images = self.config.batch_size // self.config.grad_accumulation
        if self.device.type != "cuda":
            images //= distributed.world_size()
        if images < FEW:
            alone = distributed.world_size() > 1 and self.device.type != "cuda"
            print_stderr(
                f"seg: batch norm trains on {images} image{'s' * (images != 1)} at a time"
                + (": each process normalizes alone (PyTorch synchronizes batch norm on GPUs only)" * alone)
                + f"; its statistics are better from {FEW} on, or frozen: train.freeze_batch_norm"
            )

    def __call__(self, iteration: int, batch: Batch, stop: bool = False) -> bool:
        """Update the weights, but not where the gradient is no number (see `failures`).

        `stop`: this process was asked to end; the answer is whether any was, of several processes known a step later.
        `loss_value` (this process's share) and `rate` then tell of the step.
        """
        config = self.config
        prepare_mode(self.model, config)
        self.rate = learning_rate(iteration, config)
        set_learning_rate(self.optimizer, self.rate)
        batch = Batch(*(tensor.to(self.device, non_blocking=True) for tensor in batch))
        # One message for both: the labeled pixels of the whole batch, and whether a process was told to end.
        asked = torch.full((), int(stop), device=self.device)
        labeled = distributed.all_reduce_sum(torch.stack([(batch.masks != VOID).sum(), asked]))
        # Processes' gradients are averaged, so each counts its pixels as `world` times what they are.
        pixels = labeled[0].clamp(min=1) / distributed.world_size()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss_value = torch.zeros((), device=self.device)
        parts = list(zip(*(tensor.chunk(config.grad_accumulation) for tensor in batch), strict=True))
        for index, (images, masks, extents) in enumerate(parts):
            seed_part(config.seed, iteration, distributed.rank(), index)
            with self._without_exchange(index + 1 < len(parts)):
                with (
                    self._kept(),
                    torch.autocast(self.device.type, PRECISIONS[config.precision], enabled=config.precision != "float32"),
                ):
                    logits = self.parallel(network_input(images, extents, self.model.mean, self.model.std))
                loss = self.loss(logits, masks, pixels, len(parts))
                self.scaler.scale(loss).backward()
            self.loss_value += loss.detach()
        self._update(iteration)
        if distributed.world_size() == 1:
            return stop
        self._stops.append(AsyncHostCopy(labeled[1:]))
        return len(self._stops) > 1 and self._stops.pop(0)()[0] > 0

    def _kept(self):
        """What a forward pass keeps for its backward pass is little; torch.compile and checkpointing choose for themselves."""
        chosen = self.config.compile or self.config.checkpoint_activations
        return contextlib.nullcontext() if chosen else recompute()

    def _without_exchange(self, waiting: bool):
        """Where more parts come, processes do not yet exchange gradients."""
        if waiting and distributed.world_size() > 1:
            return self.parallel.no_sync()
        return contextlib.nullcontext()

    def _update(self, iteration: int) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in parameters])
        if self.config.grad_clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.config.grad_clip_norm, norm)
        if not self.scaler.is_enabled():
            # As a scaler has it, the optimizer itself leaves the step out, on the device: nothing waits for the answer.
            self.optimizer.found_inf = (~torch.isfinite(norm)).float()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._outcomes.append((iteration, AsyncHostCopy(torch.stack([norm, self.loss_value.to(norm)]))))

    def failures(self, under_way: int = 0) -> list[tuple[int, float]]:
        """Iteration and loss of each step, of those not yet asked for, whose gradient was no number: the weights stayed as they
        were. The last `under_way` steps are not waited for, but left for the next time.

        With float16 an overflow is no failure, but how the scale of the loss is found.
        """
        found = []
        while len(self._outcomes) > under_way:
            iteration, late = self._outcomes.pop(0)
            norm, loss = late()
            overflow = self.scaler.is_enabled() and math.isfinite(loss)
            if not math.isfinite(norm) and not overflow:
                found.append((iteration, loss))
        return found

    def sound(self) -> bool:
        """Whether batch norm's moving statistics are numbers: a forward pass that overflows ruins them, though its step is left
        out."""
        return all(torch.isfinite(statistic).all() for statistic in self.model.buffers())

    def mean_loss(self) -> float:
        """Of the last step, over all processes. Each must ask."""
        return float(distributed.all_reduce_sum(self.loss_value.clone()) / distributed.world_size())


def check_parts(config: TrainConfig) -> None:
    """Raises UserError where the batch cannot be dealt out evenly."""
    shares = distributed.world_size() * config.grad_accumulation
    if config.batch_size % shares:
        raise UserError(
            f"train.batch_size={config.batch_size}: cannot be dealt out evenly to {distributed.world_size()} processes with "
            f"train.grad_accumulation={config.grad_accumulation}; make it a multiple of {shares}"
        )
