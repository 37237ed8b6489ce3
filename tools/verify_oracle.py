"""Compare this project with stored outputs of the released TensorFlow DeepLab, case by case.

    python tools/verify_oracle.py DIR

DIR holds manifest.json and the files that it names. Each case gets a line: what was compared, the error and its bound.
Exit code 1 where one falls short or could not be run. Weights and images are drawn from names and seeds, as DIR was made.
"""

import argparse
import hashlib
import json
import re
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from seg.config import EvaluateConfig, TrainConfig, from_dict
from seg.data.augment import resize_image, resize_mask, scaled_side
from seg.data.loader import normalise
from seg.evaluate.policy import infer, pad_to_canvas, scaled
from seg.models.factory import build_model
from seg.models.layers import resize
from seg.models.xception import FAMILY
from seg.train.loss import Loss
from seg.train.optimiser import learning_rate, make_optimiser, set_learning_rate
from seg.train.step import prepare_mode
from seg.weights.load import fit
from seg.weights.source import Weights
from seg.weights.tensorflow import VARIANTS, layout, variable_name

FORWARD = 1e-5
"""Largest error of logits and end points, relative to the largest value of each."""
ARGMAX = 1e-4
"""Largest share of pixels whose class differs."""

ROUNDING = 0.51
"""Grey levels between a resized image, here uint8, and the released code's float32."""

# Training, here in float64, so that what differs is the released code's float32. Losses at the first step are one forward pass;
# from then on rounding passes through the gradients, where a ReLU near zero goes either way, and grows with each update: fast
# where batch norm normalises few values, slowly where it is frozen. (A ReLU or two flipped by
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


@dataclass
class Check:
    what: str
    error: float
    bound: float

    @property
    def holds(self) -> bool:
        return self.error <= self.bound  # False for NaN

    def __str__(self) -> str:
        return f"{self.what} {self.error:.1e} of {self.bound:.0e}{'' if self.holds else ' FAILS'}"


def worst(what: str, checks: list[Check]) -> list[Check]:
    """The one of `checks` that is nearest to its bound, or over it, under the name of all."""
    if not checks:
        return []
    found = max(checks, key=lambda check: (not check.holds, check.error / check.bound if check.bound else 0.0))
    return [Check(f"{what} ({len(checks)}; {found.what})", found.error, found.bound)]


def relative(got, wanted) -> float:
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    if got.shape != wanted.shape:
        return float("nan")
    return float(np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-12))


# ---- weights and inputs


def draw(name: str, shape) -> np.ndarray:
    """Value of a released variable, from its name: normal with the deviation of He's rule for convolutions, and so on."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    leaf = name.rpartition("/")[2]
    if leaf in ("weights", "depthwise_weights"):
        inputs = 1 if leaf == "depthwise_weights" else shape[2]
        value = rng.normal(0, np.sqrt(2 / (shape[0] * shape[1] * inputs)), shape)
        if name.startswith("logits/"):
            value -= value.mean(axis=(0, 1, 2), keepdims=True)
    elif leaf in ("gamma", "moving_variance"):
        value = rng.uniform(0.5, 1.5, shape)
    else:
        value = rng.normal(0, 0.1, shape)
    if leaf == "gamma":
        value = value * damping(name)
    return value.astype(np.float32)


def damping(name: str) -> float:
    """Of scales of batch norm, without which random activations would explode over the depth."""
    if name.endswith("shortcut/BatchNorm/gamma"):
        return 0.7
    if name.endswith("separable_conv3_pointwise/BatchNorm/gamma") and "exit_flow/block2" not in name:
        return 0.1 if "/middle_flow/" in name else 0.2
    return 1.0


def variables(variant: str) -> list[str]:
    """Names of the released network's variables, Xception and head."""
    scopes = [f"{variant}/entry_flow/conv1_{i}" for i in (1, 2)]
    for row in FAMILY[VARIANTS[variant]][0]:
        flow, number = re.fullmatch(r"([a-z]+)(\d+)", row.name).groups()
        block, unit = (1, number) if flow == "middle" else (number, 1)
        module = f"{variant}/{flow}_flow/block{block}/unit_{unit}/xception_module"
        scopes += [f"{module}/separable_conv{i}_{half}" for i in (1, 2, 3) for half in ("depthwise", "pointwise")]
        scopes += [f"{module}/shortcut"] * (row.shortcut == "conv")
    separable = [f"aspp{i}" for i in (1, 2, 3)] + [f"decoder/decoder_conv{i}" for i in (0, 1)]
    scopes += [f"{scope}_{half}" for scope in separable for half in ("depthwise", "pointwise")]
    scopes += ["image_pooling", "aspp0", "concat_projection", "decoder/feature_projection0"]
    names = []
    for scope in scopes:
        names.append(f"{scope}/{'depthwise_weights' if scope.endswith('_depthwise') else 'weights'}")
        names += [f"{scope}/BatchNorm/{leaf}" for leaf in ("gamma", "beta", "moving_mean", "moving_variance")]
    return [
        *names,
        "logits/semantic/weights",
        "logits/semantic/biases",
        f"{variant}/logits/weights",
        f"{variant}/logits/biases",
    ]


def build(case: dict, **settings):
    """The network of a case with the drawn weights, in evaluation mode; and the released name of each of its tensors."""
    stride = case.get("output_stride") or 32
    model = {"backbone": VARIANTS[case["variant"]], "placement": "tf", "output_stride": stride, **settings}
    if "atrous_rates" in case:
        model["aspp"] = {"rates": [rate * stride // 16 for rate in case["atrous_rates"]], "dropout": 0.0}
    if case.get("decoder_output_stride", 4) is None:
        model["decoder"] = None
    network = build_model(from_dict({"model": model}, "oracle").model, case.get("num_classes", 21)).eval()
    state, released, tensors = network.state_dict(), {}, {}
    for name in variables(case["variant"]):
        ours = variable_name(name)
        if ours in state:
            shape = tuple(state[ours].shape)
            if len(shape) == 4:
                shape = tuple(shape[i] for i in ((2, 3, 0, 1) if name.endswith("depthwise_weights") else (2, 3, 1, 0)))
            elif len(shape) == 2:
                shape = (1, 1, *shape[::-1])
            released[ours], tensors[ours] = name, layout(name, draw(name, shape))
    report = fit(network, Weights("oracle", tensors, {}))
    if report.missing or report.unexpected:
        raise ValueError(f"not all tensors have a released name: {report}")
    return network, released


def draw_image(seed: int, height: int, width: int) -> np.ndarray:
    """uint8 [h, w, 3]: blocks of 16 pixels, a quarter noise."""
    rng = np.random.Generator(np.random.PCG64(seed))
    blocks = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.int64)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.int64)
    return ((3 * blocks.repeat(16, 0).repeat(16, 1)[:height, :width] + noise) // 4).astype(np.uint8)


def draw_label(seed: int, height: int, width: int, classes: int = 21) -> np.ndarray:
    """uint8 [h, w]: blocks of 8 pixels of a class, 15 % of the pixels void."""
    rng = np.random.Generator(np.random.PCG64(seed))
    blocks = rng.integers(0, classes, (height // 8 + 1, width // 8 + 1), dtype=np.int64)
    label = blocks.repeat(8, 0).repeat(8, 1)[:height, :width].copy()
    label[rng.random((height, width)) < 0.15] = 255
    return label.astype(np.uint8)


def nhwc(x: torch.Tensor) -> np.ndarray:
    return x.detach().permute(0, 2, 3, 1).numpy() if x.ndim == 4 else x.detach().numpy()


# ---- forward


class EndPoints:
    """Records the output of every named part while a network runs."""

    def __init__(self, network, variant: str):
        self.values: dict[str, torch.Tensor] = {}
        flow = f"{variant}/"
        for index in (1, 2):
            self._output(f"{flow}entry_flow/conv1_{index}", getattr(network.backbone, f"conv{index}"))
        for name, module in network.backbone.flow.items():
            kind, number = re.fullmatch(r"([a-z]+)(\d+)", name).groups()
            block = f"{flow}{kind}_flow/block{1 if kind == 'middle' else number}"
            unit = f"{block}/unit_{number if kind == 'middle' else 1}/xception_module"
            for index, conv in enumerate(module.convs, 1):
                # The activation works in place: what is kept of the batch norm is what follows it.
                self._output(f"{unit}/separable_conv{index}_depthwise", conv.depthwise_norm)
                # Where ReLU stands before the convolutions, that of the next one is none of this end point.
                before = module.convs[0].placement.before
                self._output(f"{unit}/separable_conv{index}_pointwise", conv.norm if before else conv, copied=before)
            if module.shortcut is not None:
                self._output(f"{unit}/shortcut", module.shortcut)
            self._output(unit, module)
            self._output(block, module)
        network.backbone.register_forward_hook(lambda m, i, o: self.values.update(skip=o[0], backbone=o[-1]))
        if hasattr(network, "aspp"):
            self._head(network)

    def _head(self, network) -> None:
        aspp, decoder = network.aspp, network.decoder
        self._output("image_pooling", aspp.pooling)
        self._output("aspp0", aspp.conv1x1)
        for index, conv in enumerate(aspp.atrous, 1):
            self._output(f"aspp{index}", conv)
        self._input("aspp_concat", aspp.project)
        self._output("aspp_projection", aspp.project)
        self._output("logits", network.classifier)
        if decoder is not None:
            self._output("skip_projection", decoder.reduce)
            self._input("decoder_concat", decoder.convs[0])
            for index, conv in enumerate(decoder.convs):
                self._output(f"decoder_conv{index}", conv)
            self._output("decoder_out", decoder.convs[-1])

    def _output(self, name: str, module, copied=False) -> None:
        def note(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            self.values[name] = output.clone() if copied else output

        module.register_forward_hook(note)

    def _input(self, name: str, module) -> None:
        module.register_forward_hook(lambda m, inputs, output: self.values.update({name: inputs[0]}))


def canvas(case: dict, image: np.ndarray) -> np.ndarray:
    """The image, padded at the bottom and right to the case's crop."""
    height, width = case.get("crop_hw", image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    padded = np.full((height, width, 3), 127.5, np.float32)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def case_image(case: dict, stored) -> np.ndarray:
    """Drawn from the seed; ValueError where it is not the image that the case was computed on."""
    image = draw_image(case["image_seed"], *case.get("image_hw", stored["image"].shape[:2] if "image" in stored else ()))
    wanted = case.get("image_sha256")
    if wanted and hashlib.sha256(image.tobytes()).hexdigest() != wanted:
        raise ValueError("the image drawn from its seed is not the one of the case")
    return image


def as_input(network, image: np.ndarray) -> torch.Tensor:
    return normalise(pad_to_canvas(image, None), network.mean, network.std)


@torch.no_grad()
def forward(folder: Path, name: str, case: dict) -> list[Check]:
    stored = np.load(folder / case["file"])
    network, _ = build(case)
    image = canvas(case, case_image(case, stored))
    if "eval_scales" in case:
        return multi_scale(network, image, case, stored)
    points = EndPoints(network, case["variant"])
    full = network(as_input(network, image))
    points.values |= {"logits_full": full, "prob": full.softmax(1)}
    ends, logits, argmax = [], [], []
    for key in stored:
        if key == "pred":
            argmax.append(Check("argmax", float((full.argmax(1).numpy() != stored[key]).mean()), ARGMAX))
        elif key == "padded":
            ends.append(Check(key, relative(image[None], stored[key]), 0.0))
        elif key != "image":
            part, channels, pixels = re.fullmatch(r"(\w+?)(?:_c(\d+))?(?:_s(\d+))?", key).groups()
            step = int(pixels or 1)
            value = nhwc(points.values[part])[:, ::step, ::step, :: int(channels or 1)]
            (logits if part.startswith("logits") else ends).append(Check(key, relative(value, stored[key]), FORWARD))
    statistics = folder / case.get("stats", f"{name}_stats.json")
    summaries = []
    if statistics.is_file():
        for key, wanted in json.loads(statistics.read_text()).items():
            summaries.append(Check(key, summary_error(points.values[key.removeprefix("/deeplab/")], wanted), FORWARD))
    checks = worst("logits", logits) + worst("end points", ends) + worst("statistics of end points", summaries)
    return checks + argmax


def summary_error(value: torch.Tensor, wanted: dict) -> float:
    """Largest error of mean, deviation, largest and sample values, relative to the largest value."""
    value = nhwc(value).astype(np.float64)
    if list(value.shape) != wanted["shape"]:
        return float("nan")
    got = [value.mean(), value.std(), np.abs(value).max(), *value.ravel()[wanted["flat_index"]]]
    expected = [wanted["mean"], wanted["std"], wanted["absmax"], *wanted["values"]]
    return float(np.abs(np.subtract(got, expected)).max() / max(wanted["absmax"], 1e-12))


def multi_scale(network, image: np.ndarray, case: dict, stored) -> list[Check]:
    policy = EvaluateConfig(scales=list(case["eval_scales"]), flip=case["add_flipped_images"], canvas=None)
    scores = infer(network, image, policy)
    mean = np.moveaxis(scores.numpy(), 0, -1)[None]
    checks = [Check("mean softmax", relative(mean, stored["mean_prob"]), FORWARD)]
    logits = []
    for key in stored:
        if match := re.fullmatch(r"logits_(flip_)?([\d.]+)", key):
            scale = float(match[2])
            x = normalise(
                resize(pad_to_canvas(image, None), [scaled(side, scale) for side in image.shape[:2]]), network.mean, network.std
            )
            value = network.logits(x.flip(3) if match[1] else x)
            value = resize(value, [scaled(side, max(1, scale) / 4) for side in image.shape[:2]])
            logits.append(Check(key, relative(nhwc(value), stored[key]), FORWARD))
    differing = float((scores.argmax(0).numpy()[None] != stored["pred"]).mean())
    return [*checks, *worst("logits", logits), Check("argmax", differing, ARGMAX)]


@torch.no_grad()
def image_form(folder: Path, name: str, case: dict) -> list[Check]:
    """The ImageNet form: global pooling and a classifier."""
    stored = np.load(folder / case["file"])
    classes = stored["logits"].shape[-1]
    variant = case.get("variant") or re.search(r"xception_\d+", case["what"])[0]
    network, _ = build({"variant": variant}, image_classes=classes)
    points = EndPoints(network, variant)
    logits = network(as_input(network, stored["image"]))
    ends = [Check("global_pool", relative(points.values["backbone"].mean((2, 3)), stored["global_pool"][:, 0, 0]), FORWARD)]
    for key in stored:
        if match := re.fullmatch(r"block(\d)_c(\d+)", key):
            value = points.values[f"{variant}/exit_flow/block{match[1]}"]
            ends.append(Check(key, relative(nhwc(value)[..., :: int(match[2])], stored[key]), FORWARD))
    return [Check("logits", relative(logits, stored["logits"][:, 0, 0]), FORWARD), *worst("end points", ends)]


# ---- training


def training(folder: Path, name: str, case: dict) -> list[Check]:
    files = [folder / file for file in case.get("files", (f"{name}.json", f"{name}.npz"))]
    wanted = json.loads(next(file for file in files if file.suffix == ".json").read_text())
    stored = np.load(next(file for file in files if file.suffix == ".npz"))
    network, released = build(wanted)
    frozen = not wanted["fine_tune_batch_norm"]
    config = TrainConfig(
        iterations=wanted["training_number_of_steps"],
        batch=wanted["batch"],
        learning_rate=wanted["base_learning_rate"],
        power=wanted["learning_power"],
        momentum=wanted["momentum"],
        weight_decay=wanted["weight_decay"],
        head_multiplier=wanted["last_layer_gradient_multiplier"],
        frozen_batch_norm="all" if frozen else "none",
    )
    network.double()
    optimiser, loss = make_optimiser(network, config), Loss(config, np.zeros((1, 21)))
    height, width = wanted["crop"]
    pixels = np.stack([draw_image(seed, height, width) for seed in wanted["image_seeds"]])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).double() * 2 / 255 - 1
    masks = torch.stack([torch.from_numpy(draw_label(seed, height, width)).long() for seed in wanted["label_seeds"]])
    group_of = {id(p): group for group in optimiser.param_groups for p in group["params"]}
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
            g["weight_decay"] / 2 * p.detach().double().pow(2).sum() for g in optimiser.param_groups for p in g["params"]
        )
        total = value + float(decay)
        if step == 0:
            checks.append(Check("cross-entropy", relative(value, wanted["ce_loss"]), LOSS))
            checks.append(Check("regularisation", relative(float(decay), wanted["regularization_loss"]), LOSS))
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
        optimiser.zero_grad()
        entropy.backward()
        if step == 0:
            checks += gradients(wanted, parameters, group_of, frozen)
        rate = learning_rate(step, config)
        checks.append(Check("learning rate", relative(rate, wanted["steps"][step]["learning_rate"]), 1e-6))
        set_learning_rate(optimiser, rate)
        optimiser.step()
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
    """Norms of the total loss's gradients, as they are and as the optimiser weighs them."""
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


# ---- preprocessing


def preprocessing(folder: Path, name: str, case: dict) -> list[Check]:
    files = [folder / file for file in case["files"]]
    stored = np.load(next(file for file in files if file.suffix == ".npz"))
    wanted = json.loads(next(file for file in files if file.suffix == ".json").read_text())
    sizes, images, labels = [], [], []
    for key, theirs in wanted.items():
        if match := re.fullmatch(r"dims_(\d+)x(\d+)", key):
            for scale, size in theirs.items():
                sizes.append([scaled_side(int(side), float(scale)) for side in match.groups()] != size)
    height, width = stored["label"].shape
    for scale in wanted["scale_factors"]:
        size = scaled_side(height, scale), scaled_side(width, scale)
        sizes.append(list(size) != wanted[f"scaled_hw_{scale:.2f}"])
        theirs = stored[f"scaled_image_{scale:.2f}"]
        ours = resize_image(stored["image"], size)
        step = -(-ours.shape[0] // theirs.shape[0])
        images.append(Check(f"image at {scale}, grey levels", float(np.abs(ours[::step, ::step] - theirs).max()), ROUNDING))
        labels.append(
            Check(f"mask at {scale}", relative(resize_mask(stored["label"], size), stored[f"scaled_label_{scale:.2f}"]), 0)
        )
    height, width = stored["evalpad_image"].shape[:2]
    if height == width:
        padded = pad_to_canvas(stored["image"], height)
    else:
        padded = pad_to_canvas(canvas({"crop_hw": (height, width)}, stored["image"]), None)
    row = normalise(padded, (0.5,) * 3, (0.5,) * 3)[0, :, 0].T
    return [
        Check(f"sizes ({len(sizes)})", sum(sizes), 0),
        *worst("images", images),
        *worst("masks", labels),
        Check("canvas", relative(nhwc(padded)[0], stored["evalpad_image"]), 0),
        Check("network input", relative(row, stored["network_input_row0"]), FORWARD),
    ]


def runner(section: str, case: dict):
    if section in ("forward", "training"):
        return {"forward": forward, "training": training}[section]
    return preprocessing if "files" in case else image_form


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder = parser.parse_args().folder
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        print(f"{manifest}: no such file; DIR holds the stored outputs and a manifest.json that lists them", file=sys.stderr)
        return 2
    short = 0
    cases = [
        (section, name, case) for section, found in json.loads(manifest.read_text()).items() for name, case in found.items()
    ]
    for section, name, case in cases:
        torch.manual_seed(0)
        try:
            checks = runner(section, case)(folder, name, case)
        except Exception as error:  # whatever stands in the way of one case, the others are run
            print(f"FAIL  {name}: could not be run: {type(error).__name__}: {error}", flush=True)
            short += 1
            continue
        held = all(check.holds for check in checks)
        short += not held
        print(f"{'ok  ' if held else 'FAIL'}  {name}: {'; '.join(map(str, checks))}", flush=True)
    print(f"{len(cases) - short} of {len(cases)} cases hold")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
