"""Batch norm of the networks: PyTorch's, and two ways to train it better with several processes and on GPUs.

Synchronized, it normalizes with the statistics of all processes' batches. torch.nn.SyncBatchNorm does so too, but selects the
processes with samples by a boolean mask: the host waits for the device at each of the 146 layers of DeepLab V3+ on Xception-65,
and torch.compile cannot trace it. Here every process has as many values, as `train.batch_size` demands, and one sum over the
processes is enough.

Frozen on a GPU, the operator's gradient of channels-last maps is contiguous, and cuDNN copies it back for every convolution:
31 GB a step at output stride 8. Here the gradient keeps the layout.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ... import distributed


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the numbers and the state dict of PyTorch's; see the module's docstring.

    It does not count batches: PyTorch adds 1 to `num_batches_tracked` in each training step, 146 small operations. Only
    `momentum=None` reads that counter. Here it stays 0.
    """

    synchronized = False
    """Whether it trains on the statistics of all processes' batches, which must have one size."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the maps [N, C, H, W]: with the batch's statistics in training mode, else with the moving statistics."""
        if self.momentum is None or self.running_mean is None:
            return super().forward(x)
        shared = self.training and self.synchronized
        if torch.compiler.is_compiling():
            if shared:
                return self._traceable(x)
        elif torch.is_grad_enabled() and (shared or (not self.training and x.is_cuda)):
            out: Tensor = _BatchNorm.apply(x, self.weight, self.bias, self)
            return out
        elif shared:
            return normalized(x, self)[0]
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x, *statistics, self.weight, self.bias, self.training, self.momentum, self.eps)

    def _traceable(self, x: Tensor) -> Tensor:
        """Synchronized training in operations that torch.compile traces and fuses; autograd derives the gradient."""
        values = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        variance, own_mean = torch.var_mean(values, (0, 2, 3), correction=0)
        # Not about the moving mean, as in eager mode: the compiled backward pass would read it after its update.
        mean = torch.ops.seg.all_reduce_sum(own_mean) / distributed.world_size()
        variance = torch.ops.seg.all_reduce_sum(variance + (own_mean - mean) ** 2) / distributed.world_size()
        self.update_moving_statistics(mean.detach(), variance.detach(), x)
        scale = self.weight * (variance + self.eps).rsqrt()
        out: Tensor = values * scale.view(-1, 1, 1) + (self.bias - mean * scale).view(-1, 1, 1)
        return out.to(x.dtype)

    def over_processes(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance over the batches of all processes, from those of this process's batch."""
        # About the moving mean, which all processes share: the square of a large mean would cancel the digits of the variance.
        assert self.running_mean is not None
        offset = mean - self.running_mean
        offset, square = distributed.all_reduce_sum(torch.stack([offset, variance + offset**2])) / distributed.world_size()
        return self.running_mean + offset, square - offset**2

    @torch.no_grad()
    def update_moving_statistics(self, mean: Tensor, variance: Tensor, x: Tensor) -> None:
        """Move the moving statistics towards those of all processes' batches, of which `x` is this process's."""
        count = values_per_channel(x) * distributed.world_size()
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)


class SinglePixelBatchNorm2d(BatchNorm2d):
    """Batch norm that also trains on a single value per channel, such as the pooled features of one image.

    One value has no variance. It is normalized with the moving statistics, which do not change.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the maps [N, C, H, W]."""
        if self.training and values_per_channel(x) * (distributed.world_size() if self.synchronized else 1) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


def values_per_channel(x: Tensor) -> int:
    """Number of values of each channel of maps [N, C, H, W]."""
    return x.shape[0] * x.shape[2] * x.shape[3]


@torch.library.custom_op("seg::all_reduce_sum", mutates_args=())
def _all_reduce_sum(values: Tensor) -> Tensor:
    """The sum over all processes, as an operation that torch.compile keeps in its graph."""
    return distributed.all_reduce_sum(values.clone())


_all_reduce_sum.register_fake(torch.empty_like)
# The gradient of a sum over processes is the sum of their gradients.
_all_reduce_sum.register_autograd(lambda ctx, grad: torch.ops.seg.all_reduce_sum(grad.contiguous()))


def normalized(x: Tensor, norm: BatchNorm2d, out: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Apply a batch norm in its mode, without a trace for autograd, and update its moving statistics.

    Args:
        x: maps [N, C, H, W].
        norm: with moving statistics.
        out: memory for the result; None: its own.

    Returns:
        The normalized maps, and the batch's mean and inverse standard deviation [C]: those of all processes if the norm is
        synchronized, undefined if it is not in training mode.
    """
    assert norm.running_mean is not None and norm.running_var is not None
    if not (norm.training and norm.synchronized):
        return native_batch_norm(x, norm, (norm.running_mean, norm.running_var), norm.training, out)
    if x.is_cuda:
        mean, inverse_std = torch.batch_norm_stats(x, norm.eps)
        variance = inverse_std.pow(-2) - norm.eps
    else:
        variance, mean = torch.var_mean(x.to(norm.running_mean.dtype), (0, 2, 3), correction=0)
    mean, variance = norm.over_processes(mean, variance)
    norm.update_moving_statistics(mean, variance, x)
    result, _, _ = native_batch_norm(x, norm, (mean, variance), False, out)
    return result, mean, (variance + norm.eps).rsqrt()


def native_batch_norm(
    x: Tensor, norm: nn.BatchNorm2d, statistics: tuple[Tensor, Tensor], training: bool, out: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """PyTorch's operator with the weights of a norm and other statistics (mean and variance); results as in `normalized`."""
    mean, variance = statistics
    batch_mean, inverse_std = (mean.new_empty(len(mean) if training else 0) for _ in range(2))
    out = torch.empty_like(x) if out is None else out
    torch.ops.aten.native_batch_norm.out(
        x,
        norm.weight.detach(),
        norm.bias.detach(),
        mean,
        variance,
        training,
        norm.momentum,
        norm.eps,
        out=out,
        save_mean=batch_mean,
        save_invstd=inverse_std,
    )
    return out, batch_mean, inverse_std


def gradients(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
    norm: BatchNorm2d,
    training: bool,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of a batch norm's input, weight and bias.

    Args:
        grad: of the output.
        x: the input.
        weight: of the norm.
        mean, inverse_std: as `normalized` returned them.
        norm: with the moving statistics of the forward pass, if that was in evaluation mode.
        training: the norm's mode in the forward pass.
        wanted: which of the three to compute.
    """
    shared = training and norm.synchronized
    ours = shared or (not training and x.is_cuda)
    # The sums over the pixels are the gradients of weight and bias.
    summed = [wanted[0] and not ours, wanted[1] or (shared and wanted[0]), wanted[2] or (shared and wanted[0])]
    grad_x = grad_weight = grad_bias = None
    if any(summed):
        statistics = norm.running_mean, norm.running_var, mean, inverse_std, training, norm.eps
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(grad, x, weight, *statistics, summed)
    if wanted[0] and shared:
        assert grad_weight is not None and grad_bias is not None
        sums = distributed.all_reduce_sum(torch.stack([grad_weight, grad_bias]))
        grad_x = _synchronized_gradient(grad, x, weight, mean, inverse_std, *sums)
    elif wanted[0] and ours:
        assert norm.running_var is not None
        scale = weight * (norm.running_var + norm.eps).rsqrt()
        grad_x = torch.mul(grad, scale.view(-1, 1, 1), out=torch.empty_like(grad))
    return grad_x, grad_weight if wanted[1] else None, grad_bias if wanted[2] else None


def _synchronized_gradient(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse_std: Tensor, grad_weight: Tensor, grad_bias: Tensor
) -> Tensor:
    """The gradient of the input of a synchronized norm, from the gradients of weight and bias summed over all processes."""
    count = values_per_channel(x) * distributed.world_size()
    if x.is_cuda:
        counts = torch.full((1,), count, dtype=torch.int32, device=x.device)
        fused: Tensor = torch.batch_norm_backward_elemt(
            grad, x, mean, inverse_std, weight, grad_bias, grad_weight / inverse_std, counts
        )
        return fused
    scale, factor = weight * inverse_std, -weight * inverse_std**2 * grad_weight / count
    offset = -scale * grad_bias / count - factor * mean
    scale, factor, offset = (values.view(1, -1, 1, 1) for values in (scale, factor, offset))
    return torch.addcmul(offset, grad, scale).addcmul_(x, factor).to(x.dtype)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: BatchNorm2d) -> Tensor:
        out, mean, inverse_std = normalized(x, norm)
        ctx.save_for_backward(x, weight, mean, inverse_std)
        ctx.norm, ctx.training = norm, norm.training
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_std = ctx.saved_tensors
        return *gradients(grad, x, weight, mean, inverse_std, ctx.norm, ctx.training, ctx.needs_input_grad[:3]), None
