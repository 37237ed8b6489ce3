"""Losses, gradients and updates."""

import json
import re
from pathlib import Path

import numpy as np
import torch

from seg.config import TrainConfig
from seg.training.losses import Loss
from seg.training.optimizer import learning_rate, make_optimizer, set_learning_rate
from seg.training.step import prepare_mode
from tests.oracle.harness import Check, build, draw_image, draw_label, relative, worst

# Training, here in float64, so that what differs is the released code's float32. Losses at the first step are one forward pass;
# from then on rounding passes through the gradients, where a ReLU near zero goes either way, and grows with each update: fast
# where batch norm normalizes few values, slowly where it is frozen. (A ReLU or two flipped by
# rounding the input to float32 makes 1e-4 of the 1e-5 at step 1.)
LOSS = 1e-5
GRADIENT = 1e-3  # median over the variables
MOVING = 1e-6
LATER = {"trained": {1: 5e-4, 2: 2e-2, 3: 3e-2}, "frozen": {1: 5e-4, 2: 5e-3, 3: 2e-2}}
"""Of the total loss before update 1 and 2, and of the cross-entropy after 3, by what batch norm does."""
DIVERGED = 10
"""Times the first loss: from there on losses have no digit in common, and it is only asked that ours diverges too."""
CHAOTIC = 2
"""Images a batch up to which a trained batch norm of pooled features lets later steps go anywhere: only step 1 is compared."""


def training(folder: Path, name: str, case: dict) -> list[Check]:
    files = [folder / file for file in case.get("files", (f"{name}.json", f"{name}.npz"))]
    wanted = json.loads(next(file for file in files if file.suffix == ".json").read_text())
    stored = np.load(next(file for file in files if file.suffix == ".npz"))
    network, released = build(wanted)
    frozen = not wanted["fine_tune_batch_norm"]
    config = TrainConfig(
        iterations=wanted["training_number_of_steps"],
        batch_size=wanted["batch"],
        learning_rate=wanted["base_learning_rate"],
        power=wanted["learning_power"],
        momentum=wanted["momentum"],
        weight_decay=wanted["weight_decay"],
        head_lr_multiplier=wanted["last_layer_gradient_multiplier"],
        freeze_batch_norm="all" if frozen else "none",
    )
    network.double()
    optimizer, loss = make_optimizer(network, config), Loss(config, np.zeros((1, 21)))
    height, width = wanted["crop"]
    pixels = np.stack([draw_image(seed, height, width) for seed in wanted["image_seeds"]])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).double() * 2 / 255 - 1
    masks = torch.stack([torch.from_numpy(draw_label(seed, height, width)).long() for seed in wanted["label_seeds"]])
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    parameters = {released[key]: p for key, p in network.named_parameters()}
    checks = list(groups_as_released(wanted, parameters, group_of))
    start = {released[key]: value.clone() for key, value in network.state_dict().items() if key in released}
    later = LATER["frozen" if frozen else "trained"]
    steps = 3 if frozen or wanted["batch"] > CHAOTIC else 1
    for step in range(steps + 1):
        prepare_mode(network, config)
        entropy = loss(network.logits(images), masks)
        value = float(entropy.detach())
        decay = sum(
            g["weight_decay"] / 2 * p.detach().double().pow(2).sum() for g in optimizer.param_groups for p in g["params"]
        )
        total = value + float(decay)
        if step == 0:
            checks.append(Check("cross-entropy", relative(value, wanted["ce_loss"]), LOSS))
            checks.append(Check("regularization", relative(float(decay), wanted["regularization_loss"]), LOSS))
            checks.append(Check("total", relative(total, wanted["total_loss"]), LOSS))
        else:
            last = step == 3
            theirs = wanted["after_3_steps"]["ce_loss"] if last else wanted["steps"][step]["total_loss_before_update"]
            ours, what = (value, "cross-entropy after 3 steps") if last else (total, f"total at step {step}")
            if not theirs < DIVERGED * wanted["total_loss"]:
                checks.append(Check(f"{what}: diverges too", float(ours < DIVERGED * wanted["total_loss"]), 0))
                break
            checks.append(Check(what, relative(ours, theirs), later[step]))
        if step == steps:
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


def groups_as_released(wanted: dict, parameters: dict, group_of: dict):
    """Which variables are decayed, and with which multiplier each learns."""
    decayed = {name for name, p in parameters.items() if group_of[id(p)]["weight_decay"] > 0}
    yield Check("decayed variables", len(decayed ^ set(wanted["regularized_variables"])), 0)
    multipliers = {name: group_of[id(p)]["multiplier"] for name, p in parameters.items()}
    theirs = wanted["gradient_multipliers"]
    wrong = sum(value != theirs.get(name, 1.0) for name, value in multipliers.items())
    yield Check("multipliers", wrong + len(set(theirs) - set(multipliers)), 0)


def zero_by_nature(name: str, frozen: bool) -> bool:
    """A shift before a linear convolution and a batch norm that trains has no effect: its gradient is rounding alone."""
    inner = re.search(r"separable_conv\d_depthwise/BatchNorm/beta$", name)
    return bool(inner) and not frozen and "exit_flow/block2" not in name and "xception_" in name


def gradients(wanted: dict, parameters: dict, group_of: dict, frozen: bool) -> list[Check]:
    """Norms of the total loss's gradients, as they are and as the optimizer weighs them."""
    errors, applied = [], []
    for name, p in parameters.items():
        if not zero_by_nature(name, frozen):
            group, theirs = group_of[id(p)], wanted["gradients_step0"][name]
            norm = float((p.grad + group["weight_decay"] * p.detach()).double().norm())
            errors.append(abs(norm / theirs["grad_l2"] - 1))
            applied.append(abs(norm * group["multiplier"] / theirs["applied_grad_l2"] - 1))
    return [
        Check(f"gradient norms ({len(errors)}, median)", float(np.median(errors)), GRADIENT),
        Check("applied ones (median)", float(np.median(applied)), GRADIENT),
    ]


def after_a_step(wanted: dict, stored, network, released: dict, start: dict) -> list[Check]:
    """How far each variable went, and the moving statistics."""
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
