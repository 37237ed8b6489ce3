"""Compare logits, end points (the released code's word for intermediate tensors) and masks."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from seg.config import InferenceConfig
from seg.inference.predictor import Predictor
from seg.inference.scores import scaled_side
from seg.labels import VOC
from seg.models.ops.resize import resize
from seg.models.preprocess import normalize, pad_to_canvas
from tests.oracle.harness import ARGMAX, FORWARD, Check, build, draw_image, nhwc, relative, worst


class Recorder:
    """Records outputs and inputs of modules while they run, by name."""

    def __init__(self) -> None:
        self.values: dict[str, torch.Tensor] = {}

    def output(self, name: str, module: nn.Module, copied: bool = False) -> None:
        def note(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            self.values[name] = output.clone() if copied else output

        module.register_forward_hook(note)

    def input(self, name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda m, inputs, output: self.values.update({name: inputs[0]}))

    def cell(self, cell: Any) -> None:
        """Record a dense prediction cell."""
        for index, conv in enumerate(cell.branches):
            self.output(f"branch{index}_depthwise", conv.depthwise_norm)
            self.output(f"branch{index}", conv)
        self.input("dpc_concat", cell.project)
        self.output("dpc_projection", cell.project)


class EndPoints(Recorder):
    """Records the output of every named part of a network while it runs."""

    def __init__(self, network: Any, variant: str) -> None:
        super().__init__()
        flow = f"{variant}/"
        for index in (1, 2):
            self.output(f"{flow}entry_flow/conv1_{index}", getattr(network.backbone, f"conv{index}"))
        for name, module in network.backbone.flow.items():
            kind, number = re.fullmatch(r"([a-z]+)(\d+)", name).groups()
            block = f"{flow}{kind}_flow/block{1 if kind == 'middle' else number}"
            unit = f"{block}/unit_{number if kind == 'middle' else 1}/xception_module"
            for index, conv in enumerate(module.convs, 1):
                # The next activation works in place, so the recorded output of batch norm is the one after it.
                self.output(f"{unit}/separable_conv{index}_depthwise", conv.depthwise_norm)
                # With ReLU before the convolutions, the next in-place ReLU is not part of this end point: copy.
                before = module.convs[0].activation_placement.before
                self.output(f"{unit}/separable_conv{index}_pointwise", conv.norm if before else conv, copied=before)
            if module.shortcut is not None:
                self.output(f"{unit}/shortcut", module.shortcut)
            self.output(unit, module)
            self.output(block, module)
        network.backbone.register_forward_hook(lambda m, i, o: self.values.update(skip=o[0], backbone=o[-1]))
        if hasattr(network, "aspp"):
            self._head(network)

    def _head(self, network: Any) -> None:
        decoder = network.decoder
        if network.dpc is None:
            self._aspp(network.aspp)
        else:
            self.cell(network.dpc)
        self.output("logits", network.classifier)
        if decoder is not None:
            self.output("skip_projection", decoder.reduce)
            self.input("decoder_concat", decoder.convs[0])
            for index, conv in enumerate(decoder.convs):
                self.output(f"decoder_conv{index}", conv)
            self.output("decoder_out", decoder.convs[-1])

    def _aspp(self, aspp: Any) -> None:
        self.output("image_pooling", aspp.pooling)
        self.output("aspp0", aspp.conv1x1)
        for index, conv in enumerate(aspp.atrous, 1):
            self.output(f"aspp{index}", conv)
        self.input("aspp_concat", aspp.project)
        self.output("aspp_projection", aspp.project)


def canvas(case: dict[str, Any], image: np.ndarray) -> np.ndarray:
    """Pad the image at the bottom and right to the crop size of the case."""
    height, width = case.get("crop_hw", image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    padded = np.full((height, width, 3), 127.5, np.float32)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def case_image(case: dict[str, Any], stored: Any) -> np.ndarray:
    """Draw the image of a case from its seed. Raises ValueError if it is not the one that the case was computed on."""
    image = draw_image(case["image_seed"], *case.get("image_hw", stored["image"].shape[:2] if "image" in stored else ()))
    wanted = case.get("image_sha256")
    if wanted and hashlib.sha256(image.tobytes()).hexdigest() != wanted:
        raise ValueError("the image drawn from its seed is not the one of the case")
    return image


def as_input(network: Any, image: np.ndarray) -> torch.Tensor:
    """Normalize an image, without padding it."""
    return normalize(pad_to_canvas(image, None), network.mean, network.std)


@torch.no_grad()
def forward(folder: Path, name: str, case: dict[str, Any]) -> list[Check]:
    """Run a segmentation network and compare its outputs, or the mean over scales and flips."""
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
            (logits if key.startswith("logits") else ends).append(end_point(points, key, stored[key]))
    statistics = folder / case.get("stats", f"{name}_stats.json")
    summaries = []
    if statistics.is_file():
        for key, wanted in json.loads(statistics.read_text()).items():
            summaries.append(Check(key, summary_error(points.values[key.removeprefix("/deeplab/")], wanted), FORWARD))
    checks = worst("logits", logits) + worst("end points", ends) + worst("statistics of end points", summaries)
    return checks + argmax


def end_point(points: Recorder, key: str, wanted: np.ndarray) -> Check:
    """Compare a recorded value with a stored one, whose name tells which channels and pixels it has: NAME_c4_s2."""
    part, channels, pixels = re.fullmatch(r"(\w+?)(?:_c(\d+))?(?:_s(\d+))?", key).groups()
    step = int(pixels or 1)
    value = nhwc(points.values[part])[:, ::step, ::step, :: int(channels or 1)]
    return Check(key, relative(value, wanted), FORWARD)


def summary_error(value: torch.Tensor, wanted: dict[str, Any]) -> float:
    """Return the largest error of mean, standard deviation, maximum and sampled values, relative to the maximum."""
    value = nhwc(value).astype(np.float64)
    if list(value.shape) != wanted["shape"]:
        return float("nan")
    got = [value.mean(), value.std(), np.abs(value).max(), *value.ravel()[wanted["flat_index"]]]
    expected = [wanted["mean"], wanted["std"], wanted["absmax"], *wanted["values"]]
    return float(np.abs(np.subtract(got, expected)).max() / max(wanted["absmax"], 1e-12))


def multi_scale(network: Any, image: np.ndarray, case: dict[str, Any], stored: Any) -> list[Check]:
    """Predict with several scales and flips, and compare the mean softmax and the logits of each scale."""
    config = InferenceConfig(scales=list(case["eval_scales"]), flip=case["add_flipped_images"], canvas=None)
    scores = Predictor(network, VOC, config).scores(image)
    mean = np.moveaxis(scores.numpy(), 0, -1)[None]
    checks = [Check("mean softmax", relative(mean, stored["mean_prob"]), FORWARD)]
    logits = []
    for key in stored:
        if match := re.fullmatch(r"logits_(flip_)?([\d.]+)", key):
            scale = float(match[2])
            x = normalize(
                resize(pad_to_canvas(image, None), [scaled_side(side, scale) for side in image.shape[:2]]),
                network.mean,
                network.std,
            )
            value = network.logits(x.flip(3) if match[1] else x)
            value = resize(value, [scaled_side(side, max(1, scale) / 4) for side in image.shape[:2]])
            logits.append(Check(key, relative(nhwc(value), stored[key]), FORWARD))
    differing = float((scores.argmax(0).numpy()[None] != stored["pred"]).mean())
    return [*checks, *worst("logits", logits), Check("argmax", differing, ARGMAX)]


@torch.no_grad()
def classifier(folder: Path, name: str, case: dict[str, Any]) -> list[Check]:
    """Run the ImageNet network (global pooling and a classifier) and compare its outputs."""
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


@torch.no_grad()
def dense_prediction_cell(folder: Path, name: str, case: dict[str, Any]) -> list[Check]:
    """Run a dense prediction cell alone, on drawn features: large enough to see its rates."""
    stored = np.load(folder / case["file"])
    generator = np.random.Generator(np.random.PCG64(case["features_seed"]))
    features = np.maximum(generator.standard_normal(case["features_shape"]), 0).astype("float32")
    if hashlib.sha256(features.tobytes()).hexdigest() != case["features_sha256"]:
        raise ValueError("the features drawn from the seed are not those of the case")
    network, _ = build({"variant": "xception_71", "output_stride": case["output_stride"], "head": "dpc"})
    points = Recorder()
    points.cell(network.dpc)
    points.values["features"] = torch.from_numpy(features).permute(0, 3, 1, 2)
    network.dpc(points.values["features"])
    return worst("branches and projection", [end_point(points, key, stored[key]) for key in stored])
