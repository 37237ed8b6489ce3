"""The reliability diagram, from the numbers of a calibration to the page."""

import re

import numpy as np
import pytest

from seg.evaluation.calibration import BINS, Calibration
from seg.report.page import write_report
from seg.report.reliability import BOTTOM, LEFT, RIGHT, SIDE, TOP, reliability
from tests.helpers.reports import SETTINGS, evaluation


@pytest.fixture
def calibration():
    made = Calibration()
    made.pixels[[9, 14]], made.correct[[9, 14]] = (100, 300), (25, 270)
    made.confidence[[9, 14]] = 62, 291
    return made


def test_a_bar_stands_for_a_bin_with_pixels(calibration):
    drawn = reliability(calibration)
    assert (drawn["width"], drawn["height"]) == (LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM)
    low, high = drawn["bars"]
    assert low["x"] == pytest.approx(LEFT + 9 / BINS * SIDE + 1) and low["height"] == pytest.approx(0.25 * SIDE)
    assert low["y"] + low["height"] == pytest.approx(drawn["bottom"]) and high["height"] == pytest.approx(0.9 * SIDE)
    assert high["text"] == "97.0 % mean confidence, 90.0 % correct; 300 pixels, 75.0 % of all"
    assert calibration.ece == pytest.approx((abs(25 - 62) + abs(270 - 291)) / 400)
    assert drawn["ticks"][0] == (LEFT, TOP + SIDE, "0") and drawn["ticks"][-1] == (LEFT + SIDE, TOP, "100")


def test_the_page_has_the_diagram_and_the_error(calibration, tmp_path):
    scores, pictures, _ = evaluation()
    page = write_report(tmp_path, scores, SETTINGS, pictures, calibration=calibration).read_text()
    section = re.search(r'<section id="calibration">.*?</section>', page, re.DOTALL)[0]
    assert section.count("<rect") == 2 and "14.50&nbsp;%" in section and 'href="#calibration"' in page
    assert "Temperature fitted" not in section
    calibration.logits, calibration.truths, calibration.fitted = [np.eye(3, dtype=np.float32)], [np.arange(3)], 1.5
    assert (
        "fitted on these images: 1.5" in write_report(tmp_path, scores, SETTINGS, pictures, calibration=calibration).read_text()
    )
    assert 'id="calibration"' not in write_report(tmp_path, scores, SETTINGS, pictures).read_text()
