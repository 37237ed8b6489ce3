"""Training in less memory: what batch norm and ReLU give is computed again in the backward pass instead of kept.

A convolution keeps its input for the gradient of its weights, and batch norm keeps its own input. Of `conv(relu(norm(x)))` both
x and relu(norm(x)) stay in memory, though the second is a cheap function of the first. Within `lean()` only x stays, about half
of what a separable network keeps, for one elementwise pass more (arXiv 1707.06990 does it for DenseNet).
"""

import contextlib
import weakref

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.multiprocessing.reductions import StorageWeakRef

_recipes: dict[int, tuple[StorageWeakRef, "RecomputedOutput"]] | None = None
"""Of the outputs of batch norms in the forward pass under way, by storage; None outside of `lean`."""
SLACK = 32
"""Values more than a map has. The C library aligns memory, and so finds no room for a map where one of the very same size was;
with so much more, maps that stay fill the gaps that others leave."""


class RecomputedOutput:
    """How to compute the output of a norm again, as `compute(x)`; the result is kept from its first use until the norm's own
    backward pass."""

    def __init__(self, out: Tensor, compute, x: Tensor):
        self.layout = out.shape, out.stride(), out.dtype
        self.compute, self.x = compute, x.detach()
        self.result = None
        storage = out.untyped_storage()
        # The weak reference keeps the key from being given to another storage.
        _recipes[storage._cdata] = (StorageWeakRef(storage), self)

    @torch.no_grad()
    def tensor(self) -> Tensor:
        if self.result is None:
            self.result = self.compute(self.x)
        return self.result


def _room_like(x: Tensor) -> Tensor:
    storage = x.new_empty(x.numel() + SLACK).untyped_storage()
    # Not a view, which autograd would not let a later operation change in place.
    return x.new_empty(0).set_(storage, 0, x.shape, x.stride())


def _normalized(x: Tensor, norm: nn.BatchNorm2d, relu: bool, mean, variance, training: bool):
    """relu(norm(x)), or norm(x), and the statistics of the batch."""
    out = _room_like(x)
    batch_mean, inverse_std = (mean.new_empty(len(mean) if training else 0) for _ in range(2))
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
    return out.relu_() if relu else out, batch_mean, inverse_std


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, norm, relu):
        statistics = norm.running_mean, norm.running_var
        out, mean, inverse_std = _normalized(x, norm, relu, *statistics, norm.training)
        if norm.training:
            statistics = mean, inverse_std.pow(-2) - norm.eps
        recipe = RecomputedOutput(out, lambda x: _normalized(x, norm, relu, *statistics, False)[0], x)
        # What is saved goes when the backward pass has used it; an attribute would stay as long as the graph.
        ctx.recipe = weakref.ref(recipe)
        ctx.save_for_backward(x, weight, mean, inverse_std, *([out] if relu else []))
        ctx.norm, ctx.training = norm, norm.training
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, mean, inverse_std, *result = ctx.saved_tensors
        recipe = ctx.recipe()
        if recipe is not None:
            recipe.result = None
        if result:
            # The result is needed no more: its memory takes the gradient.
            grad = torch.ops.aten.threshold_backward.grad_input(grad, *result, 0, grad_input=result[0])
        statistics = ctx.norm.running_mean, ctx.norm.running_var, mean, inverse_std, ctx.training, ctx.norm.eps
        wanted = list(ctx.needs_input_grad[:3])
        return *torch.ops.aten.native_batch_norm_backward(grad, x, weight, *statistics, wanted), None, None


def norm_relu(norm: nn.Module, x: Tensor, relu: bool) -> Tensor:
    """relu(norm(x)), or norm(x)."""
    # Subclasses, and what takes a batch norm's place, have a forward of their own.
    if _recipes is not None and type(norm) is nn.BatchNorm2d and torch.is_grad_enabled() and x.requires_grad:
        if norm.training:
            norm.num_batches_tracked.add_(1)
        return _Norm.apply(x, norm.weight, norm.bias, norm, relu)
    x = norm(x)
    return F.relu(x, inplace=True) if relu else x


def _pack(tensor: Tensor):
    _, recipe = _recipes.get(tensor.untyped_storage()._cdata, (None, None))
    fits = recipe is not None and recipe.layout == (tensor.shape, tensor.stride(), tensor.dtype)
    return recipe if fits else tensor


def _unpack(kept) -> Tensor:
    return kept.tensor() if isinstance(kept, RecomputedOutput) else kept


@contextlib.contextmanager
def recompute():
    """Around a forward pass whose backward pass is to come: see this module's head."""
    global _recipes
    _recipes = {}
    try:
        with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
            yield
    finally:
        _recipes = None
