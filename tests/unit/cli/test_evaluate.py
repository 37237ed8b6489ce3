import json

import numpy as np
from PIL import Image

import seg
from seg.weights import resolve
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
    assert "compares two JSON files" in the_line(capsys, "evaluate", "x.safetensors", "--compare", "a.json", "a.json")


def test_reports_are_written_for_a_run_and_for_saved_masks(place, weights, capsys):
    code, out, _ = run(capsys, "report", "runs/small/best.safetensors", "--json", "reported.json", "--quiet")
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
    assert "runs/none/best.safetensors: no such file" in the_line(capsys, "report", "runs/none/best.safetensors")
    assert "without segmentation classes" in the_line(capsys, "report", "timm:xception65.tf_in1k")
    assert "did you mean 'xception65_voc_trainaug'?" in the_line(capsys, "report", "xception65_voc_trainau")
    assert not (place / "other").exists()


def test_a_report_takes_what_the_other_verbs_take(place, weights, capsys, monkeypatch):
    published = (place / weights).rename(place / "cached.safetensors")
    monkeypatch.setattr(resolve.published, "get", lambda name: published)
    monkeypatch.setattr(resolve, "download", lambda name: published)
    for source, folder in (
        ("xception65_voc_trainaug", "report/xception65_voc_trainaug"),
        ("hf:me/net", "report/me_net"),
        (published, "report"),
    ):
        code, out, _ = run(capsys, "report", source, "--data", "voc", "--quiet")
        assert code == 0 and out.splitlines()[-1] in (f"report: {folder}/index.html", f"report: {place / folder}/index.html")
        assert (place / folder / "index.html").is_file()
    published.rename(place / "runs/small/best.safetensors")
    code, out, _ = run(capsys, "report", "runs/small", "--quiet")
    assert code == 0 and out.splitlines()[-1] == "report: runs/small/report/index.html"


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


def test_calibration_is_measured_and_a_temperature_stored(place, weights, capsys):
    before = seg.load(weights, "cpu")
    assert before.temperature == 1 and before.metadata.trained_size == 64
    asked = ["evaluate", weights, "--json", "scores.json", "--report", "page", "--quiet"]
    code, out, _ = run(capsys, *asked, "--calibration")
    numbers = json.loads((place / "scores.json").read_text())["calibration"]
    assert code == 0 and f"expected calibration error {100 * numbers['ece']:.2f} %" in out and len(numbers["bins"]) == 15
    assert 'id="calibration"' in (place / "page/index.html").read_text() and seg.load(weights, "cpu").temperature == 1

    code, out, _ = run(capsys, *asked, "--store-temperature")
    fitted = numbers["fitted"]["temperature"]
    assert code == 0 and f"stored temperature {fitted:g}" in out
    after, photo = seg.load(weights, "cpu"), place / "voc/JPEGImages/toy_000.jpg"
    assert after.temperature == fitted and after.metadata.score == before.metadata.score
    assert (after.predict(photo) == before.predict(photo)).all()
    assert not np.allclose(after.probabilities(photo), before.probabilities(photo))
    assert run(capsys, *asked, "--calibration")[0] == 0
    assert json.loads((place / "scores.json").read_text())["calibration"]["temperature"] == fitted
    saved = ["evaluate", "--predictions", "a", "--truth", "b", "--calibration"]
    assert "masks have no probabilities" in the_line(capsys, *saved)


def test_a_photo_far_larger_than_those_of_the_training_is_reduced(place, weights, capsys):
    photo = place / "photo.png"
    Image.new("RGB", (640, 480), (200, 60, 60)).save(photo)
    for flags, said in (([], 1), (["--longest", "native"], 0), (["--longest", "auto"], 1)):
        code, _, err = run(capsys, "predict", weights, photo, photo, "--out", "out", "--mode", "index", "--quiet", *flags)
        assert code == 0 and err.count("reduced to 64x48 for the network") == said == err.count("\n")
    with Image.open(place / "out/photo.png") as mask:
        assert mask.size == (640, 480)
    assert run(capsys, "predict", weights, photo, "--out", "out", "--mode", "confidence", "--quiet")[0] == 0
    assert (place / "out/entropy/photo.png").is_file()
    assert run(capsys, "evaluate", weights, "--json", "scores.json", "--quiet")[0] == 0
    assert json.loads((place / "scores.json").read_text())["settings"]["longest"] == "native"
    assert "must be auto, native, or from 33" in the_line(capsys, "predict", weights, photo, "--out", "o", "--longest", "big")
