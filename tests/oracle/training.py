"""Compare losses, gradients and updates."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seg.config import TrainConfig
from seg.training.losses import Loss
from seg.training.optimizer import learning_rate, make_optimizer, set_learning_rate
from seg.training.step import prepare_mode
from tests.oracle.harness import Check, build, draw_image, draw_label, relative, worst

# Training runs in float64 here, so that the differences are the rounding of the released code's float32. The losses of the
# first step depend on one forward pass. From then on rounding errors pass through the gradients, where a ReLU near zero may
# switch, and grow with each update: fast where batch norm normalizes few values, slowly where it is frozen. (One or two ReLUs
# that switch when the input is rounded to float32 cause 1e-4 of the error at step 1.)
LOSS = 1e-5
GRADIENT = 1e-3
"""Bound on the median over the variables."""
MOVING = 1e-6
LATER = {"trained": {1: 5e-4, 2: 2e-2, 3: 3e-2}, "frozen": {1: 5e-4, 2: 5e-3, 3: 2e-2}}
"""Bounds for the total loss before updates 1 and 2 and the cross-entropy after update 3, by whether batch norm is trained."""
DIVERGED = 10
"""Multiple of the first loss above which training has diverged. Losses then share no digit: ours must only diverge too."""
DIVERGES = "diverges too"
CHAOTIC = 2
"""Largest batch size at which trained batch norm of pooled features is chaotic. Only step 1 is compared there."""


def training(folder: Path, name: str, case: dict[str, Any]) -> list[Check]:
    """Train a few steps on drawn crops and compare losses, gradients, updates and moving statistics."""
    files = [folder / file for file in case.get("files", (f"{name}.json", f"{name}.npz"))]
    wanted = json.loads(next(file for file in files if file.suffix == ".json").read_text())
    stored = np.load(next(file for file in files if file.suffix == ".npz"))
    network, released = build(wanted)
    frozen = not wanted["fine_tune_batch_norm"]
    config = train_config(wanted, frozen)
    network.double()
    optimizer, loss = make_optimizer(network, config), Loss(config, np.zeros((1, 21)))
    images, masks = draw_batch(wanted)
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    parameters = {released[key]: p for key, p in network.named_parameters()}
    checks = list(groups_as_released(wanted, parameters, group_of))
    start = {released[key]: value.clone() for key, value in network.state_dict().items() if key in released}
    steps = 3 if frozen or wanted["batch"] > CHAOTIC else 1
    for step in range(steps + 1):
        prepare_mode(network, config)
        entropy = loss(network.logits(images), masks)
        losses = compare_losses(step, float(entropy.detach()), regularization(optimizer), wanted, frozen)
        checks += losses
        if step == steps or losses[-1].what.endswith(DIVERGES):
            break
        optimizer.zero_grad()
        entropy.backward()
        if step == 0:
            checks += gradients(wanted, parameters, group_of, frozen)
        rate = learning_rate(step, config)
        checks.append(Check("learning rate", relative(rate, wanted["steps"][step]["learning_rate"]), 1e-6))
        set_learning_rate(optimizer, rate)
        optimizer.step()
        if step == 0:
            checks += after_a_step(wanted, stored, network, released, start)
    return checks


def train_config(wanted: dict[str, Any], frozen: bool) -> TrainConfig:
    """Return our settings for those of the released code."""
    return TrainConfig(
        iterations=wanted["training_number_of_steps"],
        batch_size=wanted["batch"],
        learning_rate=wanted["base_learning_rate"],
        power=wanted["learning_power"],
        momentum=wanted["momentum"],
        weight_decay=wanted["weight_decay"],
        head_lr_multiplier=wanted["last_layer_gradient_multiplier"],
        freeze_batch_norm="all" if frozen else "none",
    )


def draw_batch(wanted: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images, float64 N,3,H,W in [-1, 1], and masks, int64 N,H,W, drawn from the seeds."""
    height, width = wanted["crop"]
    pixels = np.stack([draw_image(seed, height, width) for seed in wanted["image_seeds"]])
    masks = [torch.from_numpy(draw_label(seed, height, width)).long() for seed in wanted["label_seeds"]]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).double() * 2 / 255 - 1, torch.stack(masks)


def regularization(optimizer: torch.optim.Optimizer) -> float:
    """Return the released code's regularization loss: half the weight decay times the squared norm of each weight."""
    groups = optimizer.param_groups
    return float(sum(g["weight_decay"] / 2 * p.detach().double().pow(2).sum() for g in groups for p in g["params"]))


def compare_losses(step: int, entropy: float, decay: float, wanted: dict[str, Any], frozen: bool) -> list[Check]:
    """Compare the cross-entropy and the regularization before an update; only that it diverges, where theirs does."""
    total = entropy + decay
    if step == 0:
        return [
            Check("cross-entropy", relative(entropy, wanted["ce_loss"]), LOSS),
            Check("regularization", relative(decay, wanted["regularization_loss"]), LOSS),
            Check("total", relative(total, wanted["total_loss"]), LOSS),
        ]
    last = step == 3
    theirs = wanted["after_3_steps"]["ce_loss"] if last else wanted["steps"][step]["total_loss_before_update"]
    ours, what = (entropy, "cross-entropy after 3 steps") if last else (total, f"total at step {step}")
    if not theirs < DIVERGED * wanted["total_loss"]:
        return [Check(f"{what}: {DIVERGES}", float(ours < DIVERGED * wanted["total_loss"]), 0)]
    return [Check(what, relative(ours, theirs), LATER["frozen" if frozen else "trained"][step])]


def groups_as_released(wanted: dict[str, Any], parameters: dict[str, Any], group_of: dict[int, Any]) -> Iterator[Check]:
    """Compare which variables have weight decay, and the learning rate multiplier of each."""
    decayed = {name for name, p in parameters.items() if group_of[id(p)]["weight_decay"] > 0}
    yield Check("decayed variables", len(decayed ^ set(wanted["regularized_variables"])), 0)
    multipliers = {name: group_of[id(p)]["multiplier"] for name, p in parameters.items()}
    theirs = wanted["gradient_multipliers"]
    wrong = sum(value != theirs.get(name, 1.0) for name, value in multipliers.items())
    yield Check("multipliers", wrong + len(set(theirs) - set(multipliers)), 0)


def zero_by_nature(name: str, frozen: bool) -> bool:
    """Return whether a gradient is only rounding: that of a shift before a linear convolution and trained batch norm."""
    inner = re.search(r"separable_conv\d_depthwise/BatchNorm/beta$", name)
    return bool(inner) and not frozen and "exit_flow/block2" not in name and "xception_" in name


def gradients(wanted: dict[str, Any], parameters: dict[str, Any], group_of: dict[int, Any], frozen: bool) -> list[Check]:
    """Compare the norms of the gradients of the total loss, without and with the learning rate multipliers."""
    errors, applied = [], []
    for name, p in parameters.items():
        if not zero_by_nature(name, frozen):
            group, theirs = group_of[id(p)], wanted["gradients_step0"][name]
            norm = float((p.grad + group["weight_decay"] * p.detach()).double().norm())
            errors.append(abs(norm / theirs["grad_l2"] - 1))
            applied.append(abs(norm * group["multiplier"] / theirs["applied_grad_l2"] - 1))
    return [
        Check(f"gradient norms ({len(errors)}, median)", float(np.median(errors)), GRADIENT),
        Check("applied gradients (median)", float(np.median(applied)), GRADIENT),
    ]


def after_a_step(
    wanted: dict[str, Any], stored: Any, network: torch.nn.Module, released: dict[str, str], start: dict[str, Any]
) -> list[Check]:
    """Compare the size of each variable's first update, and the moving statistics after it."""
    state = {released[key]: value for key, value in network.state_dict().items() if key in released}
    moved, norms, tensors = [], [], []
    for name, theirs in wanted["weights_l2"].items():
        if "/moving_" in name:
            norms.append(Check(name, relative(float(state[name].double().norm()), theirs["step1"]), MOVING))
            if f"after1/{name}" in stored:
                tensors.append(Check(name, relative(state[name].numpy(), stored[f"after1/{name}"]), MOVING))
        elif theirs["delta_step1"] > 0 and not zero_by_nature(name, not wanted["fine_tune_batch_norm"]):
            moved.append(abs(float((state[name] - start[name]).double().norm()) / theirs["delta_step1"] - 1))
    checks = [Check(f"first update ({len(moved)}, median)", float(np.median(moved)), GRADIENT)]
    return checks + worst("norms of moving statistics", norms) + worst("moving statistics", tensors)
