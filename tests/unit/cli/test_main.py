import io
import json
import re
import shlex
import socket
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from seg.cli.main import main
from seg.data.prepare.sbd import prepare_trainaug
from seg.training.trainer import Trainer
from tests.helpers.configs import CONFIG
from tests.helpers.paths import ROOT
from tests.helpers.toy import toy_voc


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a data set `voc` and a configuration `small.yaml`, made the working directory."""
    monkeypatch.chdir(tmp_path)
    toy_voc(tmp_path / "voc")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    return tmp_path


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def the_line(capsys, *arguments) -> str:
    """What a mistaken command prints: one line, with exit code 2."""
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("seg: ")
    return err


def truncate(path, kept):
    path.write_bytes(path.read_bytes()[:kept])


def first(folder):
    return sorted(folder.iterdir())[0]


def write_label(place):
    with Image.open(first(masks(place))) as image:
        mask = np.zeros(image.size[::-1], np.uint8)
    mask[12, 8] = 47
    Image.fromarray(mask).save(first(masks(place)))


def masks(place):
    return next(folder for folder in (place / "voc").iterdir() if folder.name.startswith("SegmentationClass"))


MISTAKES = {
    "unknown key": (None, ["train.iteration=5"], r"unknown setting 'train.iteration'; did you mean 'train.iterations'\?"),
    "unknown section": (None, ["data.iterations=5"], r"unknown setting 'data.iterations'; did you mean 'train.iterations'\?"),
    "wrong type": (None, ["train.iterations=many"], r"train\.iterations.*many"),
    "no root": (None, ["data.root=nowhere"], r"nowhere: no such data folder"),
    "small crop": (None, ["data.crop_size=32"], r"data\.crop_size=32: must be at least 33"),
    "no split": (None, ["data.train=trian"], r"trian\.txt: no such split; did you mean 'train'\?"),
    "no weights": (None, ["model.weights=none.safetensors"], r"none\.safetensors: no such weights file"),
    "no mask": (lambda p: first(masks(p)).unlink(), [], r"\.png: no mask for this id"),
    "no image": (lambda p: first(p / "voc" / "JPEGImages").unlink(), [], r"no image for this id"),
    "mask size": (
        lambda p: Image.fromarray(np.zeros((5, 7), np.uint8)).save(first(masks(p))),
        [],
        r"7x5 pixels, but its image",
    ),
    "label": (write_label, [], r"label 47 at \(12, 8\); this label set has 21 classes and 255 for void"),
    "cut JPEG": (lambda p: truncate(first(p / "voc" / "JPEGImages"), 300), [], r"not a readable image"),
    "empty split": (
        lambda p: (p / "voc" / "ImageSets" / "Segmentation" / "train.txt").write_text(""),
        [],
        r"train\.txt: the split is empty",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_line_and_code_2_with_nothing_written(place, capsys, name):
    spoil, overrides, message = MISTAKES[name]
    if spoil:
        spoil(place)
    line = the_line(capsys, "train", "small.yaml", "data.root=voc", *overrides, "--quiet")
    assert re.search(message, line), line
    assert not (place / "runs").exists()


def test_overrides_may_stand_after_flags(place, capsys):
    code, out, _ = run(capsys, "train", "small.yaml", "--quiet", "data.root=voc", "train.iterations=1", "name=other")
    assert code == 0
    assert "runs/other/best.safetensors" in out


def test_the_job_from_training_to_masks(place, capsys):
    code, out, err = run(capsys, "train", "small.yaml", "data.root=voc")
    assert code == 0
    assert "train 2/2" in err
    assert "images/s" in err
    weights = "runs/small/best.safetensors"
    assert weights in out

    code, out, _ = run(capsys, "evaluate", weights, "--quiet", "--json", "scores.json", "--save-masks", "saved")
    assert code == 0
    scores = json.loads((place / "scores.json").read_text())
    assert f"mIoU {100 * scores['miou']:.2f} %" in out
    assert scores["images"] == len(list((place / "saved").iterdir())) == 3
    assert {"classes", "confusion_matrix", "iou", "miou_all", "pixel_accuracy", "settings"} <= scores.keys()
    assert scores["settings"]["output_stride"] == 16

    saved = ["--predictions", "saved", "--truth", truth_of_val(place), "--boundary"]
    code, out, _ = run(capsys, "evaluate", *saved, "--json", "masks.json", "--quiet")
    assert code == 0
    of_masks = json.loads((place / "masks.json").read_text())
    assert of_masks["confusion_matrix"] == scores["confusion_matrix"]
    assert f"mean Boundary IoU {100 * of_masks['boundary']['miou']:.2f} %" in out

    code, _, _ = run(capsys, "evaluate", weights, "--boundary", "--quiet", "--json", "boundary.json")
    assert json.loads((place / "boundary.json").read_text())["boundary"] == of_masks["boundary"]

    flags = ["--output-stride", "8", "--scales", "0.75,1", "--flip", "--canvas", "65"]
    code, _, _ = run(capsys, "evaluate", weights, *flags, "--quiet", "--json", "more.json")
    more = json.loads((place / "more.json").read_text())
    assert "boundary" not in more
    settings = more["settings"]
    assert (code, settings["scales"], settings["flip"], settings["canvas"]) == (0, [0.75, 1.0], True, 65)

    code, out, _ = run(capsys, "predict", weights, "voc/JPEGImages", "--out", "masks", "--quiet")
    assert code == 0
    assert len(list((place / "masks").iterdir())) == len(list((place / "voc" / "JPEGImages").iterdir()))
    film = cv2.VideoWriter("film.avi", cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(3):
        film.write(np.full((48, 64, 3), 110, np.uint8))
    film.release()
    code, out, err = run(capsys, "predict", weights, "film.avi", "voc/JPEGImages", "--out", "both", "--json", "made.json")
    assert code == 0
    made = json.loads((place / "made.json").read_text())
    assert made["images"] == [f"both/toy_{number:03d}.png" for number in range(9)] and made["problems"] == []
    (film,) = made["videos"]
    assert (film["path"], film["frames"]) == ("both/film.mp4", 3) and film["seconds"] > 0
    assert "masks" not in out and "both/film.mp4: 3 frames, " in out and "overlay images in both" in out
    assert "predict 3/3" in err

    code, out, _ = run(
        capsys, "submit", weights, "--split", "val", "--out", "submission", "--flip", "--json", "sent.json", "--quiet"
    )
    assert code == 0
    assert json.loads((place / "sent.json").read_text()) == {"archive": "submission/results.tar.gz", "masks": 3, "kept": 0}
    assert "submission/results.tar.gz: 3 masks, as the server wants them" in out
    check = ["submit", "--check", "submission/results.tar.gz", "--data", "voc", "--split"]
    assert run(capsys, *check, "val", "--json", "checked.json", "--quiet")[:2] == (0, out.splitlines()[0] + "\n")
    assert json.loads((place / "checked.json").read_text()) == {"archive": "submission/results.tar.gz", "masks": 3}
    assert "comp6_val_cls/toy_006.png: not in results" in the_line(capsys, *check, "train")

    code, out, _ = run(capsys, "info", weights)
    assert code == 0
    assert "classes: background, aeroplane" in out


def test_no_process_waits_for_the_videos_of_the_others(place, capsys, monkeypatch):
    weights = "runs/small/best.safetensors"
    assert run(capsys, "train", "small.yaml", "data.root=voc", "--quiet")[0] == 0
    asked = []
    monkeypatch.setattr("seg.distributed.all_gather", lambda value: asked.append(value) or [value])
    monkeypatch.setattr("seg.cli.main._predict_videos", lambda *given: ["a video"])
    (place / "film.mp4").write_bytes(b"")
    assert run(capsys, "predict", weights, "film.mp4", "--out", "out", "--quiet")[0] == 0
    assert asked == []
    assert run(capsys, "predict", weights, "film.mp4", "--out", "out", "--json", "made.json", "--quiet")[0] == 0
    assert asked == [["a video"]]


def test_an_exported_graph_scores_as_its_weights(place, capsys):
    assert run(capsys, "train", "small.yaml", "data.root=voc", "--quiet")[0] == 0
    weights = "runs/small/best.safetensors"
    arguments = ["--format", "openvino", "--out", "small.xml", "--canvas", "65", "--json", "export.json", "--quiet"]
    code, out, _ = run(capsys, "export", weights, *arguments)
    assert code == 0 and "small.xml: float32 graph; canvas 65, output stride 16" in out
    assert json.loads((place / "export.json").read_text())["equal"] > 0.999
    matrices = []
    for flags in (["small.xml"], [weights, "--canvas", "65"], [weights, "--canvas", "65", "--runtime", "openvino"]):
        assert run(capsys, "evaluate", *flags, "--quiet", "--json", "scores.json")[0] == 0
        matrices.append(np.array(json.loads((place / "scores.json").read_text())["confusion_matrix"]))
    for other in matrices[1:]:
        assert np.abs(matrices[0] - other).sum() <= 0.001 * other.sum()
    assert run(capsys, "predict", "small.xml", "voc/JPEGImages", "--out", "masks", "--quiet")[0] == 0
    assert len(list((place / "masks").iterdir())) == 9


def test_two_evaluations_are_compared(place, capsys):
    assert run(capsys, "train", "small.yaml", "data.root=voc", "--quiet")[0] == 0
    for name, flags in (("a.json", []), ("b.json", ["--flip"])):
        assert run(capsys, "evaluate", "runs/small/best.safetensors", *flags, "--json", name, "--quiet")[0] == 0
    code, out, _ = run(capsys, "evaluate", "--compare", "a.json", "b.json", "--json", "c.json")
    found = json.loads((place / "c.json").read_text())
    scores = [json.loads((place / name).read_text()) for name in ("a.json", "b.json")]
    assert code == 0 and found["miou"] == [one["miou"] for one in scores]
    assert f"B - A: {100 * (scores[1]['miou'] - scores[0]['miou']):+.2f} points" in out
    (place / "b.json").write_text(json.dumps(scores[1] | {"per_image": []}))
    assert "b.json: not an evaluation" in the_line(capsys, "evaluate", "--compare", "a.json", "b.json")
    assert "takes two JSON files" in the_line(capsys, "evaluate", "x.safetensors", "--compare", "a.json", "a.json")


def test_a_report_is_written_of_a_run_and_of_saved_masks(place, capsys):
    assert run(capsys, "train", "small.yaml", "data.root=voc", "--quiet")[0] == 0
    code, out, _ = run(capsys, "report", "runs/small", "--json", "reported.json", "--quiet")
    assert json.loads((place / "reported.json").read_text())["images"] == 3
    assert code == 0 and out.splitlines()[-1] == "report: runs/small/report/index.html"
    page = (place / "runs/small/report/index.html").read_text()
    assert 'id="training"' in page and 'id="boundary"' in page and page.count('"photo":') == 3

    weights = "runs/small/best.safetensors"
    assert run(capsys, "evaluate", weights, "--save-masks", "saved", "--json", "scores.json", "--quiet")[0] == 0
    saved = ["evaluate", "--predictions", "saved", "--truth", truth_of_val(place), "--report", "page", "--quiet"]
    for photos in (0, 3):
        code, out, _ = run(capsys, *saved, *["--data", "voc"] * bool(photos), "--against", "runs/small/report")
        page = (place / "page" / "index.html").read_text()
        assert code == 0 and out.splitlines()[-1] == "report: page/index.html"
        assert "+0.00 points" in page and page.count('"photo":') == photos and 'id="training"' not in page

    other = ["evaluate", weights, "--against", "scores.json"]
    assert "add --report DIR" in the_line(capsys, *other)
    assert "none.json" in the_line(capsys, *other[:-1], "none.json", "--report", "other")
    beside = ["--against", "scores.json", "--report", "other"]
    assert "scores.json: cannot stand beside" in the_line(capsys, "evaluate", weights, "--split", "train", *beside)
    assert "runs/none/best.safetensors: no such file" in the_line(capsys, "report", "runs/none")
    assert not (place / "other").exists()


def truth_of_val(place):
    folder = place / "truth"
    folder.mkdir()
    for name in (place / "voc" / "ImageSets" / "Segmentation" / "val.txt").read_text().split():
        (folder / f"{name}.png").write_bytes((masks(place) / f"{name}.png").read_bytes())
    return folder


def test_info_counts_the_released_network(place, capsys):
    (place / "x65.yaml").write_text("model: {backbone: xception65}\n")
    code, out, _ = run(capsys, "info", "x65.yaml", "--size", "513", "--json", "info.json")
    assert code == 0
    total = json.loads((place / "info.json").read_text())["rows"][-1]
    assert total["parameters"] == 41_055_413
    assert total["multiply_adds"] == pytest.approx(54.17e9, rel=0.01)
    assert "41,055,413" in out


def test_info_profiles_a_network_by_groups(place, capsys):
    code, out, _ = run(capsys, "info", "small.yaml", "--size", "65", "--profile", "--json", "info.json")
    assert code == 0
    found = json.loads((place / "info.json").read_text())
    names = ["entry flow", "middle flow", "exit flow", "aspp", "classifier", "resize and rest", "total"]
    assert [group["name"] for group in found["profile"]] == names
    assert found["profile"][-1]["multiply_adds"] == found["rows"][-1]["multiply_adds"]
    assert "middle flow" in out


def test_data_verbs(place, capsys):
    assert run(capsys, "data", "scenes", "scenes", "--train", "2", "--val", "1", "--size", "64", "--quiet")[0] == 0
    code, out, _ = run(capsys, "data", "check", "scenes", "--labels", "scenes/labels.yaml", "--quiet")
    assert code == 0
    assert "train: 2 images, 0 with problems" in out
    truncate(first(place / "voc" / "JPEGImages"), 300)
    code, out, _ = run(capsys, "data", "check", "voc", "--json", "check.json", "--quiet")
    assert code == 1
    [problem] = json.loads((place / "check.json").read_text())["problems"]
    assert problem["file"] == str(first(place / "voc" / "JPEGImages").relative_to(place))
    assert f"{problem['file']}: {problem['problem']}\n" in out and "train: 6 images, 1 with problems" in out
    code, out, _ = run(capsys, "data", "check", "voc", "--masks-only", "--split", "val", "--quiet")
    assert code == 0
    assert out.startswith("val: 3 masks, 0 with problems")
    assert "no such data folder" in the_line(capsys, "data", "check", "nowhere")


def test_own_data_is_trained_on_by_the_commands_that_init_names(place, capsys):
    (place / "voc" / "JPEGImages").rename(place / "voc" / "images")
    (place / "voc" / "SegmentationClass").rename(place / "voc" / "masks")
    (place / "voc").rename(place / "my data")
    code, out, err = run(capsys, "data", "init", "my data", "--json", "made.json")
    assert code == 0
    assert "init 9/9" in err
    made = json.loads((place / "made.json").read_text())
    assert made["out"] == "my data/voc" and sum(made["splits"].values()) == 9 and f"{len(made['classes'])} classes" in out
    look, learn = (shlex.split(line.split(":", 1)[1]) for line in out.splitlines()[-2:])
    assert (look.pop(0), learn.pop(0)) == ("seg", "seg")
    assert run(capsys, *look, "--quiet")[0] == 0
    learn[learn.index("configs/voc_mini.yaml")] = "small.yaml"
    assert run(capsys, *learn, "--quiet")[0] == 0
    assert "is there already" in the_line(capsys, "data", "init", "my data")


def test_trainaug_is_prepared(place, capsys, monkeypatch):
    monkeypatch.setitem(prepare_trainaug.__kwdefaults__, "expected", 6)
    (place / "sbd" / "cls").mkdir(parents=True)
    for part in ("train", "val"):
        (place / "sbd" / f"{part}.txt").write_text("toy_000\n")
    code, out, err = run(capsys, "data", "prepare", "trainaug", "--voc", "voc", "--sbd", "sbd", "--json", "made.json")
    assert code == 0
    numbers = {"ids": 6, "written": 9, "replaced": 0, "kept": 0, "path": "voc/ImageSets/Segmentation/trainaug.txt"}
    assert json.loads((place / "made.json").read_text()) == numbers
    assert "prepare 9/9" in err
    assert "6 ids in voc/ImageSets/Segmentation/trainaug.txt" in out and "9 written" in out
    assert "9 there already" in run(capsys, "data", "prepare", "trainaug", "--voc", "voc", "--sbd", "sbd", "--quiet")[1]
    assert run(capsys, "data", "check", "voc", "--split", "trainaug", "--quiet")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "give WEIGHTS"),
        (["evaluate", "--truth", "voc"], "--predictions DIR"),
        (["evaluate", "none.safetensors"], "no such weights file"),
        (["evaluate", "--predictions", "none", "--truth", "voc"], "no such folder"),
        (["predict", "none.safetensors", "voc", "--out", "x"], "no such weights file"),
        (["predict", "none.xml", "voc", "--out", "x"], "no such exported graph"),
        (["evaluate", "none.onnx", "--flip"], "leave out evaluate.flip=true"),
        (["export", "none.safetensors", "--format", "onnx", "--out", "x.onnx"], "no such weights file"),
        (["export", "none.safetensors", "--format", "onnx", "--out", "x.onnx", "--int8"], "--calibrate IMAGES"),
        (["submit", "none.safetensors"], "--out DIR, or --check ARCHIVE with --data ROOT"),
        (["submit", "none.safetensors", "--out", "x"], "no such weights file"),
        (["submit", "none.safetensors", "--out", "x", "--check", "none.tar.gz"], "--out DIR, or --check ARCHIVE"),
        (["submit", "--check", "none.tar.gz"], "--out DIR, or --check ARCHIVE with --data ROOT"),
        (["submit", "--check", "none.tar.gz", "--data", "voc", "--split", "val"], "none.tar.gz: no such archive"),
        (["submit", "--check", "none.tar.gz", "--data", "voc"], "test.txt: no such split"),
        (["train", "none.yaml"], "none.yaml"),
        (["data", "prepare", "trainaug", "--voc", "voc"], "data/sbd/train.txt: no such list"),
        (["data", "init", "none"], "none: no such folder"),
        (["train", "small.yaml", "data.root=voc", "--resume"], "no checkpoint to resume from"),
        (["info", "small.yaml", "model.backbone=xception66"], "did you mean 'xception65'?"),
    ],
)
def test_mistakes_of_each_verb(place, capsys, arguments, message):
    assert message in the_line(capsys, *arguments)


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
    """Which of the heavy libraries a command has imported in a process of its own."""
    subprocess.run([sys.executable, "-c", IMPORTED, *map(str, arguments)], check=True, capture_output=True)
    return {*HEAVY} & {*(place / "imported").read_text().split()}


@pytest.mark.parametrize(
    "arguments",
    ["--help", "--version", "train --help", "train --rezume", "trian", "evaluate", "train none.yaml", "submit x"],
)
def test_help_and_mistakes_do_not_wait_for_libraries(place, arguments):
    assert imported_by(place, *arguments.split()) == set()


def test_what_needs_no_network_does_not_wait_for_torch(place):
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
def test_where_memory_is_short_a_line_says_what_to_lower(place, capsys, monkeypatch, error):
    def short(*_):
        raise error

    monkeypatch.setattr("seg.models.summary.summary", short)
    line = the_line(capsys, "info", "small.yaml")
    assert str(error) in line
    assert "lower train.batch_size" in line


def test_a_run_stopped_in_the_middle_says_how_to_go_on(place, capsys, monkeypatch):
    import os
    import signal

    step = Trainer._update

    def interrupted(self, *batch):
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", interrupted)
        code, _, err = run(capsys, "train", "small.yaml", "data.root=voc", "--quiet")
    assert code == 130
    assert "go on with --resume" in err
    assert run(capsys, "train", "small.yaml", "data.root=voc", "--quiet", "--resume")[0] == 0


COMPLETE = """
eval "$1"
COMP_WORDS=(seg "${@:2}")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
$(complete -p seg | sed -E 's/.* -F ([^ ]+) .*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [(["ev"], "evaluate"), (["evaluate", "--com"], "--compare"), (["data", "ch"], "check"), (["train", "sma"], "small.yaml")],
)
def test_bash_completes_verbs_options_and_files(place, capsys, words, wanted):
    import subprocess

    code, script, _ = run(capsys, "completion", "bash")
    assert code == 0
    asked = ["bash", "-c", COMPLETE, "bash", script, *words]
    assert wanted in subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(capsys, shell):
    code, script, _ = run(capsys, "completion", shell)
    assert code == 0 and "evaluate" in script


def test_a_reader_that_leaves_early_is_no_error(place):
    import subprocess
    import sys

    command = f"{sys.executable} -m seg completion bash | head -1"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert found.stderr == "" and found.stdout.count("\n") == 1


def test_serve_runs_the_network_in_another_runtime_or_an_exported_graph(place, monkeypatch):
    weights = "runs/small/best.safetensors"
    assert main(["train", "small.yaml", "data.root=voc", "--quiet"]) == 0
    assert main(["export", weights, "--format", "onnx", "--out", "a.onnx", "--quiet"]) == 0
    made, answers = [], []
    monkeypatch.setattr("seg.serve.server.run", lambda app, opened, quiet: None)
    monkeypatch.setattr("seg.serve.app.make_app", made.append)
    for arguments in ([weights], [weights, "--runtime", "torch"], ["a.onnx"]):
        assert main(["serve", *arguments, "--port", "0"]) == 0
        image = (place / "voc" / "JPEGImages" / "toy_000.jpg").read_bytes()
        answers.append(np.array(Image.open(io.BytesIO(made[-1].segment(image, "index").body))))
    plain, folded, graph = (service.model for service in made)
    assert [type(model.backbone.conv1.norm).__name__ for model in (plain, folded)] == ["BatchNorm2d", "Identity"]
    assert type(graph).__name__ == "ExportedModel"
    assert all((answer == answers[0]).mean() > 0.999 for answer in answers)


def test_serve_says_what_is_missing_and_what_is_taken(place, capsys, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1 port {port}: Address already in use" in the_line(capsys, "serve", "x.safetensors", "--port", port)
    assert "no such weights file" in the_line(capsys, "serve", "x.safetensors", "--port", "0")
    monkeypatch.delitem(sys.modules, "seg.serve.app")
    monkeypatch.delattr("seg.serve.app")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert "pip install 'seg-deeplab[serve]'" in the_line(capsys, "serve", "x.safetensors")
