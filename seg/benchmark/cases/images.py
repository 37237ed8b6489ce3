"""Images for the sections that read files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...data.voc import Split

SIZE = 500
"""Longer side of VOC's images, in pixels."""


def write_images(root: str | Path, train: int = 16, val: int = 8, size: int = SIZE) -> None:
    """Write a data set of synthetic scenes in VOC layout to `root`."""
    from ...data.prepare.scenes import write_scenes

    write_scenes(root, train=train, val=val, size=size)


def open_val(root: str) -> Split:
    """Open the validation split of a data set, with the label set in its folder or else VOC's."""
    from ...data.voc import open_split
    from ...labels import load

    labels = Path(root) / "labels.yaml"
    return open_split(root, "val", load(str(labels) if labels.is_file() else "voc"))
