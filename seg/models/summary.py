"""Parameters, multiply-adds and sizes, counted on the meta device: no memory, no arithmetic."""

import copy
from dataclasses import dataclass

import torch
from torch import nn

CONTAINERS = ("backbone", "flow", "network")
"""Parts that the summary opens."""


def trainable_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@dataclass
class Row:
    """A part of a network: the size of its output N,C,H,W without N, its trainable parameters and multiply-adds."""

    name: str
    size: list[int]
    parameters: int
    multiply_adds: int


def parts(module: nn.Module, prefix=""):
    """Name and module of each part of a network, in order."""
    for name, child in module.named_children():
        if name in CONTAINERS:
            yield from parts(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def summary(model: nn.Module, height: int, width: int) -> list[Row]:
    """A row for each part that runs on an image of height x width, in order, and the total.

    Multiply-adds are the convolutions', counted as the paper does. Batch norm folds into them; it, ReLU, pooling and resizes
    are left out.
    """
    twin = copy.deepcopy(model).to("meta").eval()
    rows: dict[str, Row] = {}

    def conv_hook(row: Row):
        def count(conv, inputs, output):
            kernel = conv.kernel_size[0] * conv.kernel_size[1]
            row.multiply_adds += output.numel() * kernel * conv.in_channels // conv.groups

        return count

    def size_hook(row: Row):
        def note(module, inputs, output):
            while not isinstance(output, torch.Tensor):
                output = output[0] if isinstance(output, tuple) else output[-1]
            row.size = list(output.shape[1:])

        return note

    for name, part in parts(twin):
        row = rows[name] = Row(name, [], trainable_parameters(part), 0)
        part.register_forward_hook(size_hook(row))
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(conv_hook(row))
    with torch.no_grad():
        output = twin(torch.empty(1, 3, height, width, device="meta"))
    total = Row("total", list(output.shape[1:]), trainable_parameters(model), sum(row.multiply_adds for row in rows.values()))
    return [*(row for row in rows.values() if row.size), total]
