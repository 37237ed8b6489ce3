"""Run the sections of the benchmark."""

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import UserError, did_you_mean
from .cases import READ_IMAGES, SECTIONS
from .cases.images import write_images
from .harness import Row, distinct_sides, measure


def benchmark(
    sections: Sequence[str] = (),
    data: str | Path | None = None,
    runs: int = 5,
    on_run: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Measure sections of the benchmark and return their rows.

    Args:
        sections: Keys of SECTIONS; empty means all of them.
        data: Folder in VOC layout for the sections that read images. None writes synthetic scenes of VOC's size.
        runs: Timed runs of each side, at least 1.
        on_run: Called as `on_run(done, total)` after each run of each side.

    Raises:
        UserError: A section is unknown, or a process dies.
    """
    for name in sections:
        if name not in SECTIONS:
            raise UserError(f"seg benchmark: no section '{name}'{did_you_mean(name, SECTIONS)}")
    with tempfile.TemporaryDirectory() as folder:
        parts = []
        for name in sections or SECTIONS:
            if name in READ_IMAGES and data is None:
                data = folder
                write_images(folder)
            parts.append(SECTIONS[name](str(data)) if name in READ_IMAGES else SECTIONS[name]())
        total, done = sum(len(distinct_sides(cases)) for cases in parts) * (1 + runs), itertools.count(1)

        def count_run() -> None:
            if on_run:
                on_run(next(done), total)

        return [row for cases in parts for row in measure(cases, runs, count_run)]
