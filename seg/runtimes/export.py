"""A model as one file for other programs: a graph from uint8 RGB to the class of each pixel, the inference policy within."""

import io
import json
import logging
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.prepare.scenes import scene
from ..data.voc import read_image
from ..errors import UserError
from ..files import atomic_write
from ..inference.images import find_images
from ..inference.predictor import Predictor, evaluation_mode
from ..models.fold import folded
from ..models.layers import resize
from ..models.preprocess import PADDING_VALUE, normalize, padded_side
from ..models.xception import Xception
from ..weights import file as weights_file
from ..weights.file import Metadata
from .models import exported, import_extra, onnx_model, onnx_run, onnx_session, openvino_core, openvino_run

FORMATS = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2", "safetensors": ".safetensors"}
"""And the suffix of the file; OpenVINO has a .bin beside it."""
NEEDED = {"onnx": ("onnxscript", "onnxruntime"), "openvino": ("onnxscript", "openvino")}
DIFFERENT = 0.001
"""Largest share of pixels whose class may differ between a float32 graph and the model."""


@dataclass
class Export:
    """What was written, and how it compares with the model."""

    path: str
    format: str
    canvas: int | None
    output_stride: int
    equal: float | None = None
    """Share of the pixels of the test images that have the model's class; None: the file holds weights, no graph."""
    sizes: tuple[str, ...] = ()
    """Of the test images, each once: HxW."""
    tested: int = 0
    calibrated: int = 0
    """Images that int8 was calibrated on; 0: float32."""

    def __str__(self) -> str:
        policy = f"canvas {self.canvas or 'native'}, output stride {self.output_stride}, one scale, no flip"
        if self.equal is None:
            return f"{self.path}: weights; {policy}"
        kind = f"int8 graph, calibrated on {self.calibrated} images" if self.calibrated else "float32 graph"
        where = f"{self.tested} other images" if self.calibrated else f"test images of {' and '.join(self.sizes)}"
        return f"{self.path}: {kind}; {policy}; the model's class on {100 * self.equal:.3f} % of the pixels of {where}"

    def as_dict(self) -> dict:
        return asdict(self)


class ExportWrapper(nn.Module):
    """uint8 RGB [N, H, W, 3] -> uint8 [N, H, W], the class of each pixel: `evaluate.policy` with one scale, no flip, for sizes
    that are symbols."""

    def __init__(self, model: nn.Module, canvas: int | None):
        super().__init__()
        self.model, self.canvas = model, canvas

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[1:3]
        size = [padded_side(side, self.canvas) for side in (height, width)]
        x = F.pad(images.permute(0, 3, 1, 2).float(), (0, size[1] - width, 0, size[0] - height), value=PADDING_VALUE)
        logits = self.model.logits(normalize(x, self.model.mean, self.model.std))
        # Channels last, in which argmax is fast.
        masks = resize(logits, size).permute(0, 2, 3, 1).contiguous().argmax(3).to(torch.uint8)
        # A slice would be traced as one that always cuts something off.
        return masks.index_select(1, torch.arange(height)).index_select(2, torch.arange(width))


def export(model: nn.Module, about: Metadata, format: str, out, *, calibrate=(), progress=None) -> Export:
    """Write the model as one of FORMATS, whole or not at all, with label set, configuration and policy in its metadata.

    A graph has the canvas and the output stride of `about.config.evaluate`, one scale, no flip, and takes any N, H and W.
    calibrate: images (see `images.find_images`), by which the graph is quantized to int8 (`onnx`, `openvino`); of four or more
        every second is kept to compare with the model.
    `progress(done, total)` is called after each step.
    Raises UserError where the suffix is not the format's, a library is not installed, or a float32 graph has another class than
    the model on more than DIFFERENT of the pixels of the test images; then nothing is written.
    """
    out, suffix = Path(out), FORMATS[format]
    if out.suffix != suffix:
        raise UserError(f"{out}: a file of --format {format} ends in {suffix}; name it {out.with_suffix(suffix)}")
    if calibrate and format not in NEEDED:
        raise UserError(f"{out}: --int8 is for --format openvino and onnx, not {format}; leave it out, or choose one of them")
    for module in (*NEEDED.get(format, ()), *(["nncf"] if calibrate else [])):
        import_extra(module)
    images = [read_image(path) for path, _ in find_images(calibrate)]
    predictor = Predictor(model, about.labels, replace(about.config.evaluate, scales=[1.0], flip=False))
    policy = predictor.config
    config = replace(about.config, evaluate=policy)
    result = Export(str(out), format, policy.canvas, policy.output_stride)
    if format == "safetensors":
        weights_file.write(out, model, config, about.labels, about.score)
        return result

    kept = images[1::2] if len(images) > 3 else images
    tests = [image[None] for image in kept] or test_images(policy.canvas)
    step = _steps(progress, 3 + len(tests))
    with evaluation_mode(model, policy.output_stride):
        graph = converted(ExportWrapper(folded(model).cpu(), policy.canvas), format)
        step()
        if images:
            seen = images[::2] if len(images) > 3 else images
            graph, result.calibrated = quantized(graph, format, seen, fine_convolutions(model)), len(seen)
        step()
        run, equal = runner(graph, format), []
        for batch in tests:
            wanted = np.stack(predictor.predict(list(batch)))
            equal.append((run(batch) == wanted).ravel())
            step()
    result.equal = float(np.concatenate(equal).mean())
    result.tested, result.sizes = len(tests), tuple(dict.fromkeys(f"{b.shape[1]}x{b.shape[2]}" for b in tests))
    if not images and 1 - result.equal > DIFFERENT:
        raise UserError(
            f"{out}: not written: the graph's class is not the model's on {100 * (1 - result.equal):.2f} % of pixels of the "
            f"test images, more than {100 * DIFFERENT} %; try another --format"
        )
    write(graph, format, out, weights_file.describe(model, config, about.labels, about.score))
    step()
    return result


def _steps(progress, total: int):
    """A function that counts its calls and passes the count on."""
    done = iter(range(1, total + 1))
    return lambda: progress(next(done), total) if progress else None


def test_images(canvas: int | None) -> list[np.ndarray]:
    """Synthetic scenes, uint8 [N, H, W, 3]: two that fit the canvas, in one batch, and one that is larger, of odd sides."""
    side = canvas or 321
    picture = [scene(0, number, 2 * side + 64)[0] for number in range(3)]
    return [
        np.stack([p[: side * 3 // 4, :side] for p in picture[:2]]),
        picture[2][None, : side + 6, : side * 9 // 8 // 2 * 2 + 1],
    ]


def converted(segment: ExportWrapper, format: str):
    """A graph of the format: a torch.export program, an ONNX model or an OpenVINO model."""
    program = exported(segment, torch.zeros(2, 75, 107, 3, dtype=torch.uint8), (0, 1, 2))
    if format == "torch":
        return program
    graph = onnx_model(program)
    if format == "onnx":
        return graph
    return openvino_core().read_model(graph.SerializeToString())


def quantized(graph, format: str, images: list[np.ndarray], fine: int):
    """An ONNX or OpenVINO graph with its dense convolutions in int8, their scales set by uint8 images [h, w, 3]: NNCF's
    post-training quantization, with a scale for each output channel of a weight, and biases corrected.

    Little of the time and most of the difference is in depthwise convolutions, sums, and the first `fine` dense convolutions
    (see `fine_convolutions`), of which the borders in the masks are made: they stay in float32.
    """
    nncf = import_extra("nncf")
    if format == "onnx":
        name = graph.graph.input[0].name
        data = nncf.Dataset(images, lambda image: {name: image[None]})
        convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
        dense = [node.name for node in convolutions if _groups(node) == 1]
        exact = nncf.IgnoredScope(names=[n.name for n in convolutions if _groups(n) > 1] + dense[:fine], types=["Add"])
    else:
        data = nncf.Dataset(images, lambda image: image[None])
        dense = [node.get_friendly_name() for node in graph.get_ordered_ops() if node.get_type_name() == "Convolution"]
        exact = nncf.IgnoredScope(names=dense[:fine], types=["GroupConvolution", "Add"])
    # A line of its log on each layer would stand among the results; its progress is drawn even where the log is silent.
    nncf.set_log_level(logging.WARNING)
    with redirect_stdout(io.StringIO()):
        return nncf.quantize(graph, data, subset_size=len(images), preset=nncf.QuantizationPreset.MIXED, ignored_scope=exact)


def fine_convolutions(model: nn.Module) -> int:
    """How many dense convolutions of a network stand up to the module of its low-level features; 0 of networks not ours."""
    if not isinstance(getattr(model, "backbone", None), Xception):
        return 0
    modules = [model.backbone.conv1, model.backbone.conv2]
    for name, module in model.backbone.flow.items():
        modules.append(module)
        if name == model.backbone.feature_blocks[0]:
            break
    return sum(isinstance(part, nn.Conv2d) and part.groups == 1 for module in modules for part in module.modules())


def _groups(node) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def runner(graph, format: str):
    """uint8 [N, H, W, 3] -> uint8 [N, H, W]: the graph, ready to run."""
    if format == "onnx":
        return onnx_run(onnx_session(graph.SerializeToString(), "the graph"))
    if format == "openvino":
        return openvino_run(graph)
    module = graph.module()
    return lambda images: module(torch.from_numpy(images)).numpy()


def write(graph, format: str, out: Path, metadata: dict[str, str]) -> None:
    """Write the graph with its metadata, whole or not at all."""
    with atomic_write(out) as temporary:
        if format == "torch":
            torch.export.save(graph, temporary, extra_files={"metadata.json": json.dumps(metadata)})
        elif format == "onnx":
            import_extra("onnx").helper.set_model_props(graph, metadata)
            temporary.write_bytes(graph.SerializeToString())
        else:
            for key, value in metadata.items():
                graph.set_rt_info(value, [weights_file.FORMAT, key])
            # The weights first: the graph alone is never there without them.
            with atomic_write(out.with_suffix(".bin")) as weights:
                import_extra("openvino").serialize(graph, temporary, weights)
