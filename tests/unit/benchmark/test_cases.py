import dataclasses
import importlib.util
from typing import ClassVar

import numpy as np
import pytest
import torch

from seg.benchmark import cases
from seg.benchmark.cases import evaluation, forward, loader, loss, start_up, train_step
from seg.benchmark.cases.networks import noise
from seg.benchmark.harness import measure
from tests.helpers.toy import Reader, toy_voc

SMALL = {"backbone": "xception41", "width": 0.125}
PEER = {"encoder": "resnet18", "peer_side": 64}


@pytest.fixture
def voc(tmp_path):
    return str(toy_voc(tmp_path / "voc"))


SECTIONS = {
    "forward": lambda root: forward.cases(**SMALL, side=65, **PEER),
    "train-step": lambda root: train_step.cases(**SMALL, side=65, **PEER),
    "loss": lambda root: loss.cases(batch=1, side=65),
    "loader": lambda root: loader.cases(root, crop=33, count=4),
    "evaluation": lambda root: evaluation.cases(root, images=2, canvas=65, **SMALL),
    "start-up": lambda root: start_up.cases("json"),
}


def test_every_section_is_tested_below():
    assert SECTIONS.keys() == cases.SECTIONS.keys()


@pytest.mark.parametrize("section", SECTIONS)
def test_each_section_compares_with_a_peer_in_the_same_run(section, voc, no_processes, monkeypatch):
    # Converting a network takes seconds; a test below runs every runtime.
    monkeypatch.setattr(forward, "installed", lambda row: row in ("eager", "torch"))
    found = SECTIONS[section](voc)
    rows = measure(found, runs=1)
    assert [(row.section, row.case) for row in rows] == [(section, case.name) for case in found]
    for row in rows:
        assert row.ours_s > 0
        assert row.ratio == row.peer_s / row.ours_s > 0
        assert (row.limit is None) == (row.limited_by is None) and row.limit != 0
        assert dataclasses.asdict(row)["ours_peak_mib"] == 1.0
    assert any(row.limit for row in rows) or section == "loss"


def test_both_sides_of_the_loss_give_the_same_gradient():
    ours, plain = (build(2, 65)()[0] for build in (loss.our_loss, loss.plain_loss))
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-9)


def test_all_sides_give_the_same_confusion_matrix(voc):
    ours, plain = (np.stack(build(voc)()) for build in (evaluation.our_matrix, evaluation.numpy_matrix))
    assert ours.sum() > 0
    assert np.array_equal(ours.reshape(len(ours), -1), plain)
    theirs = evaluation.torchmetrics_matrix(voc)()
    assert np.array_equal(sum(ours), theirs)


class Recorder(Reader):
    seen: ClassVar = []

    def logits(self, images):
        self.seen.append(images)
        return super().logits(images)


@pytest.mark.parametrize("flip", [False, True])
def test_the_forward_passes_alone_are_those_of_the_evaluation(flip, voc, monkeypatch):
    monkeypatch.setattr(evaluation, "our_network", lambda *_: Recorder().eval())
    monkeypatch.setattr(Recorder, "seen", [])
    work = evaluation.forward_passes(voc, 2, 65, (0.5, 1.0), flip, "", 1.0)
    whole = list(Recorder.seen)
    work()
    assert sum(map(len, whole)) == (8 if flip else 4)
    assert all(torch.equal(a, b) for a, b in zip(whole, Recorder.seen[len(whole) :], strict=True))


def test_rows_whose_packages_are_missing_are_skipped_with_the_command_that_installs_them(voc, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    peers = [case.peer.name for case in evaluation.matrix_cases(voc)]
    assert peers == ["numpy bincount"]
    assert [case.name for case in forward.cases(**SMALL, side=65, **PEER)] == ["65x65, eager", "65x65, torch"]
    assert capsys.readouterr().err.splitlines() == [
        "seg benchmark: torchmetrics is skipped, torchmetrics is not installed; pip install 'seg-deeplab[benchmark]'",
        "seg benchmark: onnx is skipped, onnxscript is not installed; pip install 'seg-deeplab[onnx]'",
        "seg benchmark: openvino is skipped, openvino is not installed; pip install 'seg-deeplab[openvino]'",
        "seg benchmark: openvino int8 is skipped, openvino is not installed; pip install 'seg-deeplab[openvino]'",
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
    monkeypatch.setattr(forward, "our_network", lambda *_: Convolved().eval())
    works = {name: forward.our_mask(name, "", 1.0, 65) for name in ("eager", "torch", "onnx", "openvino")}
    works["int8"] = forward.our_int8_mask("", 1.0, 65)
    wanted = np.minimum(noise(65, 65, 3)[..., 0] / 10, 20)
    for name, work in works.items():
        assert np.abs(work() - wanted).max() <= 0.5, name
