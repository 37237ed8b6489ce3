import base64
import contextlib
import io
import zipfile

import httpx
import numpy as np
import pytest
from PIL import Image

from seg.labels import VOC, LabelSet
from tests.helpers.browser import opened
from tests.helpers.toy import toy_sample, written
from tests.stress.serve_load import encoded
from tests.unit.serve.conftest import reading, started

MASK = np.where(toy_sample(1)[1] > 20, 0, toy_sample(1)[1])
PICTURE = written(MASK)
IMAGE = encoded(PICTURE, "PNG")
FILE = {"name": "photo.png", "mimeType": "image/png", "buffer": IMAGE}


@pytest.fixture
def page(browser, address):
    """Open the page. Afterwards, check that it printed no error and requested nothing from other servers."""
    with shown(browser, address, viewport={"width": 1280, "height": 900}) as found:
        yield found


@contextlib.contextmanager
def shown(browser, address, path="", **settings):
    with opened(browser, address + path, **settings) as found:
        found.address = address
        yield found
        assert all(url.startswith((address, "blob:", "data:")) for url in found.asked), found.asked


def choose(page, file=FILE):
    page.set_input_files("#file", file)
    says(page, "pixels in")


def says(page, text: str, place: str = "status"):
    page.locator(f"#{place}", has_text=text).wait_for()


def canvas(page) -> np.ndarray:
    """The pixels that the canvas shows, uint8 [h, w, 3]."""
    url = page.evaluate("document.getElementById('view').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))


def test_a_chosen_file_gets_a_legend_an_opacity_slider_and_downloads(page):
    choose(page)
    answer = httpx.post(f"{page.address}/api/segment", params={"format": "json"}, content=IMAGE).json()
    buttons = page.locator("#legend button")
    shares = {int(b.get_attribute("data-index")): float(b.get_attribute("data-share")) for b in buttons.all()}
    assert shares == {each["index"]: each["share"] for each in answer["classes"]}
    largest = answer["classes"][0]
    assert buttons.first.inner_text().split("\n") == [largest["name"], f"{100 * largest['share']:.1f}\u00a0%"]

    colors, colored = VOC.palette[MASK], MASK > 0
    for percent in (0, 40, 100):
        page.locator("#opacity").fill(str(percent))
        assert page.locator("#percent").inner_text() == f"{percent}\u00a0%"
        wanted = np.where(colored[..., None], PICTURE * (1 - percent / 100) + colors * (percent / 100), PICTURE)
        assert np.abs(canvas(page) - wanted).max() <= 2

    with page.expect_download() as download:
        page.click("#mask")
    assert download.value.suggested_filename == "photo_mask.png"
    saved = Image.open(download.value.path())
    assert saved.mode == "P" and saved.getpalette()[: 3 * 21] == [v for color in VOC.colors for v in color]
    np.testing.assert_array_equal(np.asarray(saved), MASK)
    with page.expect_download() as download:
        page.click("#overlay")
    np.testing.assert_array_equal(np.asarray(Image.open(download.value.path()).convert("RGB")), canvas(page))


def test_the_page_names_the_class_under_the_pointer_and_hides_classes(page):
    choose(page)
    page.locator("#view").scroll_into_view_if_needed()
    box = page.locator("#view").bounding_box()
    largest = np.bincount(MASK[MASK > 0]).argmax()
    row, column = (int(each) for each in np.argwhere(np.equal(MASK, largest))[40])
    scale = box["width"] / MASK.shape[1]
    page.mouse.move(box["x"] + (column + 0.5) * scale, box["y"] + (row + 0.5) * scale)
    name = VOC.names[MASK[row, column]]
    assert page.locator("#pixel").inner_text() == f"{name} at column {column}, row {row}"
    assert name in page.locator("#legend .here").inner_text()

    page.focus("#view")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("ArrowUp")
    left, up = max(column - 6, 0), row - 1
    assert page.locator("#pixel").inner_text() == f"{VOC.names[MASK[up, left]]} at column {left}, row {up}"
    assert page.locator("#cross").get_attribute("hidden") is None

    button = page.locator("#legend button", has_text=name)
    page.locator("#opacity").fill("100")
    button.focus()
    page.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "false"
    page.locator("#opacity").focus()
    np.testing.assert_array_equal(canvas(page)[row, column], PICTURE[row, column])
    button.focus()
    page.keyboard.press("Enter")
    page.locator("#opacity").focus()
    np.testing.assert_array_equal(canvas(page)[row, column], VOC.palette[MASK[row, column]])


@pytest.mark.parametrize("event, holder", [("drop", "dataTransfer"), ("paste", "clipboardData")])
def test_an_image_may_be_dropped_or_pasted(page, event, holder):
    page.evaluate(
        """([event, holder, content]) => {
            const data = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
            data.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
            const kind = event === "drop" ? DragEvent : ClipboardEvent;
            document.body.dispatchEvent(new kind(event, { [holder]: data, bubbles: true, cancelable: true }));
        }""",
        [event, holder, base64.b64encode(IMAGE).decode()],
    )
    says(page, "dropped.png: 64")
    assert canvas(page).shape == PICTURE.shape


def test_the_page_works_by_keyboard_and_with_a_screen_reader(page):
    reached = []
    for _ in range(2):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["file", "example"]
    page.keyboard.press("Enter")
    says(page, "example.png: 480")
    seen = set()
    for _ in range(8 + page.locator("#legend button").count()):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.closest('#legend')?.id"))
    assert {"view", "opacity", "legend", "mask", "overlay"} <= seen
    assert page.get_by_label("Choose images").count() == page.get_by_label("Opacity of the mask").count() == 1
    assert page.get_by_role("alert").count() == 1 and page.locator("#status").get_attribute("aria-live") == "polite"


def test_the_page_shows_an_error_and_continues(page):
    page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"no image"})
    says(page, "not a readable image", "error")
    assert "415" in page.said.pop()  # the browser's own note of the status
    choose(page)
    assert page.locator("#error").inner_text() == ""


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_at_any_width_in_light_and_dark(browser, address, width, scheme):
    with shown(browser, address, viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
        choose(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(ground[4:].split(",")[0]) < 100) == (scheme == "dark")


def test_the_api_is_described_without_a_network(browser, address):
    with shown(browser, address, "/docs") as page:
        page.get_by_text("Segment an image").first.wait_for()


def test_the_page_names_the_classes_before_the_first_image_and_the_model_in_its_title(page):
    page.locator("#known li").nth(20).wait_for()
    assert [each.inner_text() for each in page.locator("#known li").all()] == list(VOC.names)
    model = httpx.get(f"{page.address}/api/model").json()
    assert page.title() == f"{model['name']} · Segment an image" and model["background"] == 0
    choose(page)
    assert not page.locator("#known").is_visible() and page.title() == f"photo.png · {model['name']}"


def test_a_small_image_is_enlarged_and_a_class_hidden_under_the_pointer_leaves_the_others(page):
    choose(page)
    box = page.locator("#view").bounding_box()
    assert box["width"] > 500 and box["width"] / box["height"] == pytest.approx(64 / 48, abs=0.02)
    page.locator("#opacity").fill("100")
    largest = np.bincount(MASK[MASK > 0]).argmax()
    others = (largest != MASK) & (MASK > 0)
    assert others.any()
    page.locator("#legend button", has_text=VOC.names[largest]).click()  # the pointer stays there
    np.testing.assert_array_equal(canvas(page)[others], VOC.palette[MASK][others])
    np.testing.assert_array_equal(canvas(page)[largest == MASK], PICTURE[largest == MASK])


def test_an_error_names_its_file_and_takes_the_old_picture_away(page):
    choose(page)
    page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"no image"})
    says(page, "a.txt: not a readable image", "error")
    page.said.clear()
    assert not page.locator("#result").is_visible() and "photo" not in page.title()


def test_several_images_have_a_strip_and_one_archive_of_masks(page):
    bad = {"name": "bad.txt", "mimeType": "text/plain", "buffer": b"no image"}
    page.set_input_files("#file", [FILE, bad, FILE, FILE | {"name": "größer.png"}])
    says(page, "bad.txt: not a readable image", "error")
    page.locator("#strip button").nth(2).wait_for()
    says(page, "pixels in")
    page.said.clear()
    assert [each.inner_text().strip() for each in page.locator("#strip button").all()] == [
        "photo.png",
        "photo.png",
        "größer.png",
    ]
    page.locator("#strip button").nth(2).click()
    says(page, "größer.png: 64")
    assert page.locator("#strip [aria-current=true]").inner_text().strip() == "größer.png"
    with page.expect_download() as download:
        page.click("#all")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["photo_mask.png", "photo_2_mask.png", "größer_mask.png"]
        for name in archive.namelist():
            np.testing.assert_array_equal(np.asarray(Image.open(archive.open(name))), MASK)


def test_each_image_of_several_keeps_its_hidden_classes(page):
    page.set_input_files("#file", [FILE, FILE | {"name": "other.png"}])
    page.locator("#strip button").nth(1).wait_for()
    says(page, "pixels in")
    largest = VOC.names[np.bincount(MASK[MASK > 0]).argmax()]
    button = page.locator("#legend button", has_text=largest)
    button.click()
    seen = []
    for place in (1, 0):
        page.locator("#strip button").nth(place).click()
        seen.append(button.get_attribute("aria-pressed"))
    assert seen == ["true", "false"]


def test_several_errors_have_a_line_each(page):
    bad = [{"name": name, "mimeType": "text/plain", "buffer": b"no image"} for name in ("a.txt", "b.txt")]
    page.set_input_files("#file", bad)
    says(page, "b.txt", "error")
    page.said.clear()
    first, second = page.locator("#error").inner_text().split("\n")
    assert first.startswith("a.txt: ") and second.startswith("b.txt: ")


def test_a_black_class_that_is_not_the_background_is_drawn_and_named(browser):
    labels = LabelSet(("sky", "road", "car"), ((0, 0, 0), (128, 64, 128), (64, 0, 128)))
    mask = np.arange(48 * 64).reshape(48, 64) // 512 % 3
    picture = written(mask.astype(np.uint8))
    picture[..., 2] = 200  # the reader looks at red alone, and blue shows where no color is drawn
    with started(reading(labels)) as address, shown(browser, address) as page:
        choose(page, FILE | {"buffer": encoded(picture, "PNG")})
        page.locator("#opacity").fill("100")
        np.testing.assert_array_equal(canvas(page), labels.palette[mask])
        page.locator("#view").hover(position={"x": 3, "y": 3})
        assert page.locator("#pixel").inner_text().startswith("sky at column 0, row 0")


def test_a_phone_is_told_to_tap(browser, address):
    with shown(browser, address, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True) as page:
        choose(page)
        text = page.locator("#keys").inner_text()
        assert "Tap" in text and "keyboard" not in text and "paste" not in page.locator("#drop").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_documentation_of_the_api_has_groups_and_dark_colors(browser, address, scheme):
    with shown(browser, address, "/docs", color_scheme=scheme) as page:
        for group in ("Segmentation", "Model", "Health"):
            page.locator("h3", has_text=group).wait_for()
        assert not page.get_by_text("default", exact=True).count()
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (ground == "rgb(18, 22, 28)") == (scheme == "dark")
