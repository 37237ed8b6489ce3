"""Parameters, multiply-adds and output sizes, counted on the meta device: without memory and without arithmetic."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CONTAINERS = ("backbone", "flow", "network")
"""Modules whose children are the parts, not the modules themselves."""


def trainable_parameters(module: nn.Module) -> int:
    """Number of the module's parameters that are not frozen."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@dataclass
class Row:
    """A part of a network."""

    name: str
    size: list[int]
    """Of its output: C, H, W."""
    parameters: int
    """Trainable ones."""
    multiply_adds: int


def parts(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Name and module of each part of a network, in order: blocks of the backbone, ASPP, decoder, classifier."""
    for name, child in module.named_children():
        if name in CONTAINERS:
            yield from parts(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def summary(model: nn.Module, height: int, width: int) -> list[Row]:
    """The network's parts that run, in order, and its total.

    Multiply-adds are those of the convolutions, as the paper counts them. Batch norm is left out, as it folds into them; so are
    ReLU, pooling and resizes.

    Args:
        model: on any device; it stays as it is.
        height, width: of the image, in pixels.
    """
    twin = copy.deepcopy(model).to("meta").eval()
    rows: dict[str, Row] = {}
    for name, part in parts(twin):
        row = rows[name] = Row(name, [], trainable_parameters(part), 0)
        part.register_forward_hook(_size_hook(row))
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(_multiply_adds_hook(row))
    with torch.no_grad():
        output = twin(torch.empty(1, 3, height, width, device="meta"))
    total = Row("total", list(output.shape[1:]), trainable_parameters(model), sum(row.multiply_adds for row in rows.values()))
    return [*(row for row in rows.values() if row.size), total]


def _multiply_adds_hook(row: Row) -> Callable[..., None]:
    def count(conv: nn.Conv2d, inputs: Any, output: Tensor) -> None:
        kernel = conv.kernel_size[0] * conv.kernel_size[1]
        row.multiply_adds += output.numel() * kernel * conv.in_channels // conv.groups

    return count


def _size_hook(row: Row) -> Callable[..., None]:
    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        # A block gives its output first, an encoder its features last.
        while not isinstance(output, Tensor):
            output = output[0] if isinstance(output, tuple) else output[-1]
        row.size = list(output.shape[1:])

    return note
