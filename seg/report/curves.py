"""Training curves as charts."""

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT = 420, 220
"""Size of a chart, in units of its drawing."""
LEFT, RIGHT, TOP, BOTTOM = 64, 36, 12, 28
"""Margins, for the numbers of the axes: half of the label 1,000,000 is to the right of the last point."""
POINTS = 300
"""Largest number of points of a curve; with more events, a point is the mean of several."""
TITLES = {"loss": "Loss", "lr": "Learning rate", "miou": "mIoU on the validation split"}
UNITS = {"miou": "\N{NO-BREAK SPACE}%"}


def read_curves(path: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Read (iteration, value) of `loss`, `lr` and `miou` from a run's metrics.jsonl; empty if there is no such file.

    Incomplete lines of a killed run are skipped.
    """
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    path = Path(path)
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            event = json.loads(line)
            for name in TITLES:
                if name in event and math.isfinite(event[name]):
                    curves[name].append((int(event["iteration"]), float(event[name])))
        except (ValueError, KeyError, TypeError):
            continue
    return {name: curves[name] for name in TITLES if curves[name]}


@dataclass
class Chart:
    """A curve as points of a drawing of WIDTH x HEIGHT."""

    title: str
    points: list[tuple[float, float]]
    rows: list[tuple[float, str]]
    """Positions of the grid lines, and their values."""
    columns: list[tuple[float, str]]
    each: int
    """Number of events that are averaged in a point."""
    summary: str
    """The curve in words."""


def chart(name: str, curve: list[tuple[int, float]]) -> Chart:
    """Draw the chart of (iteration, value), in order; its vertical axis includes 0. The mIoU is drawn in percent."""
    if name == "miou":
        curve = [(iteration, 100 * value) for iteration, value in curve]
    each = math.ceil(len(curve) / POINTS)
    parts = [curve[start : start + each] for start in range(0, len(curve), each)]
    means = [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]
    rows = ticks(min(0, *(value for _, value in means)), max(value for _, value in means))
    columns = ticks(0, means[-1][0])
    right, low, high = max(means[-1][0], 1), rows[0], rows[-1]

    def x(iteration: float) -> float:
        return round(float(LEFT + iteration / right * (WIDTH - LEFT - RIGHT)), 1)

    def y(value: float) -> float:
        return round(float(TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)), 1)

    return Chart(
        TITLES[name],
        [(x(iteration), y(value)) for iteration, value in means],
        [(y(value), tick_label(value, rows[1] - rows[0]) + UNITS.get(name, "")) for value in rows],
        [(x(value), f"{value:,.10g}") for value in columns if value <= right],
        each,
        summarize(name, curve),
    )


def summarize(name: str, curve: list[tuple[int, float]]) -> str:
    """Describe a curve in words."""

    def written(value: float) -> str:
        return f"{value:.2f}{UNITS[name]}" if name in UNITS else f"{value:.4g}"

    (_, first), (last, final) = curve[0], curve[-1]
    if len(curve) == 1:
        return f"{written(final)} at iteration {last:,}, the only value so far"
    values = [value for _, value in curve]
    extreme = f"highest {written(max(values))}" if name == "miou" else f"lowest {written(min(values))}"
    return f"from {written(first)} to {written(final)} at iteration {last:,}, {extreme}"


def tick_label(value: float, step: float) -> str:
    """Format a number of an axis; very small and very large numbers as 2.5e-06."""
    return f"{value:.10g}" if 1e-4 <= step < 1e5 or value == 0 else f"{value:.3g}"


def ticks(low: float, high: float) -> list[float]:
    """About five round, evenly spaced numbers that cover `low` to `high`."""
    high = high if high > low else low + 1
    span = high - low
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (factor * step) <= 5)
    return [number * step for number in range(math.floor(low / step), math.ceil(high / step - 1e-9) + 1)]
