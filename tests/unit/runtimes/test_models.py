import subprocess
import sys

import numpy as np
import pytest
import torch

import seg
from seg import precision
from seg.config import Config, InferenceConfig, ModelConfig
from seg.inference.predictor import Predictor
from seg.labels import VOC, LabelSet
from seg.models.factory import build_model
from seg.models.interface import evaluation_mode
from seg.runtimes.export import export
from seg.runtimes.models import ExportedModel
from seg.runtimes.open import in_runtime, open_exported, open_runtime
from seg.runtimes.openvino import core
from seg.weights import file as weights_file
from seg.weights.file import Metadata
from tests.helpers.toy import Small, picture, random_model, refused


@pytest.fixture(scope="module")
def model():
    return random_model(ModelConfig(backbone="xception", width=0.125))


@pytest.fixture(scope="module", params=["torch", "onnx", "openvino"])
def ours(request, model):
    return in_runtime(model, request.param)


def relative(got, wanted) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("size", [(1, 3, 33, 33), (2, 3, 97, 65), (3, 3, 50, 130)])
@torch.inference_mode()
def test_exported_logits_equal_the_model_s_at_any_size_and_batch(model, ours, size):
    images = torch.randn(size)
    wanted = model.logits(images)
    for given in (images, images.contiguous(memory_format=torch.channels_last)):
        got = ours.logits(given)
        assert got.shape == wanted.shape
        assert relative(got, wanted) < 1e-5  # bfloat16 has 1e-2


@pytest.mark.parametrize(
    "policy",
    [InferenceConfig(canvas=65), InferenceConfig(canvas=None, scales=[0.75, 1.25], flip=True), InferenceConfig(tile=257)],
    ids=["canvas", "scales and flip", "tiles"],
)
def test_the_inference_config_works_the_same_with_every_runtime(model, ours, policy):
    image = picture(300, 330) if policy.tile == 257 else picture(61, 75)
    found = Predictor(ours, VOC, policy).predict(image)
    assert (found == Predictor(model, VOC, policy).predict(image)).mean() > 0.9999


# Precision.


@pytest.fixture
def capable(monkeypatch):
    """Hardware with bfloat16, which every processor can at least imitate."""
    monkeypatch.setattr(precision, "best_precision", lambda device: "bfloat16")


@pytest.mark.parametrize("runtime", [None, "torch", "openvino"])
def test_bfloat16_gives_nearly_the_masks_of_float32(tmp_path, capable, runtime):
    net = random_model(ModelConfig(backbone="xception41", width=0.125))
    seg.save(net, tmp_path / "a.safetensors", list("abcde"))
    images = [picture(65, 97, seed) for seed in range(2)]
    exact = seg.load(tmp_path / "a.safetensors", "cpu", canvas=None)
    found = seg.load(tmp_path / "a.safetensors", "cpu", runtime, canvas=None, precision="bfloat16")
    assert found.config.precision == "bfloat16"
    for image, mask in zip(images, found.predict(images), strict=True):
        assert mask.dtype == np.uint8 and (mask == exact.predict(image)).mean() > 0.97
    error = np.abs(found.probabilities(images[0]) - exact.probabilities(images[0])).max()
    assert found.probabilities(images[0]).dtype == np.float32 and error < 0.05
    if runtime != "openvino" or "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert error > 1e-4  # float32 has 1e-6


def test_bfloat16_is_refused_where_the_runtime_or_the_processor_lacks_it(tmp_path, monkeypatch, capable, model):
    with refused("precision bfloat16", "ONNX Runtime", "openvino"):
        in_runtime(model, "onnx", precision="bfloat16")
    seg.save(random_model(), tmp_path / "a.safetensors", list("abcde"))
    monkeypatch.setattr(precision, "best_precision", lambda device: "float32")
    for runtime in (None, "torch", "openvino"):
        for opened in (
            lambda r: seg.load(tmp_path / "a.safetensors", "cpu", r, precision="bfloat16"),
            lambda r: open_runtime(tmp_path / "a.safetensors", r, ["evaluate.precision=bfloat16"], "cpu"),
        ):
            with refused("precision bfloat16", "AVX512-BF16 or AMX", "use float32"):
                opened(runtime)


CTRL_C = """
import os, signal
import torch
from seg.runtimes.openvino import compiled
import openvino

first, second = (compiled(openvino.convert_model(torch.nn.ReLU(), example_input=torch.zeros(1))) for _ in range(2))
del first
del second
signal.signal(signal.SIGINT, lambda *_: print("asked"))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_ctrl_c_works_after_openvino_models_are_deleted():
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "asked\n"), done.stderr


def test_the_exported_output_stride_is_the_configured_one(model):
    images = torch.randn(1, 3, 65, 65)
    got = in_runtime(model, "openvino", 8)
    assert got.output_stride == 8 and model.output_stride == 16
    with evaluation_mode(model, 8), torch.inference_mode():
        assert relative(got.logits(images), model.logits(images)) < 1e-5


@torch.inference_mode()
def test_training_with_and_without_compile_is_equal():
    model = Small().eval()
    compiled = in_runtime(model, "compile")
    for size in ((1, 3, 33, 47), (1, 3, 65, 65)):
        images = torch.randn(size)
        assert relative(compiled.logits(images), model.logits(images)) < 1e-5


@torch.inference_mode()
def test_an_smp_network_runs_in_openvino():
    model = build_model(ModelConfig(smp="DeepLabV3Plus", backbone="resnet18"), 5).eval()
    got = in_runtime(model, "openvino")
    for size in ((1, 3, 64, 96), (2, 3, 75, 51)):
        images = torch.randn(size)
        assert relative(got.logits(images), model.logits(images)) < 1e-4


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_missing_runtime_gives_the_command_that_installs_it(model, monkeypatch, name):
    module = {"onnx": "onnxruntime"}.get(name, name)
    monkeypatch.setitem(sys.modules, module, None)
    with refused(module, f"pip install 'seg-deeplab[{name}]'"):
        in_runtime(model, name)


def test_an_unknown_runtime_is_refused_with_the_nearest_name(model):
    with refused("runtime openvno", "did you mean 'openvino'?"):
        in_runtime(model, "openvno")


# Exported graphs; what is in them is tested in test_export.


def test_an_exported_graph_predicts_classes_only():
    graph = ExportedModel(lambda images: images[..., 0], InferenceConfig(output_stride=16, tile=257))
    images = [picture(40, 50), picture(70, 33)]
    predictor = Predictor(graph, VOC, InferenceConfig(tile=257))
    masks = predictor.predict(images)
    assert predictor.predict(np.zeros((300, 300, 3), np.uint8)).shape == (300, 300)
    with refused("exported model returns only masks"):
        predictor.probabilities(images[0])
    for mask, image in zip(masks, images, strict=True):
        np.testing.assert_array_equal(mask, image[..., 0])


def test_a_file_that_is_not_an_exported_graph_is_refused(tmp_path):
    for name in ("a.onnx", "a.xml"):
        with refused(name, "no such exported model"):
            open_exported(tmp_path / name)
        (tmp_path / name).write_bytes(b"no graph")
    with refused("a.onnx", "ONNX Runtime cannot run this model"):
        open_exported(tmp_path / "a.onnx")
    with refused("a.bin", "no such file", "side by side"):
        open_exported(tmp_path / "a.xml")
    (tmp_path / "a.bin").write_bytes(b"")
    with refused("a.xml", "OpenVINO cannot read this model"):
        open_exported(tmp_path / "a.xml")


def test_a_graph_that_seg_did_not_export_is_refused(tmp_path):
    from onnx import TensorProto, helper

    shape = [1, 8, 8, 3]
    values = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with refused("a.onnx", "no configuration in its metadata"):
        open_exported(tmp_path / "a.onnx")


def test_a_damaged_graph_that_opens_is_refused_when_it_runs(tmp_path, model):
    from onnx import TensorProto, helper

    def write(*nodes, score="{}"):
        values = [helper.make_tensor_value_info(name, TensorProto.UINT8, [None] * 4) for name in "xy"]
        graph = helper.make_graph(nodes, "g", values[:1], values[1:])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        helper.set_model_props(made, weights_file.file_metadata(model, Metadata(Config(), VOC, {})) | {"score": score})
        (tmp_path / "a.onnx").write_bytes(made.SerializeToString())

    image = np.zeros((5, 7, 3), np.uint8)
    write(helper.make_node("Identity", ["x"], ["y"]))
    with refused("a.onnx", "does not return one of 21 classes for each pixel"):
        open_exported(tmp_path / "a.onnx")[0].masks([image])
    write(helper.make_node("Squeeze", ["x"], ["z"]), helper.make_node("Concat", ["x", "z"], ["y"], axis=0))
    with refused("a.onnx", "the model does not run"):
        open_exported(tmp_path / "a.onnx")[0].masks([image])
    write(helper.make_node("Identity", ["x"], ["y"]), score="@@@@")
    (tmp_path / "a.onnx").write_bytes((tmp_path / "a.onnx").read_bytes().replace(b"@@@@", b"\xff\xfe\x93\xff"))
    with refused("a.onnx", "its metadata is damaged"):
        open_exported(tmp_path / "a.onnx")


@pytest.fixture(scope="module")
def exported(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("exported") / "a.onnx"
    labels = LabelSet(tuple("abcde"), tuple((i, i, i) for i in range(5)))
    config = Config(model=ModelConfig(backbone="xception", width=0.125), evaluate=InferenceConfig(canvas=65))
    export(model, Metadata(config, labels, {}), "onnx", path)
    return path


def test_an_exported_model_refuses_a_runtime(exported):
    with refused("a.onnx", "a fixed runtime", "torch"):
        open_runtime(exported, "torch")


REFUSED = {
    "evaluate.flip=true": "flip=false",
    "evaluate.scales=[0.5,1.0]": "scales=[1.0]",
    "evaluate.canvas=null": "canvas=65",
    "evaluate.output_stride=8": "output_stride=16",
    "evaluate.tile=257": "tile=1537",
    'evaluate.precision="bfloat16"': 'precision="float32"',
}


@pytest.mark.parametrize("override", REFUSED)
def test_an_exported_model_refuses_settings_that_are_not_its_own(exported, override):
    with refused("a.onnx", "a fixed", override.replace(",", ", "), REFUSED[override]):
        open_runtime(exported, None, [override])


def test_an_exported_model_accepts_its_own_settings(exported):
    own = ["evaluate.flip=false", "evaluate.scales=[1.0]", "evaluate.canvas=65", "evaluate.output_stride=16"]
    network, metadata = open_runtime(exported, None, own)
    assert metadata.config.evaluate == InferenceConfig(canvas=65, output_stride=16)
    network.require(InferenceConfig(canvas=65))  # an output stride of None is the model's own


def test_an_exported_model_keeps_its_output_stride(exported):
    network, _ = open_exported(exported)
    network.output_stride = 16
    with refused("a.onnx", "output_stride=8", "output_stride=16", "weights file"):
        network.output_stride = 8
    assert network.output_stride == 16


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_converted_network_refuses_another_output_stride(model, name):
    network = in_runtime(model, name, 8)
    network.output_stride = 8
    with refused("output stride 16", name, "output stride 8", "convert the weights again at 16"):
        network.output_stride = 16
    with refused("output stride 16"), evaluation_mode(network, 16):
        raise AssertionError("the output stride was accepted")
    assert network.output_stride == 8


def test_weights_are_opened_with_the_given_inference_config(tmp_path, model):
    labels = LabelSet(tuple("abcde"), tuple((i, i, i) for i in range(5)))
    config = Config(model=ModelConfig(backbone="xception", width=0.125))
    weights_file.write(tmp_path / "a.safetensors", model, Metadata(config, labels, {}))
    got, metadata = open_runtime(tmp_path / "a.safetensors", "torch", ["evaluate.output_stride=8", "evaluate.canvas=65"])
    assert got.output_stride == 8 and metadata.labels == labels
    wanted = Predictor(model, labels, metadata.config.evaluate).predict(picture(40, 50))
    assert (Predictor.of(got, metadata).predict(picture(40, 50)) == wanted).mean() > 0.999
