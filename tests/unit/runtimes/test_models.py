import subprocess
import sys

import numpy as np
import pytest
import torch

from seg.config import Config, InferenceConfig, ModelConfig
from seg.inference.predictor import Predictor, evaluation_mode
from seg.labels import VOC, LabelSet
from seg.models.factory import build_model
from seg.runtimes.models import EXTRAS, ExportedModel, import_extra, in_runtime, open_graph, open_runtime
from seg.weights import file as weights_file
from tests.helpers.packaging import required
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
def test_logits_are_the_model_s_in_float32_at_any_size_and_batch(model, ours, size):
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
def test_the_policy_works_alike_with_every_runtime(model, ours, policy):
    image = picture(300, 330) if policy.tile == 257 else picture(61, 75)
    found = Predictor(ours, VOC, policy).predict(image)
    assert (found == Predictor(model, VOC, policy).predict(image)).mean() > 0.9999


CTRL_C = """
import os, signal
import torch
from seg.runtimes.models import openvino_run
import openvino

first, second = (openvino_run(openvino.convert_model(torch.nn.ReLU(), example_input=torch.zeros(1))) for _ in range(2))
del first
del second
signal.signal(signal.SIGINT, lambda *_: print("asked"))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_ctrl_c_is_heard_when_the_sessions_of_openvino_have_gone():
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "asked\n"), done.stderr


def test_the_output_stride_is_the_policy_s(model):
    images = torch.randn(1, 3, 65, 65)
    got = in_runtime(model, "openvino", 8)
    assert got.output_stride == 8 and model.output_stride == 16
    with evaluation_mode(model, 8), torch.inference_mode():
        assert relative(got.logits(images), model.logits(images)) < 1e-5


@torch.inference_mode()
def test_compiling_is_optional_and_equal():
    model = Small().eval()
    compiled = in_runtime(model, "compile")
    for size in ((1, 3, 33, 47), (1, 3, 65, 65)):
        images = torch.randn(size)
        assert relative(compiled.logits(images), model.logits(images)) < 1e-5


@torch.inference_mode()
def test_a_library_s_network_runs_in_openvino():
    model = build_model(ModelConfig(smp="DeepLabV3Plus", backbone="resnet18"), 5).eval()
    got = in_runtime(model, "openvino")
    for size in ((1, 3, 64, 96), (2, 3, 75, 51)):
        images = torch.randn(size)
        assert relative(got.logits(images), model.logits(images)) < 1e-4


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_runtime_that_is_not_installed_is_answered_with_the_command(model, monkeypatch, name):
    module = {"onnx": "onnxruntime"}.get(name, name)
    monkeypatch.setitem(sys.modules, module, None)
    with refused(module, f"pip install 'seg-deeplab[{name}]'"):
        in_runtime(model, name)


def test_an_unknown_runtime_is_answered_with_the_nearest(model):
    with refused("runtime openvno", "did you mean 'openvino'?"):
        in_runtime(model, "openvno")


def test_every_optional_module_is_in_its_extra():
    for module, extra in EXTRAS.items():
        assert module in required(extra), (module, extra)
        assert import_extra(module)


def test_the_libraries_do_not_send_notes_of_their_use():
    import_extra("openvino"), import_extra("nncf")
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]


# Exported graphs; what is in them is tested in test_export.


def test_a_graph_is_asked_for_classes_and_nothing_else():
    graph = ExportedModel(lambda images: images[..., 0], 16)
    images = [picture(40, 50), picture(70, 33)]
    predictor = Predictor(graph, VOC, InferenceConfig(tile=257))
    masks = predictor.predict(images)
    assert predictor.predict(np.zeros((300, 300, 3), np.uint8)).shape == (300, 300)
    with refused("exported model gives masks alone"):
        predictor.probabilities(images[0])
    for mask, image in zip(masks, images, strict=True):
        np.testing.assert_array_equal(mask, image[..., 0])


def test_what_is_no_exported_graph_is_refused(tmp_path):
    for name in ("a.onnx", "a.xml"):
        with refused(name, "no such exported graph"):
            open_graph(tmp_path / name)
        (tmp_path / name).write_bytes(b"no graph")
    with refused("a.onnx", "not a graph that ONNX Runtime runs"):
        open_graph(tmp_path / "a.onnx")
    with refused("a.bin", "no such file", "side by side"):
        open_graph(tmp_path / "a.xml")
    (tmp_path / "a.bin").write_bytes(b"")
    with refused("a.xml", "not a graph that OpenVINO reads"):
        open_graph(tmp_path / "a.xml")


def test_a_graph_of_another_program_is_refused(tmp_path):
    from onnx import TensorProto, helper

    shape = [1, 8, 8, 3]
    values = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with refused("a.onnx", "no configuration in its metadata"):
        open_graph(tmp_path / "a.onnx")


def test_a_damaged_graph_that_opens_is_refused_when_it_runs(tmp_path, model):
    from onnx import TensorProto, helper

    def write(*nodes, about="{}"):
        values = [helper.make_tensor_value_info(name, TensorProto.UINT8, [None] * 4) for name in "xy"]
        graph = helper.make_graph(nodes, "g", values[:1], values[1:])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        helper.set_model_props(made, weights_file.describe(model, Config(), VOC, {}) | {"score": about})
        (tmp_path / "a.onnx").write_bytes(made.SerializeToString())

    image = np.zeros((5, 7, 3), np.uint8)
    write(helper.make_node("Identity", ["x"], ["y"]))
    with refused("a.onnx", "does not give a class of 21 for every pixel"):
        open_graph(tmp_path / "a.onnx")[0].masks([image])
    write(helper.make_node("Squeeze", ["x"], ["z"]), helper.make_node("Concat", ["x", "z"], ["y"], axis=0))
    with refused("a.onnx", "the graph does not run"):
        open_graph(tmp_path / "a.onnx")[0].masks([image])
    write(helper.make_node("Identity", ["x"], ["y"]), about="@@@@")
    (tmp_path / "a.onnx").write_bytes((tmp_path / "a.onnx").read_bytes().replace(b"@@@@", b"\xff\xfe\x93\xff"))
    with refused("a.onnx", "its metadata is damaged"):
        open_graph(tmp_path / "a.onnx")


@pytest.mark.parametrize(("name", "overrides"), [("torch", ()), (None, ["evaluate.flip=true"])])
def test_a_graph_takes_no_policy_and_no_runtime(tmp_path, name, overrides):
    with refused("a.onnx", "within", name or overrides[0]):
        open_runtime(tmp_path / "a.onnx", name, overrides)


def test_weights_are_opened_with_the_policy_asked_for(tmp_path, model):
    labels = LabelSet(tuple("abcde"), tuple((i, i, i) for i in range(5)))
    config = Config(model=ModelConfig(backbone="xception", width=0.125))
    weights_file.write(tmp_path / "a.safetensors", model, config, labels, {})
    got, about = open_runtime(tmp_path / "a.safetensors", "torch", ["evaluate.output_stride=8", "evaluate.canvas=65"])
    assert got.output_stride == 8 and about.labels == labels
    wanted = Predictor(model, labels, about.config.evaluate).predict(picture(40, 50))
    assert (Predictor.of(got, about).predict(picture(40, 50)) == wanted).mean() > 0.999
