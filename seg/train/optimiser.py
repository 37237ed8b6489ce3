"""Stochastic gradient descent and its schedule."""

import torch
from torch import nn

from ..config import TrainConfig


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict]:
    """Backbone and head, decayed and not. Each group's `multiplier` scales the learning rate.

    Decayed, as in the released code: weights of convolutions that are not depthwise. Not: those, batch norms and biases.
    """
    backbone = {id(p) for p in model.backbone.parameters()}
    groups = {
        (head, decayed): {
            "params": [],
            "weight_decay": config.weight_decay if decayed else 0.0,
            "multiplier": config.head_multiplier if head else 1.0,
        }
        for head in (False, True)
        for decayed in (True, False)
    }
    for module in model.modules():
        dense = not (isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1)
        for name, parameter in module.named_parameters(recurse=False):
            decayed = dense and parameter.ndim > 1 and name != "bias"
            groups[id(parameter) not in backbone, decayed]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def make_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    return torch.optim.SGD(parameter_groups(model, config), lr=config.learning_rate, momentum=config.momentum)


def learning_rate(iteration: int, config: TrainConfig) -> float:
    """Poly schedule `(1 - i / iterations) ^ power`, i from 0; within the warm-up also times (i + 1) / warmup."""
    rate = config.learning_rate * (1 - iteration / config.iterations) ** config.power
    return rate * min(1.0, (iteration + 1) / config.warmup) if config.warmup else rate


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate * group["multiplier"]
