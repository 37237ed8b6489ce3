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

_recipes: dict[int, tuple[StorageWeakRef, "Recipe"]] | None = None
"""Of the outputs of batch norms in the forward pass under way, by storage; None outside of `lean`."""


class Recipe:
    """How to compute relu(norm(x)) again; the result is kept from its first use until batch norm's own backward pass."""

    def __init__(self, out: Tensor, x: Tensor, norm: nn.BatchNorm2d, relu: bool, mean: Tensor, inverse_std: Tensor):
        self.layout = out.shape, out.stride(), out.dtype
        self.x, self.norm, self.relu, self.eps = x, norm, relu, norm.eps
        self.weight, self.bias = norm.weight.detach(), norm.bias.detach()
        self.training, self.mean, self.inverse_std = norm.training, mean, inverse_std
        self.result = None

    @torch.no_grad()
    def tensor(self) -> Tensor:
        if self.result is None:
            mean, variance = self.norm.running_mean, self.norm.running_var
            if self.training:
                mean, variance = self.mean, self.inverse_std.pow(-2) - self.eps
            self.result = F.batch_norm(self.x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
            if self.relu:
                self.result.relu_()
        return self.result


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, norm, relu):
        out, mean, inverse_std = torch.native_batch_norm(
            x, weight, bias, norm.running_mean, norm.running_var, norm.training, norm.momentum, norm.eps
        )
        if relu:
            out.relu_()
        recipe = Recipe(out, x.detach(), norm, relu, mean, inverse_std)
        storage = out.untyped_storage()
        # The weak reference keeps the key from being given to another storage.
        _recipes[storage._cdata] = (StorageWeakRef(storage), recipe)
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
    return kept.tensor() if isinstance(kept, Recipe) else kept


@contextlib.contextmanager
def lean():
    """Around a forward pass whose backward pass is to come: see this module's head."""
    global _recipes
    _recipes = {}
    try:
        with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
            yield
    finally:
        _recipes = None
