import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import seg
from seg.cli.main import main
from seg.config import from_dict
from seg.labels import VOC
from seg.models.factory import build_model
from seg.visualize import overlay
from seg.weights.file import Metadata, write
from tests.helpers.configs import CONFIG
from tests.helpers.toy import refused, toy_sample, toy_voc

IMAGE = toy_sample(0)[0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of a small network with random weights."""
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    config = from_dict(CONFIG, "test")
    torch.manual_seed(0)
    model = build_model(config.model, 21)
    torch.nn.init.normal_(next(p for name, p in model.named_parameters() if name == "classifier.weight"))
    write(path, model, Metadata(config, VOC, {"iteration": 2, "miou": 0.25}))
    return path


@pytest.fixture(scope="module")
def model(weights):
    return seg.load(weights, device="cpu")


def by_command(weights, folder, *flags):
    """The masks of the images in the folder as `seg predict` writes them."""
    arguments = ["predict", str(weights), str(folder), "--out", str(folder / "masks"), "--mode", "index", "--quiet", *flags]
    assert main(arguments) == 0
    return [np.array(Image.open(path)) for path in sorted((folder / "masks").iterdir())]


def test_masks_equal_those_of_the_command_for_every_type_of_image(model, weights, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(IMAGE).save(path)
    (wanted,) = by_command(weights, tmp_path)
    assert len(np.unique(wanted)) > 1
    tensor = torch.from_numpy(IMAGE)
    held = [path, str(path), Image.open(path), Image.fromarray(IMAGE).convert("RGBA"), IMAGE, tensor, tensor.permute(2, 0, 1)]
    for image, mask in zip(held, model.predict(held), strict=True):
        np.testing.assert_array_equal(mask, wanted, err_msg=repr(image))
    mask = model.predict(IMAGE)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, wanted)


def test_gray_is_three_equal_channels(model):
    gray = IMAGE[..., 0]
    wanted = model.predict(np.stack([gray] * 3, 2))
    for image in (gray, gray[..., None], Image.fromarray(gray), torch.from_numpy(gray), torch.from_numpy(gray)[None]):
        np.testing.assert_array_equal(model.predict(image), wanted)


def test_the_arguments_of_load_equal_the_flags_of_the_command(weights, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    (wanted,) = by_command(weights, tmp_path, "--scales", "0.75,1.5", "--flip", "--output-stride", "8", "--canvas", "65")
    other = seg.load(weights, scales=[0.75, 1.5], flip=True, output_stride=8, canvas=65)
    np.testing.assert_array_equal(other.predict(IMAGE), wanted)
    assert (other.model.output_stride, other.model.training) == (16, False)
    assert (wanted != seg.load(weights).predict(IMAGE)).any()


def test_a_runtime_predicts_the_classes_of_the_model(model, weights):
    mask = seg.load(weights, runtime="onnx").predict(IMAGE)
    assert mask.dtype == np.uint8 and (mask == model.predict(IMAGE)).mean() > 0.999
    with refused("runtime onxx", "did you mean 'onnx'?"):
        seg.load(weights, runtime="onxx")


def test_an_exported_graph_is_loaded_with_its_inference_config_and_labels(model, weights, tmp_path):
    graph = tmp_path / "a.onnx"
    assert main(["export", str(weights), "--format", "onnx", "--out", str(graph), "--quiet"]) == 0
    loaded = seg.load(graph)
    assert loaded.classes == model.classes and loaded.score == model.score
    for mask, wanted in zip(loaded.predict([IMAGE, IMAGE[:40]]), model.predict([IMAGE, IMAGE[:40]]), strict=True):
        assert (mask == wanted).mean() > 0.999
    for named in ({"device": "cpu"}, {"runtime": "torch"}, {"flip": True}):
        with refused("a.onnx", "leave out", *(named if "flip" in named else named.values())):
            seg.load(graph, **named)


def test_a_pillow_image_is_read_upright_and_not_changed(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(IMAGE))).save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as photo:
        np.testing.assert_array_equal(model.predict(photo), model.predict(IMAGE))
        assert photo.size == (48, 64)
        assert model.draw(photo, model.predict(photo)).size == (64, 48)
    image = Image.fromarray(IMAGE)
    image.info["transparency"] = (0, 0, 0)
    model.predict(image)
    assert "transparency" in image.info


def test_a_drawing_has_the_type_of_its_image(model, tmp_path):
    mask = toy_sample(0)[1]
    wanted = overlay(IMAGE, mask, VOC)
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    for image in (tmp_path / "a.png", Image.fromarray(IMAGE)):
        picture = model.draw(image, mask)
        assert isinstance(picture, Image.Image)
        np.testing.assert_array_equal(np.array(picture), wanted)
    for image in (IMAGE, torch.from_numpy(IMAGE)):
        np.testing.assert_array_equal(model.draw(image, mask), wanted)


def test_a_predictor_states_its_classes_palette_and_score(model):
    assert model.classes == list(VOC.names)
    np.testing.assert_array_equal(model.palette, VOC.palette)
    assert model.score["miou"] == 0.25
    assert "21 classes" in repr(model) and "25.00 %" in repr(model)


def test_anything_but_an_image_is_refused(model, tmp_path):
    with refused("float64", "with values from", "must be from 0 to 1"):
        model.predict(IMAGE / 1.0)
    with refused("[3, 48, 64]", "transpose(1, 2, 0)"):
        model.predict(IMAGE.transpose(2, 0, 1))
    with refused("[48, 64, 4]", "[H, W, 3]"):
        model.predict(np.zeros((48, 64, 4), np.uint8))
    with refused("[48, 64, 5]"):
        model.predict(np.zeros((2, 48, 64, 5), np.uint8))
    with refused("[0, 64, 3]"):
        model.predict(np.zeros((0, 64, 3), np.uint8))
    with refused("NoneType", "not an image"):
        model.predict(None)
    with refused("mode F"):
        model.predict(Image.new("F", (40, 40)))
    with refused("none.png", "no such file"):
        model.predict([IMAGE, "none.png"])
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    with Image.open(tmp_path / "a.png") as cut, refused("cannot be decoded"):
        model.predict(cut)


def test_a_mask_of_another_size_or_kind_is_refused(model):
    with refused("[47, 64]", "[48, 64]"):
        model.draw(IMAGE, np.zeros((47, 64), np.uint8))
    with refused("int64", "uint8"):
        model.draw(IMAGE, np.zeros((48, 64), np.int64))


def test_wrong_arguments_of_load_are_refused(weights):
    with pytest.raises(seg.UserError, match=r"none\.safetensors: no such weights file"):
        seg.load("none.safetensors")
    with refused("seg.load", "evaluate.scale", "did you mean"):
        seg.load(weights, scale=[1])
    with refused("evaluate.scales"):
        seg.load(weights, scales=[99])
    with refused("device=nowhere", "must be auto, cpu"):
        seg.load(weights, device="nowhere")
    with refused("the runtime onnx runs on the CPU", "leave out the device cuda"):
        seg.load(weights, device="cuda", runtime="onnx")


def test_a_call_is_a_prediction(model):
    np.testing.assert_array_equal(model(IMAGE), model.predict(IMAGE))


def test_fractions_are_taken_as_images_of_full_range(model):
    wanted = model.predict(IMAGE)
    tensor = torch.from_numpy(IMAGE).permute(2, 0, 1) / 255
    for image in (IMAGE / 255, (IMAGE / 255).astype(np.float16), tensor, tensor.double()):
        np.testing.assert_array_equal(model.predict(image), wanted)


def test_several_images_give_a_list_of_masks(model, tmp_path):
    images = [toy_sample(i)[0] for i in range(3)]
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    wanted = [model.predict(image) for image in images]
    batch = np.stack(images)
    tensor = torch.from_numpy(batch).permute(0, 3, 1, 2)
    for several in (tuple(images), batch, tensor, tensor / 255, tmp_path, str(tmp_path), str(tmp_path / "*.png")):
        found = model(several)
        assert isinstance(found, list)
        np.testing.assert_array_equal(found, wanted)
    (tmp_path / "a[0].png").write_bytes((tmp_path / "0.png").read_bytes())  # a file's name may look like a pattern
    np.testing.assert_array_equal(model(tmp_path / "a[0].png"), wanted[0])
    with refused("none*.png", "no"):
        model(str(tmp_path / "none*.png"))


def test_a_drawing_has_its_own_strength_and_legend(model):
    mask = model.predict(IMAGE)
    np.testing.assert_array_equal(model.draw(IMAGE), model.draw(IMAGE, mask))
    np.testing.assert_array_equal(model.draw(IMAGE, mask, alpha=0), IMAGE)
    full = model.draw(IMAGE, mask, alpha=1)
    np.testing.assert_array_equal(full[mask > 0], model.palette[mask][mask > 0])
    picture = model.draw(IMAGE, mask, legend=True)
    assert picture.shape[0] > IMAGE.shape[0] and picture.shape[1] == IMAGE.shape[1]
    with refused("alpha=2"):
        model.draw(IMAGE, mask, alpha=2)


def test_labels_of_a_saved_network_may_be_a_built_in_label_set(model, tmp_path):
    path = seg.save(model.model, tmp_path / "net.safetensors", labels="voc")
    assert seg.load(path).classes == list(VOC.names)
    with refused("net.pth", "net.safetensors"):
        seg.save(model.model, tmp_path / "net.pth", labels="voc")


def test_overrides_may_be_a_mapping(tmp_path):
    with refused("train.iterations", "0"):
        seg.train("voc_mini", {"train.iterations": 0})
    with refused("nowhere.safetensors: no such weights file"):
        seg.train(
            "voc_mini", {"model.weights": "nowhere.safetensors", "data.root": toy_voc(tmp_path / "voc"), "data.train": "val"}
        )


def test_seg_evaluate_gives_the_numbers_of_the_command(weights, tmp_path):
    root = toy_voc(tmp_path / "voc")
    command = ["evaluate", str(weights), "--data", str(root), "--split", "val", "--flip", "--quiet"]
    assert main([*command, "--json", str(tmp_path / "scores.json")]) == 0
    wanted = json.loads((tmp_path / "scores.json").read_text())
    for scores in (
        seg.evaluate(weights, data=root, split="val", flip=True),
        seg.evaluate(seg.load(weights, flip=True), data=root, split="val"),
    ):
        assert scores.as_dict() == {key: value for key, value in wanted.items() if key != "settings"}
        assert scores.miou == wanted["miou"] and scores.iou["background"] == wanted["iou"][0]
    with refused("seg.evaluate", "seg.load"):
        seg.evaluate(seg.load(weights), data=root, split="val", flip=True)


def test_the_suffix_chooses_the_format_of_an_export(model, weights, tmp_path):
    for source in (model, weights):
        result = seg.export(source, tmp_path / "model.onnx")
        assert result.format == "onnx" and result.equal > 0.999
        assert (seg.load(tmp_path / "model.onnx").predict(IMAGE) == model.predict(IMAGE)).mean() > 0.999
    seg.export(seg.load(weights, flip=False, output_stride=8), tmp_path / "copy.safetensors")
    copy = seg.load(tmp_path / "copy.safetensors")
    assert copy.config.output_stride == 8 and copy.score == model.score
    with refused("model.onx", "did you mean '.onnx'?"):
        seg.export(model, tmp_path / "model.onx")


def test_dir_lists_the_python_interface():
    assert {"load", "train", "evaluate", "export", "save", "UserError", "models", "data", "training"} <= set(dir(seg))


def test_importing_seg_imports_nothing_heavy():
    code = "import sys, seg; seg.UserError; print(*{'torch', 'numpy', 'PIL'} & set(sys.modules)); seg.nothing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == ""
    assert "module 'seg' has no attribute 'nothing'; known here: Callback" in done.stderr
