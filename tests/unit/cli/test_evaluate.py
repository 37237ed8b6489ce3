import json

from PIL import Image

from tests.helpers.command import run, the_line, truth_of_val


def test_two_evaluations_are_compared(place, weights, capsys):
    for name, flags in (("a.json", []), ("b.json", ["--flip"])):
        assert run(capsys, "evaluate", weights, *flags, "--json", name, "--quiet")[0] == 0
    code, out, _ = run(capsys, "evaluate", "--compare", "a.json", "b.json", "--json", "c.json")
    found = json.loads((place / "c.json").read_text())
    scores = [json.loads((place / name).read_text()) for name in ("a.json", "b.json")]
    assert code == 0 and found["miou"] == [one["miou"] for one in scores]
    assert f"B - A: {100 * (scores[1]['miou'] - scores[0]['miou']):+.2f} points" in out
    (place / "b.json").write_text(json.dumps(scores[1] | {"per_image": []}))
    assert "b.json: not an evaluation" in the_line(capsys, "evaluate", "--compare", "a.json", "b.json")
    assert "takes two JSON files" in the_line(capsys, "evaluate", "x.safetensors", "--compare", "a.json", "a.json")


def test_reports_are_written_for_a_run_and_for_saved_masks(place, weights, capsys):
    code, out, _ = run(capsys, "report", "runs/small", "--json", "reported.json", "--quiet")
    assert json.loads((place / "reported.json").read_text())["images"] == 3
    assert code == 0 and out.splitlines()[-1] == "report: runs/small/report/index.html"
    page = (place / "runs/small/report/index.html").read_text()
    assert 'id="training"' in page and 'id="boundary"' in page and page.count('"photo":') == 3

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
    assert "scores.json: cannot be compared" in the_line(capsys, "evaluate", weights, "--split", "train", *beside)
    assert "runs/none/best.safetensors: no such file" in the_line(capsys, "report", "runs/none")
    assert not (place / "other").exists()


def test_paths_of_flags_expand_and_a_run_is_used_from_another_folder(place, weights, capsys, monkeypatch):
    monkeypatch.setenv("PLACE", str(place))
    monkeypatch.setenv("HOME", str(place))
    (place / "other").mkdir()
    monkeypatch.chdir(place / "other")
    arguments = f"$PLACE/{weights}", "--data", "~/voc", "--json", "${PLACE}/a.json", "--quiet"
    assert run(capsys, "evaluate", *arguments)[0] == 0 and (place / "a.json").is_file()
    for verb in (["evaluate", place / weights], ["submit", place / weights, "--out", "x"], ["report", place / "runs/small"]):
        line = the_line(capsys, *verb, "--quiet")
        assert "voc: no such data folder; it is the data.root of the training" in line and "--data" in line
    assert "NOWHERE is not set" in the_line(capsys, "evaluate", "$NOWHERE/a.safetensors")


def test_saved_predictions_are_paired_resized_and_their_names_compared(place, weights, capsys):
    assert run(capsys, "evaluate", weights, "--save-masks", "saved", "--json", "scores.json", "--quiet")[0] == 0
    for path in sorted((place / "saved").iterdir()):
        path.rename(path.with_name(f"{path.stem}_pred.png"))
    scored = ["evaluate", "--predictions", "saved", "--truth", "voc", "--split", "val", "--json", "masks.json", "--quiet"]
    assert "--pair '{stem}_pred.png'" in the_line(capsys, *scored)
    scored += ["--pair", "{stem}_pred.png"]
    assert run(capsys, *scored)[::2] == (0, "")
    matrices = [json.loads((place / name).read_text())["confusion_matrix"] for name in ("scores.json", "masks.json")]
    assert matrices[0] == matrices[1]
    small = place / "saved" / "toy_006_pred.png"
    with Image.open(small) as mask:
        mask.resize((32, 24)).save(small)
    assert "0.5 times as wide" in the_line(capsys, *scored) and "--resize-predictions" in the_line(capsys, *scored)
    code, _, err = run(capsys, *scored, "--resize-predictions")
    settings = json.loads((place / "masks.json").read_text())["settings"]
    assert code == 0 and err == f"note: {settings['resize_predictions']}\n" and settings["split"] == "val"
    with Image.open(place / "saved" / "toy_007_pred.png") as mask:
        assert json.loads(mask.info["classes"])[1] == "aeroplane"
    (place / "saved" / "labels.yaml").write_text("classes: [a, b]")
    assert "Only in the predictions: a, b" in the_line(capsys, *scored)
    for flag in (["--pair", "{stem}.png"], ["--resize-predictions"]):
        assert "add --predictions DIR" in the_line(capsys, "evaluate", weights, *flag)


def test_the_classes_of_a_models_data_set_are_compared(place, weights, capsys):
    line = the_line(capsys, "evaluate", weights, "--labels", "cityscapes", "--quiet")
    assert "Only in the data set: road" in line and "Only in the model: background" in line
    assert "none.yaml: a label set cannot be read" in the_line(capsys, "evaluate", weights, "--labels", "none.yaml", "--quiet")
