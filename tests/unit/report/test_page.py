import base64
import html
import json
import re

import numpy as np
import pytest

from seg.evaluation.compare import compare
from seg.evaluation.metrics import Scores
from seg.files import write_json
from seg.report.page import percent, points, read_against, write_report
from seg.report.pictures import planes
from tests.helpers.reports import AWKWARD, LABELS, MINUS, NONE, SETTINGS, better, evaluation, samples, scripts, various
from tests.helpers.toy import refused


def cells(page: str, section: str) -> list[list[str]]:
    """The texts of the rows of the body of the first table in a section."""
    body = re.search(rf'<section id="{section}">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)]
    return [[html.unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in row] for row in rows]


def test_the_page_holds_the_scores(reports):
    scores, pictures, boundary = evaluation()
    held = scripts(reports[0])
    expected = {**scores.as_dict(), "settings": SETTINGS, "boundary": boundary.as_dict()}
    assert held["data"]["numbers"] == json.loads(json.dumps(expected))
    for index, (_, truth, prediction) in enumerate(samples(0.5)):
        present = sorted({*np.unique(truth)} - {255})
        ious = [
            ((truth == c) & (prediction == c)).sum() / ((truth == c) | (prediction == c) & (truth != 255)).sum()
            for c in present
        ]
        assert held["data"]["iou"][index] == (pytest.approx(np.mean(ious)) if present else None)
        picture = held[f"picture-{index}"]
        masks = planes(base64.b64decode(picture["masks"]), picture["width"], picture["height"])
        assert (masks == np.stack([truth, prediction])).all()
        assert base64.b64decode(picture["photo"]) == pictures[index].photo


def test_the_tables_show_the_scores_and_names_as_they_are(reports):
    scores, _, boundary = evaluation()
    page = reports[0].read_text(encoding="utf-8")
    assert AWKWARD not in page
    rows = cells(page, "classes")
    assert [float(row[1]) for row in rows] == sorted((round(100 * v, 2) for v in scores.iou), reverse=True)
    for name, iou, images, _, accuracy, at_border in rows:
        index = LABELS.names.index(name)
        assert (iou, accuracy) == (f"{100 * scores.iou[index]:.2f}", f"{100 * scores.accuracy[index]:.2f}")
        assert at_border == f"{100 * boundary.iou[index]:.2f}"
        assert int(images) == sum((truth == index).any() for _, truth, _ in samples(0.5))
    for row, counts in zip(cells(page, "confusion"), scores.matrix, strict=True):
        shares = 100 * counts / counts.sum()
        assert row[1:] == [f"{share:.0f}" if share >= 0.5 else "" for share in shares]
    for text in ("<td>0.5, 1</td>", "<td>yes</td>", "<td>none</td>", "<td>1</td>"):
        assert text in page


def test_a_page_or_json_of_another_evaluation_is_compared(reports, tmp_path):
    first, second = evaluation()[0], better()[0]
    write_json(tmp_path / "first.json", first.as_dict())
    by_json = write_report(tmp_path, *better(), against=read_against(tmp_path / "first.json"))
    low, high = compare(first, second).interval
    for path in (reports[1], by_json):
        page, held = path.read_text(encoding="utf-8"), scripts(path)
        assert f"{100 * (second.miou - first.miou):+.2f} points" in page
        assert f"{100 * low:+.2f} to {100 * high:+.2f}" in page
        for row in cells(page, "classes"):
            index = LABELS.names.index(row[0])
            change = f"{100 * (second.iou[index] - first.iou[index]):+.2f}".replace("-", MINUS)
            assert row[1:4] == [f"{100 * second.iou[index]:.2f}", f"{100 * first.iou[index]:.2f}", change]
        assert held["data"]["against"]["iou"] == scripts(reports[0])["data"]["iou"]
    for index, (_, _, prediction) in enumerate(samples(0.5)):
        picture = scripts(reports[1])[f"picture-{index}"]
        assert (planes(base64.b64decode(picture["masks"]), picture["width"], picture["height"])[2] == prediction).all()
    assert read_against(reports[1].parent).scores.matrix.tolist() == second.matrix.tolist()


def test_an_evaluation_of_other_images_is_refused(reports, tmp_path):
    (tmp_path / "index.html").write_text("<p>another page</p>")
    with refused(tmp_path / "index.html", "not a report"):
        read_against(tmp_path)
    with refused("nowhere/index.html", "--report"):
        (tmp_path / "nowhere").mkdir()
        read_against(tmp_path / "nowhere")
    scores, settings, pictures = better()
    fewer = Scores.over(LABELS, scores.each[:3])
    with refused("first", "the images differ"):
        write_report(tmp_path / "out", fewer, settings, {}, against=read_against(reports[0].parent))
    damaged = re.sub(r'("masks":")....', r"\1AAAA", reports[0].read_text(encoding="utf-8"))
    (tmp_path / "index.html").write_text(damaged, encoding="utf-8")
    with refused(tmp_path, "is damaged"):
        write_report(tmp_path / "out", scores, settings, pictures, against=read_against(tmp_path))
    assert not list((tmp_path / "out").glob("*"))


def test_a_class_without_iou_has_no_bar_and_an_iou_of_0_has_an_empty_one(tmp_path):
    page = write_report(tmp_path, various()[0], SETTINGS, {}).read_text(encoding="utf-8")
    texts = {row[0]: row for row in cells(page, "classes")}
    tracks = {name: re.search(rf"</i>{name}</a>.*?</tr>", page, re.DOTALL)[0].count('class="track') for name in "abcdefgh"}
    assert texts["g"][1] == NONE and tracks["g"] == 0
    assert texts["h"][1] == "0.00" and tracks["h"] == 1
    assert all(tracks[name] == 1 for name in "abcdef")


@pytest.mark.parametrize(
    "settings, subject",
    [
        (
            {"weights": "runs/a/best.safetensors", "run": "a", "network": "DeepLab V3+, xception65"},
            "a, DeepLab V3+, xception65",
        ),
        ({"weights": "model.onnx"}, "model.onnx"),
        ({"predictions": "results", "truth": "masks"}, "results"),
    ],
)
def test_the_title_names_the_run_and_the_network_or_the_source(tmp_path, settings, subject):
    scores, pictures, _ = evaluation()
    page = write_report(tmp_path, scores, settings, pictures).read_text(encoding="utf-8")
    assert re.search("<title>(.*?)</title>", page)[1] == f"mIoU {100 * scores.miou:.2f}&nbsp;% · {subject}"
    assert f'<p class="subject">{subject}</p>' in page
    for name, value in settings.items():
        assert f'<th scope="row">{name}</th><td>{value}</td>' in page


def test_missing_parts_of_the_report_are_listed_with_how_to_add_them(reports, tmp_path):
    scores, pictures = various(photos=False)
    bare = write_report(tmp_path, scores, {"weights": "w"}, pictures).read_text(encoding="utf-8")
    for text in ("--boundary", "seg report RUN", "--data ROOT", "--against"):
        assert text in bare
    saved = write_report(tmp_path, scores, {"predictions": "p"}, pictures).read_text(encoding="utf-8")
    assert "seg report RUN" not in saved, "saved masks have no training"
    full = reports[0].read_text(encoding="utf-8")
    assert "--against" in full and not any(text in full for text in ("--boundary", "seg report RUN", "--data ROOT"))


def test_the_words_for_the_errors_mention_the_photo_only_if_there_are_photos(tmp_path):
    for photos in (True, False):
        page = write_report(tmp_path, various()[0], SETTINGS, various(photos)[1]).read_text(encoding="utf-8")
        assert ("over the dimmed photo" in page) == photos


def test_differences_have_a_minus_sign_and_unknown_values_a_dash():
    assert points(-0.0123) == f"{MINUS}1.23" and points(0.5) == "+50.00" and points(0.0) == "+0.00"
    assert points(None) == points(float("nan")) == percent(None) == percent(float("nan")) == NONE
    assert percent(0.5) == "50.00" and percent(0.95, 0) == "95"
