"""Exports a model as one file for other programs: uint8 RGB to the class of each pixel, including the inference settings."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.images import read_image
from ..data.prepare.scenes import scene
from ..errors import UserError
from ..extras import import_extra
from ..files import atomic_write
from ..inference.inputs import find_images
from ..inference.predictor import Predictor
from ..models.fold import folded
from ..models.interface import SegmentationModel, evaluation_mode
from ..models.ops.resize import resize
from ..models.preprocess import PADDING_VALUE, normalize, padded_side
from ..precision import Precision, require_precision
from ..weights import file as weights_file
from ..weights.file import Metadata
from . import onnx, openvino
from .models import Run
from .pytorch import export_program
from .quantize import fine_convolutions, quantize

FORMATS = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2", "safetensors": ".safetensors"}
"""Suffix of the file of each format. OpenVINO also writes a .bin beside it."""
NEEDED = {"onnx": ("onnxscript", "onnxruntime"), "openvino": ("onnxscript", "openvino")}
"""The optional modules of each format."""
INPUT, OUTPUTS, AXES = "image", ("mask", "confidence"), ("batch", "height", "width")
"""Names in graphs of `onnx` and `openvino`. The axes are those of the input and of each output."""
MAX_DIFFERENT = 0.001
"""Largest share of pixels whose class may differ between a float32 export and the model."""


@dataclass
class Export:
    """Report of an export: the file, and its agreement with the model."""

    path: str
    format: str
    canvas: int | None
    output_stride: int
    precision: Precision = "float32"
    equal: float | None = None
    """Share of the pixels of the test images with the same class as the model; None: the file holds only weights."""
    sizes: tuple[str, ...] = ()
    """Sizes of the test images, HxW, without repetitions."""
    tested: int = 0
    """Number of test images, or of batches of synthetic ones."""
    calibrated: int = 0
    """Number of images that int8 was calibrated on; 0: float32."""

    def __str__(self) -> str:
        settings = f"canvas {self.canvas or 'native'}, output stride {self.output_stride}, one scale, no flip"
        if self.equal is None:
            return f"{self.path}: weights; {settings}"
        kind = f"{self.precision} graph"
        if self.calibrated:
            rest = "" if self.precision == "float32" else f" and {self.precision}"
            kind = f"int8{rest} graph, calibrated on {self.calibrated} images"
        where = f"{self.tested} other images" if self.calibrated else f"test images of {' and '.join(self.sizes)}"
        return f"{self.path}: {kind}; {settings}; same class as the model on {100 * self.equal:.3f} % of the pixels of {where}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def compare(self, run: Run, predictor: Predictor, tests: list[np.ndarray], step: Callable[[], None]) -> None:
        """Measure the share of pixels of batches [N, H, W, 3] on which exported model and predictor give the same class.

        Raises:
            UserError: a float32 graph differs on more than `MAX_DIFFERENT` of them.
        """
        equal = []
        for batch in tests:
            wanted = np.stack(predictor.predict(list(batch)))
            equal.append((run(batch) == wanted).ravel())
            step()
        self.equal = float(np.concatenate(equal).mean())
        self.tested, self.sizes = len(tests), tuple(dict.fromkeys(f"{b.shape[1]}x{b.shape[2]}" for b in tests))
        if not self.calibrated and self.precision == "float32" and 1 - self.equal > MAX_DIFFERENT:
            raise UserError(
                f"{self.path}: not written: the class differs from the model's on {100 * (1 - self.equal):.2f} % of the pixels "
                f"of the test images, more than {100 * MAX_DIFFERENT} %; try another --format"
            )


class ExportWrapper(nn.Module):
    """A model with its preprocessing: uint8 RGB [N, H, W, 3] -> uint8 [N, H, W], the class of each pixel. With confidence, also
    float32 [N, H, W], the probability of that class.

    It returns the masks of a `Predictor` with one scale and no flip. Sizes may be symbols of torch.export.

    Args:
        model: a segmentation model in evaluation mode, at the wanted output stride.
        canvas: side in pixels of the square that images are padded to; None: the size of the image.
        confidence: also return the probability of the class.
    """

    def __init__(self, model: nn.Module, canvas: int | None, confidence: bool = False) -> None:
        super().__init__()
        self.model: Any = model
        self.canvas, self.confidence = canvas, confidence

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        height, width = images.shape[1:3]
        size: Any = [padded_side(side, self.canvas) for side in (height, width)]  # symbols
        x = F.pad(images.permute(0, 3, 1, 2).float(), (0, size[1] - width, 0, size[0] - height), value=PADDING_VALUE)
        logits = self.model.logits(normalize(x, self.model.mean, self.model.std))
        # Channels-last: argmax is faster.
        scores = resize(logits, size).permute(0, 2, 3, 1).contiguous()
        found = [scores.argmax(3).to(torch.uint8), *([scores.softmax(3).amax(3)] if self.confidence else [])]
        # torch.export would specialize a slice to images that are smaller than the canvas.
        mask, *rest = (x.index_select(1, torch.arange(height)).index_select(2, torch.arange(width)) for x in found)
        return (mask, *rest) if rest else mask


def export(
    model: SegmentationModel,
    metadata: Metadata,
    format: str,
    out: str | Path,
    *,
    calibrate: Sequence[str | Path] = (),
    confidence: bool = False,
    newest: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Export:
    """Write a model in one of `FORMATS`, atomically, with label set, configuration and score in its metadata.

    The exported model has the canvas, output stride and precision of `metadata.config.evaluate`, one scale, no flip, and takes
    any number and size of images.

    Args:
        model: a segmentation model.
        metadata: its classes, configuration and score.
        format: a key of `FORMATS`.
        out: the file, with the suffix of the format.
        calibrate: images, folders or lists of images for int8 quantization (`onnx` and `openvino`). Of four or more images,
            every second is kept to compare the result with the model.
        confidence: also return the probability of each pixel's class, float32 [N, H, W]; not of `safetensors`.
        newest: write ONNX of `onnx.NEWEST_OPSET`, which needs a newer ONNX Runtime; `onnx` only.
        progress: called as `progress(done, total)` after each step.

    Returns:
        A report of the file and its agreement with the model.

    Raises:
        UserError: the suffix does not match the format, a library is not installed, an image cannot be read, or the class of a
            float32 export differs from the model's on more than `MAX_DIFFERENT` of the pixels. Nothing is written then.
    """
    out, network = Path(out), cast(nn.Module, model)
    _check_request(format, out, bool(calibrate), confidence, newest, metadata.config.evaluate.precision)
    images = [read_image(path) for path, _ in find_images(calibrate)]
    seen, kept = (images[::2], images[1::2]) if len(images) > 3 else (images, images)
    settings = replace(metadata.config.evaluate, scales=[1.0], flip=False)
    predictor = Predictor(model, metadata.labels, settings, precision="float32")  # what the export is compared with
    settings = predictor.config
    about = replace(metadata, config=replace(metadata.config, evaluate=settings))
    assert settings.output_stride is not None  # the predictor has set it
    result = Export(str(out), format, settings.canvas, settings.output_stride, settings.precision)
    if format == "safetensors":
        weights_file.write(out, network, about)
        return result
    tests = [image[None] for image in kept] or test_images(settings.canvas)
    step = _steps(progress, 3 + len(tests))
    with evaluation_mode(model, settings.output_stride):
        wrapper = ExportWrapper(folded(network).cpu().requires_grad_(False), settings.canvas, confidence)
        graph = converted(wrapper, format, newest)
        step()
        if seen:
            graph, result.calibrated = quantize(graph, format, seen, fine_convolutions(network)), len(seen)
        step()
        result.compare(runner(graph, format, settings.precision), predictor, tests, step)
    write(graph, format, out, weights_file.file_metadata(network, about))
    step()
    return result


def _check_request(format: str, out: Path, quantized: bool, confidence: bool, newest: bool, precision: Precision) -> None:
    """Check the arguments before any work."""
    suffix = FORMATS[format]
    if out.suffix != suffix:
        raise UserError(f"{out}: a file of --format {format} ends in {suffix}; name it {out.with_suffix(suffix)}")
    if quantized and format not in NEEDED:
        raise UserError(f"{out}: --int8 is for --format openvino and onnx, not {format}; leave it out, or choose one of them")
    if confidence and format == "safetensors":
        raise UserError(
            f"{out}: --confidence adds an output to a graph, but safetensors holds only weights; choose another --format"
        )
    if newest and format != "onnx":
        raise UserError(f"{out}: --newest is for --format onnx, not {format}; leave it out")
    if precision != "float32" and format in ("onnx", "torch"):
        raise UserError(f"{out}: --precision {precision} is for --format openvino, not {format}, which computes in float32")
    if format == "openvino":
        require_precision(precision, torch.device("cpu"), f"{out}: precision {precision}")
    for module in (*NEEDED.get(format, ()), *(["nncf"] if quantized else [])):
        import_extra(module)


def _steps(progress: Callable[[int, int], None] | None, total: int) -> Callable[[], None]:
    """Return a function that counts its calls and passes the count on."""
    done = iter(range(1, total + 1))
    return lambda: progress(next(done), total) if progress else None


def test_images(canvas: int | None) -> list[np.ndarray]:
    """Draw synthetic scenes to compare an export with its model.

    Args:
        canvas: see `ExportWrapper`.

    Returns:
        Batches uint8 [N, H, W, 3]: one of two images that fit the canvas, and one of an image that is larger, with odd sides.
    """
    side = canvas or 321
    picture = [scene(0, number, 2 * side + 64)[0] for number in range(3)]
    return [
        np.stack([p[: side * 3 // 4, :side] for p in picture[:2]]),
        picture[2][None, : side + 6, : side * 9 // 8 // 2 * 2 + 1],
    ]


def converted(wrapper: ExportWrapper, format: str, newest: bool = False) -> Any:
    """Convert a model to a graph of the format: a torch.export program, an `onnx.ModelProto` or an `openvino.Model`."""
    program = export_program(wrapper, torch.zeros(2, 75, 107, 3, dtype=torch.uint8), (0, 1, 2))
    if format == "torch":
        return program
    outputs = OUTPUTS if wrapper.confidence else OUTPUTS[:1]
    graph = onnx.to_onnx(program, [INPUT], outputs, AXES, newest)
    return graph if format == "onnx" else openvino.from_onnx(graph)


def runner(graph: Any, format: str, precision: Precision = "float32") -> Run:
    """Return a function uint8 [N, H, W, 3] -> uint8 [N, H, W] that runs a graph of `converted`."""
    if format == "onnx":
        return onnx.session_runner(onnx.open_session(graph.SerializeToString(), "the exported model"))
    if format == "openvino":
        return openvino.compiled(graph, precision)
    module = graph.module()

    def run(images: np.ndarray) -> np.ndarray:
        found = module(torch.from_numpy(images))
        mask: Tensor = found[0] if isinstance(found, tuple) else found
        return mask.numpy()

    return run


def write(graph: Any, format: str, out: Path, metadata: dict[str, str]) -> None:
    """Write a graph of `converted` with its metadata, atomically."""
    with atomic_write(out) as temporary:
        if format == "torch":
            torch.export.save(graph, temporary, extra_files={"metadata.json": json.dumps(metadata)})
        elif format == "onnx":
            import_extra("onnx").helper.set_model_props(graph, metadata)
            temporary.write_bytes(graph.SerializeToString())
        else:
            for key, value in metadata.items():
                graph.set_rt_info(value, [weights_file.FORMAT, key])
            # The weights come first, so that the .xml never exists without its .bin.
            with atomic_write(out.with_suffix(".bin")) as weights:
                import_extra("openvino").serialize(graph, temporary, weights)
