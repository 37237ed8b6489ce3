"""The reliability diagram of a calibration."""

from typing import Any

from ..evaluation.calibration import BINS, Calibration

SIDE = 240
"""Side of the diagram, in units of its drawing."""
LEFT, TOP, BOTTOM, RIGHT = 52, 12, 40, 16
"""Margins, for the numbers of the axes."""


def reliability(calibration: Calibration) -> dict[str, Any]:
    """Draw accuracy against confidence: for the template of the page.

    Returns:
        width, height and the area's left, right, top and bottom; `bars`, one for each bin with pixels, as x, y, width, height
        and a text; `ticks` from 0 to 1, as position across, position down and label.
    """

    def across(value: float) -> float:
        return round(LEFT + value * SIDE, 1)

    def down(value: float) -> float:
        return round(TOP + (1 - value) * SIDE, 1)

    total = max(1, int(calibration.pixels.sum()))
    bars = []
    for row in calibration.rows():
        if row["pixels"]:
            accuracy, place = row["accuracy"], across(row["low"])
            words = f"{100 * row['confidence']:.1f} % mean confidence, {100 * accuracy:.1f} % correct"
            share = f"{row['pixels']:,} pixels, {100 * row['pixels'] / total:.1f} % of all"
            box = {"x": place + 1, "y": down(accuracy), "width": round(SIDE / BINS - 2, 1), "height": round(accuracy * SIDE, 1)}
            bars.append(box | {"text": f"{words}; {share}"})
    return {
        "width": LEFT + SIDE + RIGHT,
        "height": TOP + SIDE + BOTTOM,
        "left": LEFT,
        "right": LEFT + SIDE,
        "top": TOP,
        "bottom": TOP + SIDE,
        "bars": bars,
        "ticks": [(across(part / 4), down(part / 4), f"{25 * part}") for part in range(5)],
    }
