"""Writes the masks of a data set; a second run keeps correct masks."""

from pathlib import Path

import numpy as np

from ...errors import UserError
from ...labels import VOC
from ..masks import read_mask
from ..voc import save_mask


def put_mask(path: Path, mask: np.ndarray) -> str:
    """Write a mask of VOC's classes, unless the file holds it already. Returns "written", "replaced" or "kept"."""
    there = path.exists()
    if there:
        try:
            if np.array_equal(read_mask(path, VOC), mask):
                return "kept"
        except UserError:
            pass
    save_mask(path, mask, VOC)
    return "replaced" if there else "written"
