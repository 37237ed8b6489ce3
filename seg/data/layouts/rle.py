"""COCO's run-length encoding: runs of 0 and 1 in turn, along columns."""

from typing import Any

import numpy as np

from ...errors import UserError


def decode_rle(value: Any, size: tuple[int, int], place: str) -> np.ndarray:
    """The region of a run-length encoding.

    Args:
        value: `{"size": [H, W], "counts": [run, ...]}`, or counts as COCO's compressed text.
        size: (H, W) of the image.
        place: named in errors.

    Returns:
        bool [H, W].

    Raises:
        UserError: the runs are not those of an image of this size.
    """
    counts: Any = value.get("counts") if isinstance(value, dict) else None
    if not isinstance(value, dict) or value.get("size") != list(size):
        raise UserError(
            f"{place}: its RLE has another size than the image, {size[0]}x{size[1]} (height x width); export the file again"
        )
    if isinstance(counts, str):
        counts = decompress(counts)
    sound = isinstance(counts, list) and all(isinstance(run, int) and not isinstance(run, bool) and run >= 0 for run in counts)
    if not sound or sum(counts) != size[0] * size[1]:
        raise UserError(f"{place}: the runs of its RLE do not add up to {size[0]}x{size[1]} pixels; export the file again")
    values = np.arange(len(counts)) % 2 == 1
    found: np.ndarray = np.repeat(values, np.array(counts, np.int64)).reshape(size[::-1]).T
    return found


def decompress(text: str) -> list[int] | None:
    """The runs of a compressed text: 5 bits a character, lowest first; from the fourth on, differences to the run two before.

    None if the text is not compressed RLE.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        part = ord(character) - 48
        if not 0 <= part < 64 or shift > 40:
            return None
        value |= (part & 31) << shift
        shift += 5
        if not part & 32:  # the last of this run
            if part & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return None if shift else runs


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """The run-length encoding of a region, bool [H, W], with its runs as numbers."""
    flat = np.concatenate([[False], mask.T.ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    ends = [0, *edges.tolist(), mask.size] if len(edges) == 0 or edges[-1] != mask.size else [0, *edges.tolist()]
    runs = np.diff(ends).tolist()
    return {"size": list(mask.shape), "counts": runs}
