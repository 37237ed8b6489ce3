import json
import shlex

import numpy as np

from seg.data.prepare.sbd import prepare_trainaug
from seg.labels import VOC
from tests.helpers.command import first, run, the_line, truncate
from tests.helpers.toy import save_palette


def test_the_data_verbs_work(place, capsys):
    code, out, _ = run(capsys, "data", "scenes", "scenes", "--train", "2", "--val", "1", "--size", "64", "--quiet")
    assert code == 0 and out.splitlines() == [
        "2 training and 1 validation scenes in scenes",
        "  train:  seg train quickstart data.root=scenes data.labels=scenes/labels.yaml",
    ]
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
    assert "val: 3 masks, 0 with problems" in out and "note: no image has bicycle, bird, " in out
    assert "no such data folder" in the_line(capsys, "data", "check", "nowhere")


def test_check_lists_the_classes_that_train_and_val_lack(place, capsys):
    """Of three classes, one is in both splits, and one in each alone."""
    for number in range(9):
        only = "cat" if number < 6 else "dog"
        mask = np.full((48, 64), VOC.names.index(only), np.uint8)
        mask[:20] = VOC.names.index("person")
        save_palette(place / "voc" / "SegmentationClass" / f"toy_{number:03d}.png", mask)
    code, out, _ = run(capsys, "data", "check", "voc", "--json", "check.json", "--quiet")
    lacking = ["val has no pixel of cat: not scored", "train has no pixel of dog: not learned"]
    assert code == 0 and [line for line in out.splitlines() if "no pixel" in line] == [f"note: {text}" for text in lacking]
    said = json.loads((place / "check.json").read_text())["split_notes"]
    assert [text for text in said if "no pixel" in text] == lacking
    out = run(capsys, "data", "check", "voc", "--split", "val", "--quiet")[1]
    assert "no pixel" not in out and "note: no image has background, " in out


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
    report = run(capsys, *look, "--quiet")
    assert report[0] == 0 and "class_2" in report[1] and "sofa" not in report[1]
    assert run(capsys, *look[: look.index("--labels")], "--quiet") == report  # labels.yaml in the folder is the default
    learn[learn.index("voc_mini")] = "small.yaml"
    learn.remove("model.weights=timm:legacy_xception.tf_in1k")
    [labels] = [setting for setting in learn if setting.startswith("data.labels=")]
    forgotten = the_line(capsys, *(setting for setting in learn if setting != labels))
    assert (
        "my data/voc/labels.yaml: lists other classes than data.labels=voc; set data.labels='my data/voc/labels.yaml'"
        in forgotten
    )
    assert run(capsys, *learn, "--quiet")[0] == 0
    assert (place / "runs/my-data/best.safetensors").is_file()
    assert "already exists" in the_line(capsys, "data", "init", "my data")


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
    assert "9 unchanged" in run(capsys, "data", "prepare", "trainaug", "--voc", "voc", "--sbd", "sbd", "--quiet")[1]
    assert run(capsys, "data", "check", "voc", "--split", "trainaug", "--quiet")[0] == 0
