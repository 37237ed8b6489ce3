import base64
import html
import json
import re

import numpy as np
import pytest

from seg.evaluation.boundary import Boundary
from seg.evaluation.compare import compare
from seg.evaluation.metrics import ImageScore, Scores, confusion_matrix
from seg.files import write_json
from seg.labels import LabelSet
from seg.report.page import read_against, write_report
from seg.report.pictures import Picture, planes
from tests.helpers.browser import opened
from tests.helpers.toy import refused, toy_sample

AWKWARD = "</script><b>\"&' été 火"
LABELS = LabelSet(("background", "disc", AWKWARD, "diamond", "bar"), tuple((50 * i, 200 - 50 * i, 30) for i in range(5)))
PLACE = {0: 0, 1: 1, 8: 2, 12: 3, 15: 4, 255: 255}
NAMES = [AWKWARD, *(f"toy_{number}" for number in range(1, 6))]
SETTINGS = {"weights": AWKWARD, "scales": [0.5, 1.0], "flip": True, "canvas": None, "tile": 1}


def samples(wrong: float):
    """Image, truth and prediction of each of NAMES; the share of wrong pixels grows with the number, up to `wrong`."""
    for number in range(len(NAMES)):
        image, mask = toy_sample(number)
        truth = np.vectorize(PLACE.get)(mask).astype(np.uint8)
        if number == 5:
            truth[:] = 255
        rng = np.random.default_rng(number)
        spoilt = rng.random(truth.shape) < wrong * number / 4
        yield image, truth, np.where(spoilt, rng.integers(0, 5, truth.shape), truth % 255).astype(np.uint8)


def evaluation(wrong=0.5, photos=True):
    """Scores, pictures and boundary."""
    each, pictures, boundary = [], {}, Boundary(LABELS)
    for index, (image, truth, prediction) in enumerate(samples(wrong)):
        each.append(ImageScore.of(NAMES[index], confusion_matrix(truth, prediction, 5)))
        pictures[index] = Picture.of(truth, prediction, image if photos else None)
        boundary.add(truth, prediction)
    return Scores.over(LABELS, each), pictures, boundary


def scripts(path) -> dict:
    found = re.findall(
        r'<script type="application/json" id="(.*?)">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL
    )
    return {name: json.loads(text) for name, text in found}


def cells(page: str, section: str) -> list[list[str]]:
    """The texts of the rows of the body of the first table in a section."""
    body = re.search(rf'<section id="{section}">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)]
    return [[html.unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in row] for row in rows]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The pages of an evaluation, and of a better one against it."""
    folder = tmp_path_factory.mktemp("reports")
    curves = {"loss": [(10, 2.0), (20, 1.0)], "miou": [(20, 0.5)]}
    scores, pictures, boundary = evaluation()
    first = write_report(folder / "first", scores, SETTINGS, pictures, boundary, curves)
    second = write_report(folder / "second", *better(), against=read_against(folder / "first"))
    return first, second


def better():
    scores, pictures, _ = evaluation(0.2)
    return scores, {"weights": "better"}, pictures


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
            assert row[4:6] == [f"{100 * first.iou[index]:.2f}", f"{100 * (second.iou[index] - first.iou[index]):+.2f}"]
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


def shown(page) -> list[str]:
    return page.locator(".card .title span").all_inner_texts()


def test_the_gallery_sorts_filters_and_steps_by_keyboard(browser, reports):
    scores, iou = evaluation()[0], scripts(reports[0])["data"]["iou"]
    with opened(browser, reports[0].as_uri()) as page:
        worst = [NAMES[i] for i in sorted(range(5), key=iou.__getitem__)] + ["toy_5"]
        assert shown(page) == worst
        page.select_option("#order", "best")
        assert shown(page) == [*reversed(worst[:5]), "toy_5"]
        page.select_option("#order", "list")
        assert shown(page) == NAMES
        page.select_option("#order", "median")
        assert shown(page)[0] == worst[2]

        page.click("[data-class='1']")
        holding = [one.name for one in scores.each if any(1 in entry[:2] for entry in one.entries)]
        assert page.input_value("#class") == "1" and 0 < len(holding) < 6
        assert sorted(shown(page)) == sorted(holding)
        assert page.inner_text("#count") == f"{len(holding)} of 6 images; IoU of disc in the image"

        page.select_option("#class", "")
        page.select_option("#order", "list")
        page.locator(".card").first.press("Enter")
        viewer = page.locator("#viewer")
        assert viewer.is_visible() and page.inner_text("#viewer-name") == f"{AWKWARD}: IoU 100.0 %"
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#viewer-name").startswith("toy_2: ") and page.inner_text("#viewer-place") == "3 of 6"
        page.wait_for_selector("#viewer canvas")
        page.keyboard.press("Escape")
        assert not viewer.is_visible()
        page.wait_for_function("document.activeElement.image?.name === 'toy_2'")  # the event of closing comes later
        assert page.asked[0] == reports[0].as_uri() and all(address.startswith("data:") for address in page.asked[1:])


PIXELS = """canvas => ({size: [canvas.height, canvas.width],
    pixels: [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]})"""


def test_the_pictures_are_drawn_in_the_colors_of_the_classes(browser, reports):
    _, truth, prediction = list(samples(0.5))[2]
    _, _, ours = list(samples(0.2))[2]
    with opened(browser, reports[1].as_uri()) as page:
        card = page.locator(".card").filter(has_text="toy_2")
        card.scroll_into_view_if_needed()
        card.locator("canvas").nth(4).wait_for()
        drawn = [canvas.evaluate(PIXELS) for canvas in card.locator("canvas").all()]
        photo = card.locator("img").first.evaluate("async image => (await image.decode(), image.naturalWidth)")
    assert photo == truth.shape[1]
    pixels = [np.array(one["pixels"]).reshape(*one["size"], 4) for one in drawn]
    for mask, got in zip((truth, ours, prediction), (pixels[0], pixels[1], pixels[3]), strict=True):
        assert (got[..., :3] == LABELS.palette[mask]).all() and (got[..., 3] == 255).all()
    for mask, got in ((ours, pixels[2]), (prediction, pixels[4])):
        void, wrong = truth == 255, (truth != 255) & (mask != truth)
        assert ((got[..., 3] == 0) == ~void & ~wrong).all()
        assert (got[wrong] == [225, 0, 40, 255]).all()
        assert (np.ptp(got[void][:, :3], 1) <= 2).all() and (got[void][:, 3] < 255).all()


def test_the_confusion_matrix_describes_the_chosen_cell(browser, reports):
    matrix = evaluation()[0].matrix
    with opened(browser, reports[0].as_uri()) as page:
        page.focus("#matrix td[tabindex='0']")
        for key in ("ArrowUp", "ArrowLeft", "ArrowDown", "ArrowRight", "ArrowRight"):
            page.keyboard.press(key)
        share, count = 100 * matrix[1, 2] / matrix[1].sum(), matrix[1, 2]
        assert page.inner_text("#cell") == f"disc → {AWKWARD}: {share:.2f} % of its pixels ({count:,})"
        page.hover("#matrix tbody tr:first-child td:nth-child(2)")
        assert page.inner_text("#cell").startswith("background → background: ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_follows_the_color_scheme(browser, reports, scheme, width):
    for report in reports:
        with opened(browser, report.as_uri(), color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            colors = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
            text, ground = (sum(map(int, re.findall(r"\d+", color))) for color in colors)
            assert (text < ground - 300) if scheme == "light" else (text > ground + 300)
