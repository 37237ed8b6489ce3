import json

import pytest

from seg.report.curves import BOTTOM, HEIGHT, LEFT, POINTS, RIGHT, TOP, WIDTH, chart, read_curves, ticks

SPACE = "\N{NO-BREAK SPACE}"


def test_curves_are_read_from_the_log_without_an_incomplete_line(tmp_path):
    events = [
        {"iteration": 10, "loss": 2.5, "lr": 0.1},
        {"iteration": 20, "loss": 1.5, "lr": 0.05},
        {"iteration": 20, "miou": 0.4},
        {"iteration": 30, "loss": float("nan")},
        [1],
    ]
    lines = [json.dumps(event) for event in events] + ['{"iteration": 40, "lo']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    expected = {"loss": [(10, 2.5), (20, 1.5)], "lr": [(10, 0.1), (20, 0.05)], "miou": [(20, 0.4)]}
    assert read_curves(tmp_path / "metrics.jsonl") == expected
    assert read_curves(tmp_path / "none.jsonl") == {}


@pytest.mark.parametrize("low, high", [(0, 1), (0, 0), (0, 2.4e-3), (-0.3, 7), (0, 30000), (0, 9.99e9), (0, 1e-12)])
def test_ticks_are_few_round_numbers_around_the_range(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert found[0] <= low and found[-1] >= high * (1 - 1e-9)
    step = found[1] - found[0]
    assert f"{step:.3e}"[:4] in ("1.00", "2.00", "2.50", "5.00")


def test_a_chart_places_every_value_between_its_lines():
    curve = [(10, 4.0), (20, 1.0), (40, 2.0)]
    drawn = chart("loss", curve)
    heights = {float(label): y for y, label in drawn.rows}
    assert drawn.each == 1
    for (iteration, value), (x, y) in zip(curve, drawn.points, strict=True):
        assert x == pytest.approx(LEFT + iteration / 40 * (WIDTH - LEFT - RIGHT), abs=0.1)
        assert y == pytest.approx(TOP + (1 - value / max(heights)) * (HEIGHT - TOP - BOTTOM), abs=0.1)
        if value in heights:
            assert y == heights[value]
    assert drawn.summary == "from 4 to 2 at iteration 40, lowest 1"


def test_the_miou_is_drawn_in_percent():
    drawn = chart("miou", [(500, 0.2), (1000, 0.45), (1500, 0.4)])
    assert [label for _, label in drawn.rows] == [f"{value}{SPACE}%" for value in (0, 10, 20, 30, 40, 50)]
    heights = {label: y for y, label in drawn.rows}
    assert drawn.points[0][1] == heights[f"20{SPACE}%"] and drawn.points[2][1] == heights[f"40{SPACE}%"]
    assert drawn.summary == f"from 20.00{SPACE}% to 40.00{SPACE}% at iteration 1,500, highest 45.00{SPACE}%"


@pytest.mark.parametrize("highest, label", [(8e-7, "8e-07"), (0.004, "0.004"), (4.0, "4"), (5e6, "5e+06")])
def test_the_labels_of_an_axis_are_short(highest, label):
    labels = [label for _, label in chart("lr", [(1, highest), (2, 0.0)]).rows]
    assert labels[0] == "0" and label in labels and max(map(len, labels)) <= 7


def test_a_long_curve_is_drawn_as_means():
    curve = [(i, float(i % 2)) for i in range(1, 10 * POINTS + 1)]
    drawn = chart("loss", curve)
    assert drawn.each == 10 and len(drawn.points) == POINTS
    assert len({y for _, y in drawn.points}) == 1


def test_a_single_value_is_said_in_words():
    drawn = chart("miou", [(2500, 0.45)])
    assert len(drawn.points) == 1 and drawn.summary == f"45.00{SPACE}% at iteration 2,500, the only value so far"
    assert chart("loss", [(0, 0.0)]).summary == "0 at iteration 0, the only value so far"


def test_a_curve_of_zeros_is_drawn():
    assert len(chart("miou", [(5, 0.0), (6, 0.0)]).points) == 2
