import cv2
import numpy as np
import pytest

from seg import visualize
from seg.labels import VOC, VOID, LabelSet
from tests.helpers.toy import toy_sample

IMAGE, MASK = toy_sample(0, (96, 120))


@pytest.fixture(autouse=True)
def inputs_stay_as_they_are():
    before = IMAGE.copy(), MASK.copy()
    yield
    np.testing.assert_array_equal(IMAGE, before[0])
    np.testing.assert_array_equal(MASK, before[1])


def every_label():
    return np.array([*range(21), 255], np.uint8).repeat(30).reshape(22, 30)


def named(*indices):
    """The colors of the classes, as the swatches of a legend have them."""
    return {tuple(VOC.palette[index].tolist()) for index in indices}


def swatches(legend):
    """Colors that fill a square of 7 pixels, larger than any stroke of a letter; but the paper's white."""
    window = np.ones((7, 7), np.uint8)
    filled = (cv2.dilate(legend, window) == cv2.erode(legend, window)).all(2)
    return {tuple(color) for color in legend[filled].tolist()} - {(255, 255, 255)}


def test_edges_lie_between_labels():
    mask = np.array([[1, 1, 2], [1, 1, 2], [3, 3, 3]], np.uint8)
    assert visualize.edges(mask).tolist() == [[False, True, False], [True, True, True], [False, False, False]]
    assert not visualize.edges(np.full((4, 4), 9, np.uint8)).any()


def away_from_edges(mask):
    """Pixels of which no neighbor has another label."""
    padded = np.pad(mask, 1, mode="edge")
    neighbors = [padded[y : y + mask.shape[0], x : x + mask.shape[1]] for y in range(3) for x in range(3)]
    return np.all([neighbor == mask for neighbor in neighbors], 0)


def test_an_overlay_blends_classes_and_leaves_the_background_clear():
    picture = visualize.overlay(IMAGE, MASK, VOC)
    assert picture.dtype == np.uint8 and picture.shape == IMAGE.shape
    inside = away_from_edges(MASK)
    background, objects = inside & (MASK == 0), inside & (MASK != 0)
    assert background.sum() > 1000 and objects.sum() > 300
    np.testing.assert_array_equal(picture[background], IMAGE[background])
    blend = (1 - visualize.STRENGTH) * IMAGE + visualize.STRENGTH * VOC.palette[MASK].astype(float)
    assert np.abs(picture[objects] - blend[objects]).max() <= 0.5 + 1e-3


def test_outlines_are_white_except_in_small_pictures():
    image, mask = toy_sample(0, (128, 150))
    mask[mask == 255] = 0
    edges = visualize.edges(mask)
    assert edges.any() and (visualize.overlay(image, mask, VOC)[edges] == 255).all()
    image, mask = toy_sample(0, (48, 64))
    assert not (visualize.overlay(image, mask, VOC) == 255).all(2).any()


@pytest.mark.parametrize("color", [(200, 0, 0), (0, 0, 0)])
def test_a_class_0_that_is_not_the_background_is_blended(color):
    labels = LabelSet(("road", "sky"), (color, (0, 0, 200)))
    picture = visualize.overlay(IMAGE, np.zeros(MASK.shape, np.uint8), labels)
    wanted = (1 - visualize.STRENGTH) * IMAGE + visualize.STRENGTH * np.array(color)
    assert np.abs(picture - wanted).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("index", [0, 1])
def test_the_background_stays_clear_at_any_index_and_in_any_color(index):
    names = ["sky", "road"]
    names[index] = "bg"
    labels = LabelSet(tuple(names), ((200, 0, 0), (0, 0, 200)))
    picture = visualize.overlay(IMAGE, np.full(MASK.shape, index, np.uint8), labels)
    np.testing.assert_array_equal(picture, IMAGE)
    assert (visualize.overlay(IMAGE, np.full(MASK.shape, 1 - index, np.uint8), labels) != IMAGE).any()


@pytest.mark.parametrize("width", [80, 120, 300, 500])
def test_a_legend_lists_exactly_the_classes_present(width):
    legend = visualize.legend([MASK], VOC, width)
    present = [int(index) for index in np.unique(MASK)]
    assert legend.dtype == np.uint8 and legend.shape[1:] == (width, 3) and legend.shape[0] < 200
    assert VOID in present and len(present) == 5
    assert swatches(legend) == named(*present)


def test_a_legend_of_many_classes_takes_as_many_rows_as_it_needs():
    heights = [visualize.legend([every_label()], VOC, width).shape[0] for width in (690, 500, 160)]
    assert heights[0] < heights[1] < heights[2]
    for width in (2500, 690, 500, 160):
        assert swatches(visualize.legend([every_label()], VOC, width)) == named(*range(21), 255)


def test_a_legend_names_the_classes_of_all_masks_the_largest_first():
    large, small = np.full((20, 20), 12, np.uint8), np.full((5, 5), 8, np.uint8)
    legend = visualize.legend([small, large], VOC, 300)
    columns = {color: np.argwhere((legend == color).all(2))[:, 1].min() for color in named(8, 12)}
    assert columns[VOC.colors[12]] < columns[VOC.colors[8]]


def test_a_legend_shows_the_letters_of_a_name():
    legend = visualize.legend([np.full((5, 5), 12, np.uint8)], VOC, 300)
    assert (legend[:, 30:] < 100).all(2).sum() > 20


def test_text_grows_with_the_picture_not_with_the_number_of_pictures():
    mask = np.full((30, 4000), 12, np.uint8)
    heights = [
        visualize.legend([mask], VOC, width, panels).shape[0] for width, panels in ((500, 1), (1500, 3), (4000, 1), (8000, 2))
    ]
    assert heights[0] == heights[1] and heights[2] == heights[3] > 5 * heights[0]
    small, large = (
        visualize.side_by_side([("image", np.zeros((30, width, 3), np.uint8))]).shape[0] - 30 for width in (500, 4000)
    )
    assert large > 3 * small


def test_a_legend_below_a_picture_keeps_the_picture():
    picture = visualize.with_legend(IMAGE, [MASK], VOC)
    assert picture.shape[1] == IMAGE.shape[1] and picture.shape[0] > IMAGE.shape[0]
    np.testing.assert_array_equal(picture[: IMAGE.shape[0]], IMAGE)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_panels_stand_side_by_side_under_their_titles(count):
    pictures = [np.full((50, 70, 3), 40 * number, np.uint8) for number in range(count)]
    row = visualize.side_by_side([(f"panel {number}", picture) for number, picture in enumerate(pictures)])
    head = row.shape[0] - 50
    assert head > 0 and row.shape[1] == 70 * count + 4 * (count - 1)
    for number, picture in enumerate(pictures):
        left = number * 74
        np.testing.assert_array_equal(row[head:, left : left + 70], picture)
        assert (row[:head, left : left + 70] < 100).any(), "no title"
        assert (row[:, left + 70 : left + 74] == 255).all()


def test_a_comparison_shows_image_prediction_and_truth_with_a_legend_of_both():
    prediction = np.where(MASK == VOID, 0, MASK).astype(np.uint8)
    prediction[:9] = 3
    for truth, panels in ((None, 2), (MASK, 3)):
        picture = visualize.comparison(IMAGE, prediction, VOC, truth)
        width = 120 * panels + 4 * (panels - 1)
        assert picture.shape[1] == width and picture.dtype == np.uint8
        head = next(top for top in range(40) if (picture[top : top + 96, :120] == IMAGE).all())
        np.testing.assert_array_equal(picture[head : head + 96, 124:244], visualize.overlay(IMAGE, prediction, VOC))
        if truth is not None:
            np.testing.assert_array_equal(picture[head : head + 96, 248:], visualize.overlay(IMAGE, truth, VOC))
        listed = named(*np.unique(prediction), *([] if truth is None else np.unique(truth)))
        assert swatches(picture[head + 96 :]) == listed


def grid(picture):
    """Top and left of the cells, whose lines are gray."""
    lines = (picture == 210).all(-1)
    return [int(np.flatnonzero(lines.sum(axis) > 20)[0]) for axis in (1, 0)]


def test_a_confusion_picture_is_dark_where_pixels_are():
    names = ("sky", "road", "a long name")
    picture = visualize.confusion_picture(np.array([[8, 2, 0], [0, 0, 0], [5, 0, 5]]), names)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    top, left = grid(picture)
    corner = [
        [picture[top + 26 * row + 3, left + 26 * column + 3].astype(int).sum() for column in range(3)] for row in range(3)
    ]
    assert corner[0][0] < corner[2][0] == corner[2][2] < corner[0][1] < corner[0][2] == 3 * 255
    assert corner[1] == [765] * 3


def luminance(color):
    share = np.asarray(color) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("percent", range(1, 101, 3))
def test_the_numbers_of_a_confusion_picture_have_a_contrast_of_at_least_4_5(percent):
    picture = visualize.confusion_picture(np.array([[percent, 100 - percent], [0, 1]]), ("a", "b"))
    top, left = grid(picture)
    cell = picture[top + 1 : top + 25, left + 1 : left + 25].reshape(-1, 3)
    lights = luminance(cell)
    ink = 0.0 if lights.min() < lights[0] else 1.0  # the smoothing of the font mixes it with the cell
    assert abs(lights - ink).min() < 0.1
    darker, lighter = sorted((ink, float(lights[0])))
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
