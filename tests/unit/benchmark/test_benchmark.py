import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from seg.benchmark import cases as bench
from seg.benchmark.cases import Case, Limit, Row, Side, measure
from seg.cli.main import main
from seg.cli.tables import benchmark_table
from tests.helpers.toy import Reader, refused, toy_voc

SMALL = {"backbone": "xception41", "width": 0.125}
PEER = {"encoder": "resnet18", "peer_side": 64}
KEYS = {"section", "case", "ours_s", "peer", "peer_s", "ratio", "ours_peak_mib", "peer_peak_mib", "limit"}


@pytest.fixture
def voc(tmp_path):
    return str(toy_voc(tmp_path / "voc"))


@pytest.fixture
def no_processes(monkeypatch):
    """All sides work in this process; memory is not measured."""
    monkeypatch.setattr(bench, "Alone", Here)
    monkeypatch.setattr(bench, "SHORTEST", 0.001)


class Here(bench.Alone):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ready(self):
        self.work = self.side.build(*self.side.arguments)
        self.work()
        return 1.0

    def seconds(self):
        return bench.seconds(self.work)


SECTIONS = {
    "forward": lambda root: bench.forward(**SMALL, side=65, **PEER),
    "train-step": lambda root: bench.train_step(**SMALL, side=65, **PEER),
    "loss": lambda root: bench.loss(batch=1, side=65),
    "loader": lambda root: bench.loader(root, crop=33, count=4),
    "evaluation": lambda root: bench.evaluation(root, images=2, canvas=65, **SMALL),
    "start-up": lambda root: bench.start_up("json"),
}


def test_every_section_is_tried_below():
    assert SECTIONS.keys() == bench.SECTIONS.keys()


@pytest.mark.parametrize("section", SECTIONS)
def test_each_section_compares_with_a_peer_in_the_same_run(section, voc, no_processes, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            bench, "installed", lambda name: name in ("eager", "torch", "torchmetrics")
        )  # converting a network takes a while
        cases = SECTIONS[section](voc)
    rows = measure(cases, runs=1)
    assert [(row.section, row.case) for row in rows] == [(section, case.name) for case in cases]
    for row in rows:
        assert dataclasses.asdict(row).keys() >= KEYS
        assert row.ours_s > 0
        assert row.ratio == row.peer_s / row.ours_s > 0
        assert (row.limit is None) == (row.limited_by is None) and row.limit != 0
    assert any(row.limit for row in rows) or section == "loss"


class Clock:
    """Work that takes a known time, and notes when it is done."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, []
        monkeypatch.setattr(bench.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(bench.time, "sleep", lambda seconds: None)

    def takes(self, name, times, pieces=1):
        left = iter(times)

        def build():
            def work():
                self.calls.append(name)
                self.now += next(left)

            return work

        return Side(name, build, (), pieces)


def test_sides_take_turns_after_a_warm_up_and_the_medians_are_compared(monkeypatch, no_processes):
    clock = Clock(monkeypatch)
    first, second = clock.takes("first", [100, 8, 2, 4], pieces=2), clock.takes("second", [100, 10, 10, 1000], pieces=2)
    peer, fast, slow = (clock.takes(*a) for a in (("peer", [100, 6, 7, 9]), ("fast", [9, 1, 3, 3]), ("slow", [9, 4, 4, 4])))
    limit = Limit("arithmetic", "GFLOP", 3.0, (slow, fast), (4.0, 2.0))
    ticks = []
    rows = measure([Case("s", "a", first, peer, limit), Case("s", "b", second, peer)], 3, lambda: ticks.append(1))
    assert clock.calls == ["first", "peer", "slow", "fast", "second"] * 4
    assert len(ticks) == 5 * 4
    a, b = rows
    assert (a.ours_s, a.peer_s, a.ratio) == (2.0, 7.0, 3.5)
    assert (b.ours_s, b.peer_s, b.ratio) == (5.0, 7.0, 1.4)
    # The best rate is that of 2 GFLOP in 1 s.
    assert (a.limit, a.limited_by, b.limit) == (1.5, "arithmetic, 2 GFLOP/s", None)


def test_short_work_is_repeated_and_its_mean_counts(monkeypatch):
    clock = Clock(monkeypatch)
    assert bench.seconds(clock.takes("short", [0.05, 0.07, 0.03, 0.09]).build()) == pytest.approx(0.06)


def alone(build, *arguments):
    """What a side's own process says: the peak when it is ready, and the seconds of a run."""
    with bench.Alone(Side("it", build, arguments)) as process:
        return process.ready(), process.seconds()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is known on Linux alone")
@pytest.mark.parametrize("mib", [1, 100])
def test_memory_is_what_the_work_takes_at_its_peak_not_what_made_it_ready(mib):
    peak, seconds = alone(eval, f"[len(b'x' * 300 * 2**20), lambda: len(b'x' * {mib} * 2**20)][1]")
    assert peak == pytest.approx(mib, abs=2)
    assert seconds > 0


def test_memory_of_a_command_is_its_own():
    peak, _ = alone(bench.command, 0, "-c", "x = b'x' * 200 * 2**20")
    assert peak == pytest.approx(210, abs=20)


def test_a_process_that_dies_is_told_in_one_line():
    with refused("the process of it died; is memory short?"):
        alone(eval, "__import__('os')._exit(1)")


def test_both_sides_of_the_loss_come_to_the_same_gradient():
    ours, plain = (build(2, 65)()[0] for build in (bench.our_loss, bench.plain_loss))
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-9)


def test_all_sides_count_the_same_confusion(voc):
    ours, plain = (np.stack(build(voc)()) for build in (bench.our_matrix, bench.numpy_matrix))
    assert ours.sum() > 0
    assert np.array_equal(ours.reshape(len(ours), -1), plain)
    theirs = bench.torchmetrics_matrix(voc)()
    assert np.array_equal(sum(ours), theirs)


class Recorder(Reader):
    seen: ClassVar = []

    def logits(self, images):
        self.seen.append(images)
        return super().logits(images)


@pytest.mark.parametrize("flip", [False, True])
def test_the_forward_passes_alone_are_those_of_the_evaluation(flip, voc, monkeypatch):
    monkeypatch.setattr(bench, "our_network", lambda *_: Recorder().eval())
    monkeypatch.setattr(Recorder, "seen", [])
    work = bench.forward_passes(voc, 2, 65, (0.5, 1.0), flip, "", 1.0)
    whole = list(Recorder.seen)
    work()
    assert sum(map(len, whole)) == (8 if flip else 4)
    assert all(torch.equal(a, b) for a, b in zip(whole, Recorder.seen[len(whole) :], strict=True))


def test_what_is_not_installed_is_left_out_and_told(voc, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    peers = [case.peer.name for case in bench.evaluation(voc, **SMALL)]
    assert "torchmetrics" not in peers and "numpy bincount" in peers
    assert [case.name for case in bench.forward(**SMALL, side=65, **PEER)] == ["65x65, eager", "65x65, torch"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        "seg benchmark: torchmetrics is not installed, the row of torchmetrics is left out; "
        "pip install 'seg-deeplab[benchmark]'"
    )
    rows = [line.split("row of ")[1] for line in lines[1:]]
    assert rows == [
        "onnx is left out; pip install 'seg-deeplab[onnx]'",
        "openvino is left out; pip install 'seg-deeplab[openvino]'",
        "openvino int8 is left out; pip install 'seg-deeplab[openvino]'",
    ]


class Convolved(Reader):
    """`Reader` behind a depthwise convolution that changes nothing."""

    def __init__(self):
        super().__init__()
        self.same = torch.nn.Conv2d(3, 3, 1, groups=3, bias=False)
        torch.nn.init.ones_(self.same.weight)

    def logits(self, images):
        return super().logits(self.same(images))


def test_every_runtime_gives_the_masks_of_the_network(monkeypatch):
    monkeypatch.setattr(bench, "our_network", lambda *_: Convolved().eval())
    works = {name: bench.our_mask(name, "", 1.0, 65) for name in ("eager", "torch", "onnx", "openvino")}
    works["int8"] = bench.our_int8_mask("", 1.0, 65)
    wanted = np.minimum(bench.noise(65, 65, 3)[..., 0] / 10, 20)
    for name, work in works.items():
        assert np.abs(work() - wanted).max() <= 0.5, name


def test_a_section_that_is_not_there():
    with refused("no section 'train'", "did you mean 'train-step'?"):
        bench.benchmark(["train"])


def test_the_command_writes_machine_and_rows_and_a_table_of_100_columns(tmp_path, capsys, monkeypatch, no_processes):
    monkeypatch.setattr(bench, "write_images", lambda root: toy_voc(Path(root), size=(48, 64)))
    for name in ("loss", "loader"):
        monkeypatch.setitem(bench.SECTIONS, name, lambda *root, name=name: SECTIONS[name](*root or [None]))
    path = tmp_path / "speed.json"
    assert main(["benchmark", "loader", "loss", "--runs", "1", "--json", str(path)]) == 0
    captured = capsys.readouterr()
    assert "benchmark 10/10" in captured.err
    found = json.loads(path.read_text())
    assert [row["section"] for row in found["rows"]] == ["loader", "loss"]
    assert found["machine"]["torch"] == torch.__version__ and found["machine"]["processor"] in captured.out.splitlines()[0]
    assert max(map(len, captured.out.splitlines()[1:])) <= 100


def test_the_table_shows_ratio_memory_and_share_of_the_limit():
    row = Row("forward", "513x513", 0.5, "a peer", 1.43, 2.86, 812.4, None, 0.4, "product, 9 GFLOP/s")
    where = {"processor": "P", "cores": 2, "threads": 1, "torch": "2.6", "gpu": None}
    text = benchmark_table(where, [row, dataclasses.replace(row, section="loss", ours_s=2.5e-5, limit=None)])
    assert text.splitlines()[0] == "P, 2 cores, 1 thread, torch 2.6, no GPU"
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    assert ["513x513", "500 ms", "812", "a peer", "1.43 s", "-", "2.86", "80%"] in lines
    assert ["513x513", "25.0 us", "812", "a peer", "1.43 s", "-", "2.86", "-"] in lines
    long = dataclasses.replace(row, peer="smp DeepLabV3Plus tu-xception65, 512x512", case="batch 2, 321x321, float32")
    folded = benchmark_table(where, [long])
    assert all(word in folded for word in f"{long.peer} {long.case}".split()) and max(map(len, folded.splitlines())) <= 100
    assert "limit of forward: product, 9 GFLOP/s: 400 ms" in text
