import json

import pytest

from tests.helpers.command import run


def test_info_counts_the_released_network(place, capsys):
    (place / "x65.yaml").write_text("model: {backbone: xception65}\n")
    code, out, _ = run(capsys, "info", "x65.yaml", "--size", "513", "--json", "info.json")
    assert code == 0
    total = json.loads((place / "info.json").read_text())["rows"][-1]
    assert total["parameters"] == 41_055_413
    assert total["multiply_adds"] == pytest.approx(54.17e9, rel=0.01)
    assert "41,055,413" in out


def test_info_shows_the_configured_crops(place, capsys):
    code, out, _ = run(capsys, "info", "small.yaml", "data.crop_size=[65,97]", "--json", "info.json")
    assert code == 0 and "65x97" in out
    assert json.loads((place / "info.json").read_text())["size"] == [65, 97]


def test_info_resolves_the_batch_for_its_estimate(place, capsys):
    code, out, _ = run(capsys, "info", "small.yaml", "train.batch_size=auto", "train.target_batch_size=3", "--profile")
    assert code == 0 and "training step, 3 crops of " in out


def test_info_profiles_a_network_by_groups(place, capsys):
    code, out, _ = run(capsys, "info", "small.yaml", "--size", "65", "--profile", "--json", "info.json")
    assert code == 0
    found = json.loads((place / "info.json").read_text())
    names = ["entry flow", "middle flow", "exit flow", "aspp", "classifier", "resize and rest", "total"]
    assert [group["name"] for group in found["profile"]] == names
    assert "training step, " in out and " GiB with train.recompute=true" in out
    assert 0 < found["training_bytes"]["recomputed"] < found["training_bytes"]["stored"]
    assert found["profile"][-1]["multiply_adds"] == found["rows"][-1]["multiply_adds"]
    assert "middle flow" in out
