"""Stochastic gradient descent and its schedule."""

import torch
from torch import nn

from ..config import TrainConfig

BIAS_MULTIPLIER = 2.0
"""Of the learning rate of convolutions' biases (here the classifier's alone), as in the released code."""


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict]:
    """Of what trains: backbone and head, decayed, not decayed and biases. Each group's `multiplier` scales the learning rate.

    Decayed, as in the released code: weights of convolutions that are not depthwise. Not: those, batch norms and biases.
    """
    backbone = {id(p) for p in model.backbone.parameters()}
    groups = {
        (head, kind): {
            "params": [],
            "weight_decay": config.weight_decay if kind == "decayed" else 0.0,
            "multiplier": (config.head_lr_multiplier if head else 1.0) * (BIAS_MULTIPLIER if kind == "bias" else 1.0),
        }
        for head in (False, True)
        for kind in ("decayed", "plain", "bias")
    }
    for module in model.modules():
        dense = not (isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1)
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, nn.Conv2d | nn.Linear) and name == "bias":
                kind = "bias"
            else:
                kind = "decayed" if dense and parameter.ndim > 1 else "plain"
            groups[id(parameter) not in backbone, kind]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    # Fused: one pass over the weights instead of one for each operation.
    made = torch.optim.SGD(parameter_groups(model, config), lr=config.learning_rate, momentum=config.momentum, fused=True)
    # PyTorch makes the momenta in the first step; where that is left out, as float16's overflows are, of whatever memory holds.
    for group in made.param_groups if config.momentum else ():
        for parameter in group["params"]:
            made.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return made


def learning_rate(iteration: int, config: TrainConfig) -> float:
    """Poly schedule `(1 - i / iterations) ^ power`, i from 0, or exponential `decay ^ floor(i / decay_every)`; within the
    warm-up also times (i + 1) / warmup."""
    if config.schedule == "poly":
        factor = (1 - iteration / config.iterations) ** config.power
    else:
        factor = config.decay ** (iteration // config.decay_every)
    rate = config.learning_rate * factor
    return rate * min(1.0, (iteration + 1) / config.warmup) if config.warmup else rate


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiplier"]
