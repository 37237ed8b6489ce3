import pytest
import torch

import seg
from seg.config import from_dict
from seg.labels import VOC
from seg.models.factory import build_model
from seg.runtimes.open import open_runtime
from seg.weights import resolve
from seg.weights.file import Metadata, write
from seg.weights.loading import open_model, read_into
from seg.weights.resolve import resolve_weights
from seg.weights.share import share
from tests.helpers.configs import CONFIG
from tests.helpers.toy import refused, same


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with its best weights, and their network."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    config = from_dict(CONFIG, "test")
    model = build_model(config.model, 21)
    write(folder / "best.safetensors", model, Metadata(config, VOC, {"miou": 0.5}))
    (folder / "config.yaml").touch()
    return folder, model


def test_the_folder_of_a_run_means_its_best_weights(run):
    folder, model = run
    assert resolve_weights(folder) == folder / "best.safetensors"
    for opened in (open_model(folder)[0], open_runtime(str(folder))[0]):
        assert same(opened.state_dict(), model.state_dict())
    other = build_model(from_dict(CONFIG, "test").model, 21)
    assert not read_into(other, folder).missing
    assert same(other.state_dict(), model.state_dict())


def test_a_shared_folder_is_opened(run, tmp_path):
    folder, model = run
    shared = share(folder, tmp_path / "shared")
    assert same(open_model(shared)[0].state_dict(), model.state_dict())
    assert read_into(build_model(from_dict(CONFIG, "test").model, 21), shared).matched


def test_a_folder_without_weights_is_refused_with_a_remedy(tmp_path):
    with refused(tmp_path, "has no best.safetensors", "runs/NAME"):
        resolve_weights(tmp_path)
    (tmp_path / "last.ckpt").touch()
    with refused(tmp_path, "no best.safetensors yet", "first validation"):
        resolve_weights(tmp_path)


def test_a_weights_file_means_itself(run, tmp_path):
    for name in ("model.onnx", "model.xml", "none.safetensors"):
        assert resolve_weights(tmp_path / name) == tmp_path / name
    assert resolve_weights(str(run[0] / "best.safetensors")) == run[0] / "best.safetensors"


def test_an_exported_model_is_not_read_as_weights(tmp_path):
    (tmp_path / "model.onnx").touch()
    with refused("model.onnx", "exported model", "weights file that it was exported from"):
        open_model(tmp_path / "model.onnx")


def test_a_source_without_a_complete_network_is_refused_with_a_command(run, tmp_path, monkeypatch):
    with refused("timm:xception65.tf_in1k", "without segmentation classes", "model.weights=timm:xception65.tf_in1k"):
        open_runtime("timm:xception65.tf_in1k")
    monkeypatch.setattr(resolve.published, "get", lambda name: pytest.fail(f"{name} is downloaded"))
    for open_weights in (open_runtime, open_model, seg.load):
        with refused("xception65_imagenet: ", "without segmentation classes", "model.weights=xception65_imagenet"):
            open_weights("xception65_imagenet")
    with refused("tf:model.ckpt-7", "seg convert tf:model.ckpt-7 --out"):
        open_runtime("tf:model.ckpt-7")
    write(tmp_path / "backbone.safetensors", run[1], Metadata(from_dict(CONFIG, "test"), VOC, {}), only="backbone.")
    for open_weights in (open_runtime, open_model):
        with refused(tmp_path / "backbone.safetensors", "a backbone only", "segmentation classes", "seg train"):
            open_weights(tmp_path / "backbone.safetensors")


def test_checkpoints_and_pickles_are_never_opened(tmp_path):
    (tmp_path / "last.ckpt").touch()
    with refused("last.ckpt", f"give the run's folder, {tmp_path}"):
        open_runtime(tmp_path / "last.ckpt")
    for name in ("model.pth", "model.pt", "pytorch_model.bin"):
        torch.save({"a": torch.zeros(1)}, tmp_path / name)
        with refused(name, "seg never opens", "safetensors"):
            open_runtime(tmp_path / name)
        with refused(name, "seg never opens", "safetensors"):
            read_into(build_model(from_dict(CONFIG, "test").model, 21), tmp_path / name)
