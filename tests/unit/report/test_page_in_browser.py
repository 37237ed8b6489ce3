import re

import numpy as np
import pytest
from playwright.sync_api import expect

from seg.report.page import write_report
from tests.helpers.browser import opened
from tests.helpers.reports import (
    ABSENT,
    AWKWARD,
    LABELS,
    NAMES,
    ONLY_PREDICTED,
    SETTINGS,
    SPACE,
    evaluation,
    samples,
    scripts,
)


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
        true = sum(any(entry[0] == 1 for entry in one.entries) for one in scores.each)
        counts = f"{true} with disc, {len(holding) - true} where it was only predicted"
        assert page.inner_text("#count") == f"{len(holding)} of 6 images: {counts}; IoU of disc in the image"
        row = page.locator("#classes tbody tr").filter(has_text="disc").locator("td")
        assert row.nth(1).inner_text() == str(true), "the table counts the same images"

        page.select_option("#class", "")
        page.select_option("#order", "list")
        page.locator(".card").first.press("Enter")
        viewer = page.locator("#viewer")
        assert viewer.is_visible() and page.inner_text("#viewer-name") == f"{AWKWARD}: IoU 100.0{SPACE}%"
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#viewer-name").startswith("toy_2: ") and page.inner_text("#viewer-place") == "3 of 6"
        page.wait_for_selector("#viewer canvas")
        page.keyboard.press("Escape")
        assert not viewer.is_visible()
        expect(page.locator(".card").nth(2)).to_be_focused()  # the event of closing comes later
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
        assert page.inner_text("#cell") == f"disc → {AWKWARD}: {share:.2f}{SPACE}% of its pixels ({count:,})"
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


READY = "() => prepared.size === {} && [...prepared.values()].every(Boolean)"
WIDTHS = pytest.mark.parametrize("width", [1280, 390])


def window(width, scheme="light"):
    return {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}


@WIDTHS
def test_no_label_of_a_chart_is_cut_off(browser, wide, width):
    with opened(browser, wide.as_uri(), **window(width)) as page:
        charts = page.locator("svg").all()
        assert len(charts) == 3
        for chart in charts:
            frame, labels = chart.bounding_box(), chart.locator("text").all()
            assert "1,000,000" in [label.text_content() for label in labels]
            for label in labels:
                box = label.bounding_box()
                assert box["x"] >= frame["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"], label.text_content()
                assert box["y"] >= frame["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"]


# Colors as the browser paints them, in numbers, of each element with text of its own and of what lies behind it.
CONTRASTS = """() => {
  const pixel = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const pen = pixel.getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
  };
  const spoken = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.body.querySelectorAll("*:not(script, style, noscript *, option)")]
    .filter((element) => spoken(element) && element.checkVisibility())
    .map((element) => [
      element.textContent.trim().slice(0, 40),
      rgba(element.closest("svg") ? getComputedStyle(element).fill : getComputedStyle(element).color),
      ground(element),
    ]);
}"""


def luminance(color):
    share = np.array(color[:3]) / 255
    return float(np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_a_contrast_of_at_least_4_5(browser, wide, scheme):
    with opened(browser, wide.as_uri(), **window(1280, scheme)) as page:
        found = page.evaluate(CONTRASTS)
        shares = page.eval_on_selector_all("#matrix td", "cells => cells.map((cell) => Number(cell.textContent))")
    assert {60, 64, 70, 74} <= {*shares}, "shares at which black and white are almost equally readable"
    assert len(found) > 200
    for text, ink, ground in found:
        darker, lighter = sorted((luminance(ink), luminance(ground)))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ink, ground)


def test_the_first_24_images_are_printed_with_their_photos_and_legends(browser, wide):
    # With the page's content security policy, playwright could not wait for a function.
    with opened(browser, wide.as_uri(), bypass_csp=True, **window(1280)) as page:
        page.wait_for_function(READY.format(24))
        drawn = "document.querySelectorAll('.card .picture').length"
        before = page.evaluate(drawn)
        page.evaluate(f"addEventListener('beforeprint', () => window.printed = {drawn})")
        page.pdf()
        assert page.evaluate("window.printed") == 24 * 6 > before
        page.wait_for_function(f"() => {drawn} === {before}")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        cards = [card for card in page.locator(".card").all() if card.is_visible()]
        assert len(cards) == 24
        assert page.inner_text("#printed") == "The first 24 of 30 images are printed."
        for card in (cards[0], cards[23]):
            pixels = [canvas.evaluate(PIXELS)["pixels"] for canvas in card.locator("canvas").all()]
            assert len(pixels) == 5 and len({tuple(one) for one in pixels}) > 2
            photo = card.locator("img").first
            assert photo.evaluate("image => image.complete && image.naturalWidth > 0")
        for hidden in ("nav", "#controls", "#missing"):
            assert not page.locator(hidden).is_visible()


def test_a_page_of_few_images_prints_them_all(browser, reports):
    with opened(browser, reports[0].as_uri(), bypass_csp=True, **window(390)) as page:
        page.wait_for_function(READY.format(6))
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert [card.is_visible() for card in page.locator(".card").all()] == [True] * 6
        assert page.locator(".card canvas").count() == 6 * 3
        assert page.inner_text("#printed") == ""


@WIDTHS
def test_the_cards_of_a_row_are_equally_high(browser, wide, width):
    with opened(browser, wide.as_uri(), **window(width)) as page:
        page.select_option("#order", "list")
        page.locator(".card").nth(2).scroll_into_view_if_needed()
        page.locator(".card").nth(2).locator("canvas").first.wait_for()
        page.locator(".card .legend").first.evaluate("legend => (legend.style.height = '5rem')")  # that of a long legend
        boxes = [card.bounding_box() for card in page.locator(".card").all()[:6]]
        pictures = [
            picture.bounding_box()["height"] for picture in page.locator(".card .panels > :first-child .picture").all()[:3]
        ]
    rows = {}
    for box in boxes:
        rows.setdefault(box["y"], []).append(box["height"])
    assert len(rows) == (2 if width == 1280 else 6)
    for heights in rows.values():
        assert max(heights) - min(heights) < 1
    assert max(pictures) - min(pictures) < 1, "pictures of one shape, in which images of any shape lie"


def test_each_card_has_a_legend_of_its_largest_classes(browser, reports):
    scores = evaluation()[0]
    with opened(browser, reports[0].as_uri()) as page:
        page.select_option("#order", "list")
        for card, one in zip(page.locator(".card").all(), scores.each, strict=True):
            area = np.maximum(one.matrix(5).sum(0), one.matrix(5).sum(1))
            present = sorted(np.flatnonzero(area), key=lambda index: -area[index])
            assert card.locator(".legend > span").all_inner_texts() == [LABELS.names[index] for index in present]
            for index, swatch in zip(present, card.locator(".legend i").all(), strict=True):
                color = swatch.evaluate("element => getComputedStyle(element).backgroundColor")
                assert [int(number) for number in re.findall(r"\d+", color)] == list(LABELS.colors[index])


def test_a_legend_of_many_classes_says_how_many_more(browser, wide):
    with opened(browser, wide.as_uri()) as page:
        page.select_option("#order", "list")
        assert page.locator(".legend").first.inner_text().endswith("and 1 more")


def test_a_card_and_the_viewer_show_the_same_iou(browser, reports):
    for report in reports:
        with opened(browser, report.as_uri()) as page:
            for chosen in ("", "1"):
                page.select_option("#class", chosen)
                for place in range(3):
                    card = page.locator(".card").nth(place)
                    score = card.locator(".title b").inner_text()
                    card.click()
                    heading = page.inner_text("#viewer-name")
                    assert f"IoU {'of disc ' if chosen else ''}{score}" in heading
                    assert (", of the image " in heading) == bool(chosen)
                    page.keyboard.press("Escape")


def test_home_and_end_reach_the_first_and_last_image_and_cell(browser, reports):
    with opened(browser, reports[0].as_uri()) as page:
        page.locator(".card").nth(2).click()
        for key, place in (("End", "6 of 6"), ("End", "6 of 6"), ("ArrowRight", "6 of 6"), ("Home", "1 of 6")):
            page.keyboard.press(key)
            assert page.inner_text("#viewer-place") == place
        page.keyboard.press("Escape")
        page.locator("dialog").wait_for(state="hidden")
        page.focus("#matrix td[tabindex='0']")
        for key, cell in (("End", "background → bar: "), ("ArrowDown", "disc → bar: "), ("Home", "disc → background: ")):
            page.keyboard.press(key)
            assert page.inner_text("#cell").startswith(cell)


def test_on_a_phone_the_comparison_is_in_sight(browser, reports):
    with opened(browser, reports[1].as_uri(), **window(390)) as page:
        heads = page.locator("#classes thead th").all()
        assert [head.inner_text() for head in heads[1:4]] == [f"IoU{SPACE}%", f"other{SPACE}%", "change"]
        for head in heads[1:4]:
            box = head.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390


def test_a_class_without_images_says_what_to_do(browser, wide):
    with opened(browser, wide.as_uri()) as page:
        page.select_option("#class", str(ABSENT))
        assert page.inner_text("#count").startswith("0 of 30 images")
        assert page.inner_text("#cards") == "g is in no ground truth and in no prediction. Choose another class."
        page.select_option("#class", str(ONLY_PREDICTED))
        assert page.inner_text("#count") == "3 of 30 images: 0 with h, 3 where it was only predicted; IoU of h in the image"


def test_a_training_of_one_value_has_no_chart(browser, tmp_path):
    scores, pictures, _ = evaluation()
    path = write_report(tmp_path, scores, SETTINGS, pictures, curves={"miou": [(2500, 0.45)]})
    with opened(browser, path.as_uri()) as page:
        assert page.locator("svg").count() == 0
        text = f"mIoU on the validation split 45.00{SPACE}% at iteration 2,500, the only value so far"
        assert page.inner_text("#training figcaption") == text
