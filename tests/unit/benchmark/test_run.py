import json
from pathlib import Path

import pytest
import torch

from seg.benchmark import run
from seg.benchmark.cases import READ_IMAGES, SECTIONS, loader, loss
from seg.cli.main import main
from tests.helpers.toy import refused, toy_voc

SMALL = {"loss": lambda: loss.cases(batch=1, side=65), "loader": lambda root: loader.cases(root, crop=33, count=4)}


@pytest.fixture(autouse=True)
def small(no_processes, monkeypatch):
    """Two small sections, one of them on toy images."""
    monkeypatch.setattr(run, "write_images", lambda root: toy_voc(Path(root), size=(48, 64)))
    for name, cases in SMALL.items():
        monkeypatch.setitem(SECTIONS, name, cases)


def test_an_unknown_section_is_refused_with_the_nearest_name():
    with refused("no section 'train'", "did you mean 'train-step'?"):
        run.benchmark(["train"])


def test_runs_are_counted_from_1_to_their_total():
    counted = []
    rows = run.benchmark(["loader", "loss"], runs=2, on_run=lambda *numbers: counted.append(numbers))
    assert [row.section for row in rows] == ["loader", "loss"]
    assert counted == [(done, 15) for done in range(1, 16)], "5 sides, each warmed up and run twice"


def test_the_given_images_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "write_images", None)
    roots = []
    monkeypatch.setitem(SECTIONS, "loader", lambda root: roots.append(root) or SMALL["loader"](root))
    assert "loader" in READ_IMAGES
    run.benchmark(["loader"], toy_voc(tmp_path / "voc"), runs=1)
    assert roots == [str(tmp_path / "voc")]


def test_the_command_writes_the_machine_and_rows_and_prints_at_most_100_columns(tmp_path, capsys):
    path = tmp_path / "speed.json"
    assert main(["benchmark", "loader", "loss", "--runs", "1", "--json", str(path)]) == 0
    captured = capsys.readouterr()
    assert "benchmark 10/10" in captured.err
    found = json.loads(path.read_text())
    assert [row["section"] for row in found["rows"]] == ["loader", "loss"]
    for row in found["rows"]:
        assert row.keys() >= {"section", "case", "ours_s", "peer", "peer_s", "ratio", "ours_peak_mib", "peer_peak_mib", "limit"}
    assert found["machine"]["torch"] == torch.__version__ and found["machine"]["processor"] in captured.out.splitlines()[0]
    assert max(map(len, captured.out.splitlines()[1:])) <= 100
