"""Less memory in training: the output of batch norm and ReLU is computed again in the backward pass instead of kept.

A convolution keeps its input for the gradient of its weights, and batch norm keeps its own input. Of `conv(relu(norm(x)))`,
both x and relu(norm(x)) stay in memory, though the second is a cheap function of the first. Within `recompute()` only x stays:
about half of what a separable network keeps, for one more elementwise pass. arXiv 1707.06990 does this for DenseNet.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.multiprocessing.reductions import StorageWeakRef

from .batch_norm import BatchNorm2d, gradients, native_batch_norm, normalized

_recorded: dict[int, tuple[StorageWeakRef, "RecomputedOutput"]] | None = None
"""Outputs of the batch norms in the current forward pass, by storage. None outside of `recompute`."""
SLACK = 32
"""Extra values in the memory of a map. The C library aligns memory, and so does not reuse the gap of a map for another one of
exactly the same size; with this slack, it does."""


class RecomputedOutput:
    """How to compute a norm's output again.

    The result is kept from its first use until the norm's own backward pass.

    Args:
        out: the output, whose place this takes among what the graph keeps.
        compute: gives the same values from `x`.
        x: the norm's input.
    """

    def __init__(self, out: Tensor, compute: Callable[[Tensor], Tensor], x: Tensor):
        self.layout = out.shape, out.stride(), out.dtype
        self.compute, self.x = compute, x.detach()
        self.result: Tensor | None = None
        storage = out.untyped_storage()
        if _recorded is not None:
            # The weak reference keeps the key from being given to another storage.
            _recorded[storage._cdata] = (StorageWeakRef(storage), self)

    @torch.no_grad()
    def tensor(self) -> Tensor:
        """The output, computed on the first call."""
        if self.result is None:
            self.result = self.compute(self.x)
        return self.result


def _empty_with_slack(x: Tensor) -> Tensor:
    # .data, not a view: autograd would not let a later operation change a view in place.
    return x.new_empty(x.numel() + SLACK).as_strided(x.shape, x.stride()).data


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: BatchNorm2d, relu: bool) -> Tensor:
        out, mean, inverse_std = normalized(x, norm, _empty_with_slack(x))
        if relu:
            out.relu_()
        statistics: tuple[Any, Any] = norm.running_mean, norm.running_var
        if norm.training:
            statistics = mean, inverse_std.pow(-2) - norm.eps

        def compute(x: Tensor) -> Tensor:
            result, _, _ = native_batch_norm(x, norm, statistics, False, _empty_with_slack(x))
            return result.relu_() if relu else result

        output = RecomputedOutput(out, compute, x)
        # Saved tensors are freed once the backward pass has used them; an attribute would stay as long as the graph.
        ctx.output = weakref.ref(output)
        ctx.save_for_backward(x, weight, mean, inverse_std, *([out] if relu else []))
        ctx.norm, ctx.training = norm, norm.training
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_std, *result = ctx.saved_tensors
        output = ctx.output()
        if output is not None:
            output.result = None
        if result:
            # The result is no longer needed: the gradient takes its memory.
            grad = torch.ops.aten.threshold_backward.grad_input(grad, *result, 0, grad_input=result[0])
        wanted = ctx.needs_input_grad[:3]
        return *gradients(grad, x, weight, mean, inverse_std, ctx.norm, ctx.training, wanted), None, None


def norm_relu(norm: nn.Module, x: Tensor, relu: bool) -> Tensor:
    """norm(x), or with `relu` relu(norm(x)). Within `recompute`, a batch norm's output is not kept for the backward pass."""
    out: Tensor
    # Exactly this class: its subclasses, and what takes a batch norm's place, have a forward of their own.
    if _recorded is not None and type(norm) is BatchNorm2d and torch.is_grad_enabled() and x.requires_grad:
        out = _Norm.apply(x, norm.weight, norm.bias, norm, relu)
        return out
    out = norm(x)
    return F.relu(out, inplace=True) if relu else out


def _pack(tensor: Tensor) -> RecomputedOutput | Tensor:
    """What the graph keeps in place of a tensor."""
    _, output = (_recorded or {}).get(tensor.untyped_storage()._cdata, (None, None))
    if output is not None and output.layout == (tensor.shape, tensor.stride(), tensor.dtype):
        return output
    # Detached: an operation that keeps its own output, such as ReLU, would refer to itself through the output's graph. No
    # garbage collector sees that circle, and without a backward pass it is never freed.
    return tensor.detach()


def _unpack(kept: RecomputedOutput | Tensor) -> Tensor:
    return kept.tensor() if isinstance(kept, RecomputedOutput) else kept


@contextlib.contextmanager
def recompute() -> Iterator[None]:
    """Around a forward pass: keep less of it for its backward pass, with the same gradients. See the module's docstring."""
    global _recorded
    _recorded = {}
    try:
        with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
            yield
    finally:
        _recorded = None
