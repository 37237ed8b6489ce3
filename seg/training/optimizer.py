"""The optimizer: parameter groups with their learning-rate multipliers, and the learning-rate schedule."""

import math
from typing import Any

import torch
from torch import nn

from ..config import TrainConfig

BIAS_MULTIPLIER = 2.0
"""Learning-rate multiplier of the biases of convolutions (here only the classifier's), as in the released code."""


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The trainable parameters in groups, by backbone or head and by kind.

    As in the released code, weight decay applies to convolutions that are not depthwise; depthwise convolutions, batch norm and
    biases have none. The `multiplier` of a group scales its learning rate: `head_lr_multiplier` outside of the backbone,
    BIAS_MULTIPLIER for biases.

    Args:
        model: a network with a `backbone`.
        config: weight_decay and head_lr_multiplier.
    """
    backbone = {id(p) for p in model.get_submodule("backbone").parameters()}
    groups: dict[tuple[bool, str], dict[str, Any]] = {
        (head, kind): {
            "params": [],
            "weight_decay": config.weight_decay if kind == "decayed" else 0.0,
            "multiplier": (config.head_lr_multiplier if head else 1.0) * (BIAS_MULTIPLIER if kind == "bias" else 1.0),
        }
        for head in (False, True)
        for kind in ("decayed", "plain", "bias")
    }
    for module in model.modules():
        depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, nn.Conv2d | nn.Linear) and name == "bias":
                kind = "bias"
            else:
                kind = "decayed" if parameter.ndim > 1 and not depthwise else "plain"
            groups[id(parameter) not in backbone, kind]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, over the `parameter_groups` of the model."""
    groups, rate = parameter_groups(model, config), learning_rate(0, config)
    # Fused: one pass over the weights instead of one per operation.
    if config.optimizer == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=rate, betas=(config.momentum, 0.999), fused=True)
        buffers = ["exp_avg", "exp_avg_sq"]
    else:
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=config.momentum, fused=True)
        buffers = ["momentum_buffer"] if config.momentum else []
    # PyTorch allocates the buffers in the first step. If that step is skipped, as on an overflow of float16, those of SGD stay
    # uninitialized.
    for group in optimizer.param_groups if buffers else ():
        for parameter in group["params"]:
            optimizer.state[parameter] = {name: torch.zeros_like(parameter) for name in buffers}
            if config.optimizer == "adamw":
                optimizer.state[parameter]["step"] = torch.zeros((), device=parameter.device)
    return optimizer


def learning_rate(iteration: int, config: TrainConfig) -> float:
    """The learning rate of an iteration, counted from 0, before the multipliers of the groups.

    Poly: `(1 - i / iterations) ^ power`. Exponential: `decay ^ floor(i / decay_every)`. Cosine:
    `(1 + cos(pi i / iterations)) / 2`. They are multiplied by `(i + 1) / warmup` within the warm-up.
    """
    if config.schedule == "poly":
        factor = (1 - iteration / config.iterations) ** config.power
    elif config.schedule == "cosine":
        factor = (1 + math.cos(math.pi * iteration / config.iterations)) / 2
    else:
        factor = config.decay ** (iteration // config.decay_every)
    assert config.learning_rate is not None  # set with the optimizer
    rate: float = config.learning_rate * factor
    return rate * min(1.0, (iteration + 1) / config.warmup) if config.warmup else rate


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of each parameter group: `rate` times the group's multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiplier"]
