import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from seg import precision
from seg.config import Config, InferenceConfig, ModelConfig
from seg.inference.predictor import Predictor
from seg.labels import LabelSet
from seg.runtimes import export as room
from seg.runtimes import openvino
from seg.runtimes.export import FORMATS, ExportWrapper, export
from seg.runtimes.open import open_exported
from seg.runtimes.openvino import core
from seg.runtimes.quantize import fine_convolutions
from seg.weights.file import Metadata
from seg.weights.loading import open_model
from tests.helpers.toy import Small, picture, random_model, refused

LABELS = LabelSet(tuple("abcde"), tuple((i, i, i) for i in range(5)))
SIZES = [(2, 40, 50), (1, 65, 65), (1, 66, 33), (3, 81, 130), (1, 20, 7)]


def metadata_of(**policy) -> Metadata:
    return Metadata(Config(evaluate=InferenceConfig(**{"canvas": 65, **policy})), LABELS, {"miou": 0.5})


def small() -> Small:
    torch.manual_seed(0)
    return Small().eval()


def images_of(folder, count):
    folder.mkdir()
    for number in range(count):
        Image.fromarray(picture(60 + number, 70, number)).save(folder / f"{number}.png")
    return folder


def predict_mask(model, image, config):
    return Predictor(model, LABELS, config).predict(image)


# The graph, before any export.


@pytest.mark.parametrize("canvas", [None, 64, 65])
@torch.inference_mode()
def test_an_exported_graph_predicts_with_its_inference_config(canvas):
    model = small()
    for count, height, width in SIZES:
        images = [picture(height, width, seed) for seed in range(count)]
        masks = ExportWrapper(model, canvas)(torch.from_numpy(np.stack(images)))
        assert masks.dtype == torch.uint8
        for mask, image in zip(masks.numpy(), images, strict=True):
            assert (mask != predict_mask(model, image, InferenceConfig(canvas=canvas))).sum() <= mask.size // 1000


# Files, run by nothing but the library that they are for.

ALONE = {
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(path)
run = lambda images: session.run(None, {session.get_inputs()[0].name: images})[0]
metadata = session.get_modelmeta().custom_metadata_map
""",
    "openvino": """
import openvino
model = openvino.Core().read_model(path)
metadata = {key: value.astype(str) for key, value in model.get_rt_info("seg").astype(dict).items()}
compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
run = lambda images: compiled([images])[0]
""",
    "torch": """
import torch
extra = {"metadata.json": ""}
module = torch.export.load(path, extra_files=extra).module()
metadata = json.loads(extra["metadata.json"])
run = lambda images: module(torch.from_numpy(images)).numpy()
""",
}
AROUND = """
import json, sys
import numpy as np
path, inputs, outputs = sys.argv[1:]
{}
assert "seg" not in sys.modules
print(json.dumps(dict(metadata)))
with np.load(inputs) as arrays:
    np.savez(outputs, **{{name: run(arrays[name]) for name in arrays}})
"""


@pytest.mark.parametrize("format", ALONE)
def test_a_graph_gives_the_model_s_classes_without_this_package(tmp_path, format):
    model, path = small(), tmp_path / f"model{FORMATS[format]}"
    result = export(model, metadata_of(), format, path)
    assert result.equal > 0.999 and len(result.sizes) == 2 and result.calibrated == 0
    assert "float32 graph; canvas 65, output stride 16" in str(result)
    arrays = {str(i): np.stack([picture(*size, seed) for seed in range(n)]) for i, (n, *size) in enumerate(SIZES)}
    np.savez(tmp_path / "in.npz", **arrays)
    command = [sys.executable, "-c", AROUND.format(ALONE[format]), path, tmp_path / "in.npz", tmp_path / "out.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    metadata = json.loads(done.stdout)
    assert json.loads(metadata["labels"]) == LABELS.as_dict()
    assert json.loads(metadata["config"])["evaluate"]["output_stride"] == 16
    with np.load(tmp_path / "out.npz") as masks:
        for name, images in arrays.items():
            wanted = np.stack([predict_mask(model, image, InferenceConfig(canvas=65)) for image in images])
            assert masks[name].dtype == np.uint8 and masks[name].shape == wanted.shape
            assert (masks[name] != wanted).sum() <= wanted.size // 1000


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_an_exported_graph_is_read_back_with_its_labels_and_inference_config(tmp_path, format):
    model, path = small(), tmp_path / f"model{FORMATS[format]}"
    export(model, metadata_of(canvas=None, scales=[0.5, 1.0], flip=True), format, path)
    graph, read = open_exported(path)
    assert read.labels == LABELS and read.score == {"miou": 0.5}
    assert read.config.evaluate == InferenceConfig(canvas=None, output_stride=16)
    image = picture(50, 71)
    assert (graph.masks([image])[0] != predict_mask(model, image, read.config.evaluate)).sum() <= 3


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_int8_is_calibrated_on_half_of_the_images_and_compared_on_the_rest(tmp_path, format):
    model, path = small(), tmp_path / f"model{FORMATS[format]}"
    result = export(model, metadata_of(), format, path, calibrate=[images_of(tmp_path / "images", 6)])
    assert (result.calibrated, result.tested) == (3, 3)
    assert result.sizes == ("61x70", "63x70", "65x70")
    assert 0.9 < result.equal < 1
    assert "int8 graph, calibrated on 3 images" in str(result)
    assert not logging.getLogger("nncf").isEnabledFor(logging.INFO)  # its lines would go to standard output
    assert (b"QuantizeLinear" if format == "onnx" else b"FakeQuantize") in path.read_bytes()
    mask = open_exported(path)[0].masks([picture(61, 70, 1)])[0]
    assert 0.9 < (mask == predict_mask(model, picture(61, 70, 1), InferenceConfig(canvas=65))).mean() < 1


def dims(value) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize(
    ("options", "ir_version", "opset"),
    [({}, 9, 18), ({"int8": True}, 9, 18), ({"confidence": True}, 9, 18), ({"newest": True}, 11, 23)],
    ids=["float32", "int8", "confidence", "newest"],
)
def test_onnx_is_what_runtimes_of_today_take_with_names_that_a_person_reads(tmp_path, options, ir_version, opset):
    import onnx

    options = dict(options)
    calibrate = [images_of(tmp_path / "images", 2)] if options.pop("int8", False) else []
    export(small(), metadata_of(), "onnx", tmp_path / "a.onnx", calibrate=calibrate, **options)
    onnx.checker.check_model(tmp_path / "a.onnx", full_check=True)
    model = onnx.load(tmp_path / "a.onnx")
    # ONNX Runtime 1.17 takes IR version 9 and opset 20.
    assert (model.ir_version, [(entry.domain, entry.version) for entry in model.opset_import]) == (ir_version, [("", opset)])
    assert [(value.name, dims(value)) for value in model.graph.input] == [("image", ["batch", "height", "width", 3])]
    names = ["mask", "confidence"] if options.get("confidence") else ["mask"]
    assert [(value.name, dims(value)) for value in model.graph.output] == [(n, ["batch", "height", "width"]) for n in names]
    assert bytes(str(room.__file__).split("runtimes")[0], "utf-8") not in (tmp_path / "a.onnx").read_bytes()
    assert not any(node.metadata_props for node in model.graph.node)  # stack traces, with paths of this machine


def onnx_outputs(path, images):
    import onnxruntime

    return onnxruntime.InferenceSession(path).run(["mask", "confidence"], {"image": images})


def openvino_outputs(path, images):
    found = core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([images])
    return found["mask"], found["confidence"]


def torch_outputs(path, images):
    return [found.numpy() for found in torch.export.load(path).module()(torch.from_numpy(images))]


OUTPUTS = {"onnx": onnx_outputs, "openvino": openvino_outputs, "torch": torch_outputs}


@pytest.mark.parametrize("format", OUTPUTS)
def test_the_confidence_is_the_largest_probability_of_each_pixel(tmp_path, format):
    model, path = small(), tmp_path / f"model{FORMATS[format]}"
    assert export(model, metadata_of(), format, path, confidence=True).equal > 0.999
    images = np.stack([picture(40, 50, seed) for seed in range(2)])
    masks, confidence = OUTPUTS[format](path, images)
    predictor = Predictor(model, LABELS, InferenceConfig(canvas=65))
    wanted = np.stack([predictor.probabilities(image) for image in images])
    assert confidence.dtype == np.float32 and confidence.shape == masks.shape == (2, 40, 50)
    np.testing.assert_allclose(confidence, wanted.max(1), atol=1e-5)
    assert (masks == wanted.argmax(1)).mean() > 0.999
    if format != "torch":  # the verbs take such a file, too
        np.testing.assert_array_equal(open_exported(path)[0].masks([images[0]])[0], masks[0])


def test_int8_keeps_border_layers_and_cheap_layers_in_float32(tmp_path):
    model = random_model(ModelConfig(backbone="xception41", width=0.125))
    # The stem's two, and in each of two modules three pointwise ones and the shortcut's.
    assert fine_convolutions(model) == 10
    export(model, metadata_of(), "openvino", tmp_path / "model.xml", calibrate=[images_of(tmp_path / "images", 2)])
    graph = core().read_model(tmp_path / "model.xml")
    quantized = {"Convolution": [], "GroupConvolution": []}
    for node in graph.get_ordered_ops():
        if node.get_type_name() in quantized:
            weights = node.input_value(1).get_node().get_type_name()
            quantized[node.get_type_name()].append(weights == "Multiply")  # of integers by a scale
    assert quantized["Convolution"][:10] == [False] * 10 and all(quantized["Convolution"][10:])
    assert not any(quantized["GroupConvolution"])


def test_exported_safetensors_are_the_weights_with_the_inference_config(tmp_path):
    config = ModelConfig(backbone="xception", width=0.125)
    model = random_model(config)
    given = Metadata(Config(model=config, evaluate=InferenceConfig(canvas=65, flip=True)), LABELS, {"miou": 0.5})
    result = export(model, given, "safetensors", tmp_path / "a.safetensors")
    assert result.equal is None and "weights" in str(result)
    read, metadata = open_model(tmp_path / "a.safetensors")
    assert metadata.config.evaluate == InferenceConfig(canvas=65, output_stride=16)
    for name, value in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], value)


def test_a_bfloat16_export_is_compared_and_runs_in_bfloat16(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "best_precision", lambda device: "bfloat16")
    asked, compiled = [], openvino.compiled
    monkeypatch.setattr(openvino, "compiled", lambda graph, kind="float32": asked.append(kind) or compiled(graph, kind))
    model, path, metadata = small(), tmp_path / "a.xml", metadata_of(precision="bfloat16")
    result = export(model, metadata, "openvino", path)
    assert 0.9 < result.equal <= 1 and result.as_dict()["precision"] == "bfloat16"
    assert "bfloat16 graph; canvas 65" in str(result)
    assert result.equal < 1 or "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    network, metadata = open_exported(path)
    assert asked == ["bfloat16"] * 2 and metadata.config.evaluate.precision == "bfloat16"
    exact = Predictor(model, LABELS, InferenceConfig(canvas=65))
    image = picture(50, 71)
    assert (Predictor.of(network, metadata).predict(image) == exact.predict(image)).mean() > 0.9
    calibrated = export(
        model, metadata_of(precision="bfloat16"), "openvino", path, calibrate=[images_of(tmp_path / "images", 2)]
    )
    assert "int8 and bfloat16 graph, calibrated on 2 images" in str(calibrated)
    monkeypatch.setattr(precision, "best_precision", lambda device: "float32")
    with refused("a.xml", "precision bfloat16", "AVX512-BF16 or AMX", "use float32"):
        open_exported(path)


# What is refused; nothing is then written.


def test_a_graph_that_predicts_other_classes_is_not_written(tmp_path, monkeypatch):
    model, runner = small(), room.runner

    def wrong(*graph):
        run = runner(*graph)

        def spoilt(images):
            masks = run(images).copy()
            masks.reshape(-1)[: masks.size // 100] ^= 1
            return masks

        return spoilt

    monkeypatch.setattr(room, "runner", wrong)
    with refused("a.pt2", "not written", "0.99 % of the pixels", "0.1 %"):
        export(model, metadata_of(), "torch", tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "name", "options", "parts"),
    [
        ("onnx", "a.xml", {}, ("a.xml", ".onnx")),
        ("torch", "a.pth", {}, ("a.pth", ".pt2")),
        ("torch", "a.pt2", {"calibrate": ["x.png"]}, ("--int8", "openvino and onnx")),
        ("onnx", "a.onnx", {"calibrate": ["x.png"]}, ("x.png", "no such image")),
        ("safetensors", "a.safetensors", {"confidence": True}, ("--confidence", "weights")),
        ("openvino", "a.xml", {"newest": True}, ("--newest", "onnx")),
        ("onnx", "a.onnx", {"precision": "bfloat16"}, ("--precision bfloat16", "--format openvino", "not onnx")),
        ("torch", "a.pt2", {"precision": "bfloat16"}, ("--precision bfloat16", "--format openvino", "not torch")),
        ("openvino", "a.xml", {"precision": "bfloat16"}, ("precision bfloat16", "AVX512-BF16 or AMX", "use float32")),
    ],
)
def test_user_errors_are_refused_before_any_work(tmp_path, monkeypatch, format, name, options, parts):
    options = dict(options)
    kind = options.pop("precision", "float32")
    monkeypatch.setattr(precision, "best_precision", lambda device: "float32")
    with refused(*parts):
        export(None, metadata_of(precision=kind), format, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["onnxscript", "openvino", "nncf"])
def test_a_missing_library_gives_the_command_that_installs_it(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with refused(module, "pip install 'seg-deeplab["):
        export(None, metadata_of(), "openvino", tmp_path / "a.xml", calibrate=["x.png"])


def test_an_interrupted_write_leaves_neither_file(tmp_path, monkeypatch):
    import openvino

    def interrupted(graph, xml, weights):
        weights.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(openvino, "serialize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(small(), metadata_of(), "openvino", tmp_path / "a.xml")
    assert not list(tmp_path.iterdir())


def test_every_step_is_counted(tmp_path):
    seen = []
    export(small(), metadata_of(), "torch", tmp_path / "a.pt2", progress=lambda *step: seen.append(step))
    assert seen == [(n, 5) for n in range(1, 6)]
