"""What runs the network: PyTorch with batch norm folded, ONNX Runtime or OpenVINO; and graphs that `seg export` wrote."""

import functools
import importlib
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..distributed import device
from ..errors import UserError, did_you_mean, reason
from ..models.fold import folded
from ..models.layers import LogitsModule
from ..weights.file import FORMAT, Metadata, read_metadata
from ..weights.loading import open_model

RUNTIMES = ("torch", "compile", "onnx", "openvino")
"""compile: PyTorch through torch.compile, which takes a minute first."""
GRAPHS = (".onnx", ".xml")
"""Suffixes of exported graphs: ONNX, and OpenVINO's, whose weights lie beside it in a .bin."""


EXTRAS = {"onnxruntime": "onnx", "onnxscript": "onnx", "onnx": "onnx", "openvino": "openvino", "nncf": "openvino"}


def import_extra(module: str):
    """An optional dependency, one of EXTRAS. Raises UserError with the command that installs it."""
    # OpenVINO and NNCF send notes of their use to their maker where they find this one.
    sys.modules.setdefault("openvino_telemetry", None)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{module} cannot be imported ({reason(error)}): pip install 'seg-deeplab[{EXTRAS[module]}]'"
        ) from error


@functools.cache
def openvino_core():
    """One for the whole process: each brings memory on which signals are handled, and where two go in the order they came, what
    the first brought is in use when it is gone. Ctrl-C would be a segmentation fault."""
    core = import_extra("openvino").Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # loads what brings it, before another core can
    return core


class RuntimeModel(nn.Module):
    """A model's `logits` in another runtime, behind what the inference policy uses of a model.

    run: float32 [N, 3, H, W] -> logits [N, classes, h, w], numpy, any N, H, W. The output stride is that of the conversion.
    """

    def __init__(self, model: nn.Module, run):
        super().__init__()
        self.mean, self.std, self.logits_stride = model.mean, model.std, model.logits_stride
        self.output_stride, self.run = model.output_stride, run

    def logits(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.run(images.contiguous().cpu().numpy()))


def in_runtime(model: nn.Module, name: str, output_stride: int | None = None) -> nn.Module:
    """The model in evaluation mode, batch norm folded, in one of RUNTIMES, as `evaluate.policy` takes it; equal to rounding.

    output_stride: of the policy that will use it; None: the model's. `onnx` and `openvino` keep it from then on, and compute in
    float32 on the CPU, with as many threads as PyTorch. Raises UserError where the runtime is none, or not installed.
    """
    if name not in RUNTIMES:
        raise UserError(f"runtime {name}: no such{did_you_mean(name, RUNTIMES)}")
    model = folded(model)
    model.output_stride = output_stride or model.output_stride
    if name == "onnx":
        return RuntimeModel(model, _onnx(model.cpu()))
    if name == "openvino":
        return RuntimeModel(model, _openvino(model.cpu()))
    model = model.to(memory_format=torch.channels_last)
    if name == "compile":
        model.logits = torch.compile(model.logits, dynamic=True, options={"freezing": True})
    return model


def _onnx(model: nn.Module):
    import_extra("onnxruntime")  # before the time that the conversion takes
    graph = onnx_model(exported(LogitsModule(model), torch.zeros(2, 3, 65, 97), (0, 2, 3)))
    return onnx_run(onnx_session(graph.SerializeToString(), "the network"))


def _openvino(model: nn.Module):
    openvino = import_extra("openvino")
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing warns of sizes compared in Python: they compare alike for all images
        return openvino_run(openvino.convert_model(LogitsModule(model), example_input=torch.zeros(2, 3, 65, 97)))


def exported(module: nn.Module, example: Tensor, dynamic: tuple[int, ...]) -> torch.export.ExportedProgram:
    """The module as a graph of PyTorch's operators; the sizes of the `dynamic` axes of its only input are free."""
    free = {axis: torch.export.Dim.AUTO for axis in dynamic}
    with torch.no_grad():
        return torch.export.export(module.eval(), (example,), dynamic_shapes=(free,), strict=False)


def onnx_model(program: torch.export.ExportedProgram):
    """The graph as an ONNX model, a protobuf message."""
    import_extra("onnxscript")
    return torch.onnx.export(program, dynamo=True, verbose=False).model_proto


def onnx_session(model, what):
    """An ONNX model, bytes or the path of a file, ready to run. Raises UserError where it is none."""
    onnxruntime = import_extra("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # an error comes as an exception too
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's own classes share no base
        raise UserError(f"{what}: not a graph that ONNX Runtime runs ({reason(error)})") from error


def onnx_run(session):
    """From the only input of a session to its only output, as arrays."""
    name = session.get_inputs()[0].name
    return lambda array: session.run(None, {name: array})[0]


def openvino_run(model):
    """From the only input of an OpenVINO model to its only output, as arrays; in float32 where it is not quantized."""
    # Left to itself OpenVINO computes in bfloat16 where the processor can.
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino_core().compile_model(model, "CPU", settings)
    return lambda array: compiled([array])[0]


class ExportedModel(nn.Module):
    """An exported graph: uint8 RGB to class, policy and all.

    run: uint8 [N, H, W, 3] -> uint8 [N, H, W].
    """

    def __init__(self, run, output_stride: int):
        super().__init__()
        self.run, self.output_stride = run, output_stride

    def masks(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """uint8 [h, w] for each uint8 RGB image [h, w, 3]."""
        return [self.run(image[None])[0] for image in images]


def open_graph(path) -> tuple[ExportedModel, Metadata]:
    """The graph in a file that `seg export` wrote, .onnx or .xml, and its metadata.

    Raises UserError where it is no such file, or its runtime is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such exported graph; seg export writes one")
    if path.suffix == ".onnx":
        session = onnx_session(path, path)
        try:
            stored, run = session.get_modelmeta().custom_metadata_map, onnx_run(session)
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: its metadata is damaged ({reason(error)}); export it again") from error
    else:
        model = _read_openvino(path)
        keys = ("format", "config", "labels", "score")
        stored = {key: model.get_rt_info([FORMAT, key]).astype(str) for key in keys if model.has_rt_info([FORMAT, key])}
        run = openvino_run(model)
    metadata = read_metadata(stored, path)
    return ExportedModel(_checked(run, path, len(metadata.labels)), metadata.config.evaluate.output_stride), metadata


def _checked(run, path: Path, classes: int):
    """A damaged graph may open and fail only when it runs, or give what is no mask: UserError."""

    def checked(images: np.ndarray) -> np.ndarray:
        try:
            masks = run(images)
        except Exception as error:  # the libraries' own classes share no base
            raise UserError(f"{path}: the graph does not run ({reason(error)}); export it again") from error
        if masks.dtype != np.uint8 or masks.shape != images.shape[:3] or masks.max() >= classes:
            raise UserError(f"{path}: the graph does not give a class of {classes} for every pixel; export it again")
        return masks

    return checked


def open_runtime(path, name: str | None = None, overrides=()) -> tuple[nn.Module, Metadata]:
    """The model in a file, ready to predict, and its metadata: weights of ours as they are or in a runtime, with `overrides` of
    settings as in `weights.load.open_model`; or an exported graph."""
    if Path(path).suffix in GRAPHS:
        if name or overrides:
            raise UserError(f"{path}: an exported graph has its runtime and policy within; leave out {name or overrides[0]}")
        return open_graph(path)
    model, about = open_model(path, overrides)
    model.to(device())
    return in_runtime(model, name, about.config.evaluate.output_stride) if name else model, about


def _read_openvino(path: Path):
    core = openvino_core()
    if not path.with_suffix(".bin").is_file():
        raise UserError(f"{path.with_suffix('.bin')}: no such file; an OpenVINO graph is two, .xml and .bin, side by side")
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise UserError(f"{path}: not a graph that OpenVINO reads ({reason(error)})") from error
