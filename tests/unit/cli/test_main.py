import argparse
import os
import shlex
import subprocess
import sys

import pytest

from seg.cli.main import main, parser
from tests.helpers.command import run, the_line, truth_of_val
from tests.helpers.paths import ROOT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "give WEIGHTS"),
        (["evaluate", "--truth", "voc"], "--predictions DIR"),
        (["evaluate", "none.safetensors"], "no such weights file"),
        (["evaluate", "--predictions", "none", "--truth", "voc"], "no such folder"),
        (["predict", "none.safetensors", "voc", "--out", "x"], "no such weights file"),
        (["predict", "none.xml", "voc", "--out", "x"], "no such exported model"),
        (["evaluate", "none.onnx", "--flip"], "no such exported model"),
        (["evaluate", "x.safetensors", "--against", "a.json"], "add --report DIR"),
        (["export", "none.safetensors", "--format", "onnx", "--out", "x.onnx"], "no such weights file"),
        (["export", "none.safetensors", "--format", "onnx", "--out", "x.onnx", "--int8"], "--calibrate IMAGES"),
        (["submit", "none.safetensors"], "--out DIR, or --check ARCHIVE with --data ROOT"),
        (["submit", "none.safetensors", "--out", "x"], "no such weights file"),
        (["submit", "none.safetensors", "--out", "x", "--check", "none.tar.gz"], "--out DIR, or --check ARCHIVE"),
        (["submit", "--check", "none.tar.gz"], "--out DIR, or --check ARCHIVE with --data ROOT"),
        (["submit", "--check", "none.tar.gz", "--data", "voc", "--split", "val"], "none.tar.gz: no such archive"),
        (["submit", "--check", "none.tar.gz", "--data", "voc"], "test.txt: no such split"),
        (["train", "none.yaml"], "none.yaml"),
        (["train", "voc_minni"], "voc_minni: no such configuration; did you mean 'voc_mini'?"),
        (["info", "voc_xception56"], "no such configuration; did you mean 'voc_xception65'?"),
        (["data", "prepare", "trainaug", "--voc", "voc"], "data/sbd/train.txt: no such list"),
        (["data", "init", "none"], "none: no such folder"),
        (["train", "small.yaml", "data.root=voc", "--resume"], "no checkpoint to resume from"),
        (["info", "small.yaml", "model.backbone=xception66"], "did you mean 'xception65'?"),
    ],
)
def test_every_verb_refuses_its_user_errors(place, capsys, arguments, message):
    assert message in the_line(capsys, *arguments)


def test_the_command_is_named_once(place, capsys):
    assert run(capsys, "evaluate")[2].startswith("seg evaluate: give WEIGHTS")
    assert run(capsys, "evaluate", "none.safetensors")[2].startswith("seg: none.safetensors: ")


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_seg_alone_prints_its_help(capsys, arguments):
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    usage = " ".join(["usage: seg", *arguments])
    assert out.startswith(f"{usage} ") and "Download, prepare and check data sets." in out


@pytest.mark.parametrize(
    ("arguments", "wanted"), [(["--verbose"], "see seg --help"), (["train", "a.yaml", "--fast"], "see seg train --help")]
)
def test_an_unknown_flag_is_named(capsys, arguments, wanted):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert wanted in capsys.readouterr().err


def parsers(of):
    """The parsers of all verbs, and of the verbs below them."""
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for parser in action.choices.values():
                yield parser
                yield from parsers(parser)


def test_every_verb_and_flag_has_a_help_text_that_is_a_phrase_or_sentences():
    for verb in parsers(parser()):
        assert verb.description.endswith("."), verb.prog
        for action in verb._actions:
            if not isinstance(action, argparse._SubParsersAction):
                assert action.help and not action.help.endswith("."), (verb.prog, action.dest)


def test_the_example_of_every_verb_is_a_valid_command():
    for verb in parsers(parser()):
        if verb.epilog.startswith("example: seg "):
            words = shlex.split(verb.epilog.removeprefix("example: "))
            assert parser().parse_args(words[1:]).run, verb.prog


HEAVY = ("torch", "numpy", "cv2", "PIL", "rich", "omegaconf", "albumentations", "tensorboard")


IMPORTED = """
import sys
from seg.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(*sys.modules, file=open("imported", "w"))
"""


def imported_by(place, *arguments) -> set[str]:
    """The heavy libraries that a command imports in its own process."""
    subprocess.run([sys.executable, "-c", IMPORTED, *map(str, arguments)], check=True, capture_output=True)
    return {*HEAVY} & {*(place / "imported").read_text().split()}


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "--help",
        "--version",
        "train --help",
        "train --list",
        "train --rezume",
        "trian",
        "evaluate",
        "train none.yaml",
        "submit x",
    ],
)
def test_help_and_user_errors_do_not_import_heavy_libraries(place, arguments):
    assert imported_by(place, *arguments.split()) == set()


def test_commands_that_need_no_network_do_not_import_torch(place):
    truth = truth_of_val(place)
    saved = ["evaluate", "--predictions", truth, "--truth", truth, "--boundary", "--json", "a.json"]
    assert {"numpy", "PIL"} <= imported_by(place, *saved) <= {*HEAVY} - {"torch"}
    assert "torch" not in imported_by(place, "evaluate", "--compare", "a.json", "a.json", "--json", "b.json")
    assert "torch" not in imported_by(place, "data", "scenes", "scenes", "--train", "1", "--val", "1", "--size", "64")
    assert "torch" not in imported_by(place, "data", "check", "voc", "--json", "c.json")
    assert all((place / name).exists() for name in ("a.json", "b.json", "c.json", "scenes/labels.yaml"))


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 9 GiB"), RuntimeError("x: can't allocate memory: you tried")]
)
def test_an_out_of_memory_prediction_says_which_settings_to_lower(place, capsys, monkeypatch, error):
    def short(*_):
        raise error

    monkeypatch.setattr("seg.models.summary.summary", short)
    line = the_line(capsys, "info", "small.yaml")
    assert str(error) in line
    assert "lower train.batch_size" in line


@pytest.mark.parametrize("command, closes", [("completion bash", "head -1"), ("train --list", "true"), ("", "true")])
def test_a_closed_output_pipe_is_not_an_error(command, closes):
    found = subprocess.run(
        ["bash", "-c", f"{sys.executable} -u -m seg {command} | {closes}"], capture_output=True, text=True, cwd=ROOT
    )
    assert found.stderr == "" and found.stdout.count("\n") == (closes != "true")


def test_the_command_lets_operators_that_mps_lacks_run_on_the_cpu(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "0")
    main([])
    assert os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] == "0"  # what the user has set stays
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK")
    main([])
    assert os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] == "1"


def test_the_device_flag_reaches_each_verb_that_computes(place, capsys):
    for arguments in (
        ["train", "small.yaml", "data.root=voc", "--device", "gpu"],
        ["evaluate", "w.safetensors", "--device", "gpu"],
        ["predict", "w.safetensors", "voc", "--out", "x", "--device", "gpu"],
        ["submit", "w.safetensors", "--out", "x", "--device", "gpu"],
        ["serve", "w.safetensors", "--port", "0", "--device", "gpu"],
        ["info", "small.yaml", "--profile", "--device", "gpu"],
    ):
        assert "device=gpu: must be auto, cpu, cuda" in the_line(capsys, *arguments)
