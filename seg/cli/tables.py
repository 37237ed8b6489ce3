"""Scores, class counts and networks as tables of plain text."""

from __future__ import annotations

import io
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..evaluation.boundary import Boundary
from ..evaluation.calibration import Calibration
from ..evaluation.compare import CONFIDENCE, Comparison
from ..evaluation.metrics import Scores
from ..labels import VOID, LabelSet

if TYPE_CHECKING:
    from rich.table import Table

    from ..benchmark.harness import Row
    from ..models.profile import Group
    from ..models.summary import Row as SummaryRow
    from ..weights.zoo import PublishedModel


def _render(table: Table, width: int = 80) -> str:
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=width).print(table)
    return text.getvalue().rstrip()


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.2f}"


def table(scores: Scores) -> str:
    """Per-class IoU and accuracy in percent, then the means."""
    grid = _table("class", "IoU %", "accuracy %", "pixels")
    for name, iou, accuracy, pixels in zip(scores.labels.names, scores.iou, scores.accuracy, scores.matrix.sum(1), strict=True):
        grid.add_row(name, _percent(iou), _percent(accuracy), f"{pixels:,}")
    present, union = int(scores.present.sum()), int((scores.union > 0).sum())
    lines = [
        f"mIoU {_percent(scores.miou)} % over the {present} classes present in the ground truth of {scores.images} images",
        f"     {_percent(scores.miou_all)} % over the {union} classes present or predicted",
        f"pixel accuracy {_percent(scores.pixel_accuracy)} %, mean accuracy {_percent(scores.mean_accuracy)} %, "
        f"frequency-weighted IoU {_percent(scores.frequency_weighted_iou)} %",
    ]
    return "\n".join([_render(grid), *lines])


def run_table(score: dict[str, Any]) -> str:
    """The score of the best weights of a run: the mIoU, and the IoU of each class in percent, three classes per line."""
    cells = [(name, "-" if iou is None else f"{100 * iou:.1f}") for name, iou in score["iou"].items()]
    rows = -(-len(cells) // 3)
    lines = []
    for row in range(rows):
        parts = [f"{name[:17]:17} {iou:>5}" for name, iou in cells[row::rows]]
        lines.append("   ".join(parts))
    mean = f"best mIoU {100 * score['miou']:.2f} % on {score['split']}, at iteration {score['iteration']}; IoU % of each class:"
    return "\n".join([mean, *lines])


def comparison_table(comparison: Comparison, first: str, second: str) -> str:
    """IoU of each class in both evaluations and the difference, in percent; then both mIoUs and the confidence interval."""
    grid = _table("class", "A: IoU %", "B: IoU %", "B - A")
    one, other = comparison.first, comparison.second
    for name, a, b in zip(one.labels.names, one.iou, other.iou, strict=True):
        grid.add_row(name, _percent(a), _percent(b), "-" if np.isnan(b - a) else f"{100 * (b - a):+.2f}")
    low, high = comparison.interval
    lines = [
        f"A {first}: mIoU {_percent(one.miou)} %",
        f"B {second}: mIoU {_percent(other.miou)} %",
        f"B - A: {100 * comparison.difference:+.2f} points, {100 * CONFIDENCE:.0f} % confidence interval {100 * low:+.2f} to "
        f"{100 * high:+.2f} (paired bootstrap over {one.images} images)",
    ]
    return "\n".join([_render(grid), *lines])


def boundary_table(boundary: Boundary) -> str:
    """Boundary IoU of each class in percent, the means, and the trimap mIoU of each width."""
    grid = _table("class", "Boundary IoU %")
    for name, iou in zip(boundary.labels.names, boundary.iou, strict=True):
        grid.add_row(name, _percent(iou))
    widths = ", ".join(f"{_percent(boundary.trimap_miou(width))} % ({width} px)" for width in boundary.matrices)
    mean = f"mean Boundary IoU {_percent(boundary.miou)} % over the classes present in the ground truth"
    return "\n".join([_render(grid), mean, f"mIoU near void borders: {widths}"])


def calibration_table(calibration: Calibration) -> str:
    """Mean confidence and accuracy of each bin in percent, the expected calibration error, and the fitted temperature."""
    grid = _table("probability", "pixels", "mean probability %", "accuracy %")
    for row in calibration.rows():
        if row["pixels"]:
            means = _percent(row["confidence"]), _percent(row["accuracy"])
            grid.add_row(f"{row['low']:.2f}-{row['high']:.2f}", f"{row['pixels']:,}", *means)
    at = f" at the stored temperature {calibration.temperature:g}" if calibration.temperature != 1 else ""
    lines = [f"expected calibration error {_percent(calibration.ece)} %{at}"]
    if calibration.fitted is not None:
        lines.append(f"temperature fitted on these images: {calibration.fitted:g}, error {_percent(calibration.fitted_ece)} %")
    return "\n".join([_render(grid), *lines])


def class_table(counts: np.ndarray, labels: LabelSet) -> str:
    """Number of images and share of pixels of each class; from counts [images, 256]."""
    grid = _table("class", "images", "pixels %")
    total = max(1, counts.sum())
    for index, name in [*enumerate(labels.names), (VOID, "(void)")]:
        grid.add_row(name, f"{(counts[:, index] > 0).sum()}", _percent(counts[:, index].sum() / total))
    return _render(grid)


SIDES = (128, 256, 384, 513, 768, 1024, 2048, 4096)
"""Upper bounds of the rows of a size table, in pixels."""


def size_table(sizes: np.ndarray) -> str:
    """Images by longer and by shorter side, and the extreme sizes; from widths and heights [images, 2], where 0 is unknown."""
    sizes = sizes[sizes.all(1)]
    if not len(sizes):
        return ""
    grid = _table("side in pixels", "images by longer side", "by shorter side")
    rows = np.stack([np.searchsorted(SIDES, side) for side in (sizes.max(1), sizes.min(1))])
    for row in range(rows.min(), rows.max() + 1):
        low, high = SIDES[row - 1] + 1 if row else 1, SIDES[row] if row < len(SIDES) else ""
        grid.add_row(f"{low}-{high}" if high else f"{low} and more", *(f"{count:,}" for count in (rows == row).sum(1)))
    kinds, counts = np.unique(sizes, axis=0, return_counts=True)
    ranked = kinds[np.argsort(kinds.prod(1), kind="stable")]
    most = counts.argmax()
    least, largest, usual = ("x".join(map(str, size)) for size in (ranked[0], ranked[-1], kinds[most]))
    share = f"{counts[most]:,} of {len(sizes):,}"
    line = f"smallest {least}, largest {largest}, most frequent {usual} ({share}), width x height"
    return f"{_render(grid)}\n{line}"


def _time(seconds: float) -> str:
    """Format a time with three digits: `1.43 s`, `35.2 ms`, `12.0 us`."""
    unit, scale = next((u, s) for u, s in (("s", 1), ("ms", 1e3), ("us", 1e6)) if seconds * s >= 1 or s == 1e6)
    value = seconds * scale
    return f"{value:.{max(0, 2 - len(str(int(value))) + 1)}f} {unit}"


def benchmark_table(machine: dict[str, Any], rows: Sequence[Row]) -> str:
    """The machine, the rows of a benchmark by section, and the hardware limits for comparison."""
    grid = _table("case", "time", "MiB", "peer", "peer time", "peer MiB", "ratio", "of limit")
    for column in (grid.columns[0], grid.columns[3]):
        column.no_wrap, column.justify, column.min_width = False, "left", 18
    section, limits = None, []
    for row in rows:
        if row.section != section:
            section = row.section
            grid.add_row(section)
        share = "-" if row.limit is None else f"{100 * row.limit / row.ours_s:.0f} %"
        memory = ["-" if peak is None else f"{peak:,.0f}" for peak in (row.ours_peak_mib, row.peer_peak_mib)]
        times = _time(row.ours_s), _time(row.peer_s)
        grid.add_row(f"  {row.case}", times[0], memory[0], row.peer, times[1], memory[1], f"{row.ratio:.2f}", share)
        if row.limit is not None:
            limits.append(f"limit of {section}: {row.limited_by}: {_time(row.limit)}")
    cores = f"{machine['cores']} core{'s' * (machine['cores'] != 1)}"
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"
    where = [machine["processor"], cores, threads, f"torch {machine['torch']}", machine["gpu"] or "no GPU"]
    return "\n".join([", ".join(where), _render(grid, width=100), *dict.fromkeys(limits)])


def profile_table(groups: Sequence[Group], height: int, width: int) -> str:
    """Time, memory and speed of each group of layers for an input of height x width; see `models.profile`."""
    grid = _table(f"{height}x{width}", "time ms", "share %", "stored MiB", "multiply-adds", "GFLOP/s")
    for group in groups:
        time = f"{1000 * group.seconds:,.2f}"
        work = f"{group.multiply_adds / 1e9:.3f} B", f"{group.flops / 1e9:.1f}"
        kept = f"{group.kept / 2**20:,.1f}"
        grid.add_row(group.name, time, _percent(group.share), kept, *work, end_section=group is groups[-2])
    return f"{_render(grid)}\nstored: activations that training stores for the backward pass, for one image"


def published_table(models: Sequence[PublishedModel], here: Container[str]) -> str:
    """For each published model: label set, published mIoU in percent, download size, and whether it is on this machine."""
    grid = _table("name", "label set", "published mIoU %", "MB", "here")
    for model in models:
        scores = " / ".join(f"{100 * score.miou:.2f} {score.split}" for score in model.scores) or "-"
        known = (model.labels or "(backbone)", scores, f"{model.megabytes}", "yes" if model.name in here else "no")
        grid.add_row(model.name, *known)
    return _render(grid, width=100)


def model_table(rows: Sequence[SummaryRow], height: int, width: int) -> str:
    """Output size, parameters and multiply-adds of each layer for an input of height x width; see `models.summary`."""
    grid = _table(f"{height}x{width}", "output", "parameters", "multiply-adds")
    for row in rows:
        size = "x".join(map(str, row.size))
        grid.add_row(row.name, size, f"{row.parameters:,}", f"{row.multiply_adds / 1e9:.3f} B", end_section=row is rows[-2])
    return _render(grid)
