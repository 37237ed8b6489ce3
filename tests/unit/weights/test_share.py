import dataclasses
import json

import pytest
import yaml

from seg.config import from_dict
from seg.labels import VOC
from seg.models.factory import build_model
from seg.weights.file import Metadata, write
from seg.weights.loading import open_model
from seg.weights.share import share
from tests.helpers.configs import CONFIG
from tests.helpers.toy import same

SCORE = {"iteration": 1500, "miou": 0.4321, "split": "val", "iou": {name: 0.25 for name in VOC.names} | {"cat": None}}


@pytest.fixture(scope="module")
def network():
    config = from_dict(CONFIG, "test", ["name=mine", "data.root=/secret/voc", "model.weights=/secret/backbone.safetensors"])
    return build_model(dataclasses.replace(config.model, weights=None), 21), config


def shared(network, folder, score):
    write(folder / "best.safetensors", network[0], Metadata(network[1], VOC, score))
    out = share(folder / "best.safetensors", folder / "shared", "me/net")
    _, head, body = (out / "README.md").read_text().split("---\n", 2)
    return out, yaml.safe_load(head), body


def test_a_shared_folder_contains_the_model_and_its_classes(network, tmp_path):
    out, _, _ = shared(network, tmp_path, SCORE)
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    model, metadata = open_model(out / "model.safetensors")
    assert same(model.state_dict(), network[0].state_dict())
    assert (metadata.labels, metadata.score) == (VOC, SCORE)
    config = json.loads((out / "config.json").read_text())
    assert config["id2label"] == {str(index): name for index, name in enumerate(VOC.names)}
    assert config["label2id"]["cat"] == 8
    assert config["score"] == SCORE


def test_the_model_card_has_the_scores_of_the_run(network, tmp_path):
    _, head, body = shared(network, tmp_path, SCORE)
    (result,) = head["model-index"][0]["results"]
    assert (head["pipeline_tag"], head["library_name"]) == ("image-segmentation", "seg")
    assert result["metrics"][0]["value"] == SCORE["miou"]
    assert (result["dataset"]["name"], result["dataset"]["split"]) == ("voc", "val")
    for part in ("43.21 %", "| dog | 25.00 |", "| cat | - |", 'seg.load("hf:me/net")', "| iterations | 1,500 of 2 |"):
        assert part in body
    assert f"{sum(p.numel() for p in network[0].parameters()):,} parameters" in body


@pytest.mark.parametrize("size, said", [("33", "33x33"), ("[40,56]", "40x56")])
def test_the_model_card_says_the_size_of_the_crops(network, tmp_path, size, said):
    config = from_dict(CONFIG, "test", [f"data.crop_size={size}"])
    assert f"| crop size | {said} |" in shared((network[0], config), tmp_path, SCORE)[2]


def test_a_model_card_without_scores_says_so(network, tmp_path):
    _, head, body = shared(network, tmp_path, {})
    assert "model-index" not in head
    assert "Not measured." in body and "%" not in body


def test_shared_weights_contain_no_local_path(network, tmp_path):
    out, _, body = shared(network, tmp_path, SCORE)
    for path in out.iterdir():
        assert b"/secret" not in path.read_bytes() and str(tmp_path).encode() not in path.read_bytes()
    assert "backbone.safetensors" in body
