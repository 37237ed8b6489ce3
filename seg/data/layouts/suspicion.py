"""Detects masks with smooth edges, and masks of instances instead of classes."""

from collections.abc import Sequence

import numpy as np

from ...errors import UserError
from .raw_masks import Decoding, Seen, decoded_codes, read_codes, show

LOOKED_AT = 16
"""Number of masks that are read again: those with the most values."""
FEW = 4
"""Fewer values that occur only along edges, or fewer instances in an image, are not suspicious."""


def refuse_smooth_edges(seen: Sequence[Seen], how: Decoding) -> None:
    """Refuse masks that were resized or drawn with smooth edges.

    Values between those of two regions occur only along edges: no pixel has four neighbors of its value.

    Raises:
        UserError: there are more such values than values of regions; the message names the mask, their number, and a pixel.
    """
    chosen = sorted(seen, key=lambda one: -len(one.codes))[:LOOKED_AT]
    if not chosen or len(chosen[0].codes) < 2 + FEW:
        return
    masks = [(one, read_codes(one.path, how)) for one in chosen]
    solid: set[int] = set()
    every: set[int] = set()
    for _, codes in masks:
        every |= {*np.unique(codes).tolist()}
        solid |= {*np.unique(codes[1:-1, 1:-1][_inside(codes)]).tolist()}
    edges = every - solid
    if len(edges) < FEW or len(edges) <= len(solid) or len(solid) < 2:
        return
    one, codes = max(masks, key=lambda mask: len(edges & {*mask[0].codes}) if not how.gray else len(mask[0].codes))
    place = np.isin(codes, sorted(edges))
    row, column = (int(i) for i in np.unravel_index(place.argmax(), place.shape))
    shown = ", ".join(show(code) for code in sorted(solid)[:6])
    raise UserError(
        f"{one.path}: {len(np.unique(codes))} values, most of them only along edges, such as {show(int(codes[row, column]))} "
        f"at ({row}, {column}) between {shown}: the mask was resized or drawn smoothly, and these values are not classes. "
        "Export it again without smoothing (nearest neighbor), or take two classes, dark and bright, by --threshold 128"
    )


def _inside(codes: np.ndarray) -> np.ndarray:
    """Pixels that have the value of their four neighbors, without the image's border: bool [H-2, W-2]."""
    middle = codes[1:-1, 1:-1]
    neighbors = (codes[:-2, 1:-1], codes[2:, 1:-1], codes[1:-1, :-2], codes[1:-1, 2:])
    found: np.ndarray = np.logical_and.reduce([middle == other for other in neighbors])
    return found


def refuse_instances(seen: Sequence[Seen], how: Decoding) -> None:
    """Refuse masks that seem to number objects: in every image the values count up from 1, and each is one region.

    Raises:
        UserError: the masks seem to number objects; the message has the flags for both meanings.
    """
    if any(one.colored or one.lossy for one in seen):
        return
    counts = [count for one in seen if (count := _counted(decoded_codes(one, how))) is not None]
    if len(counts) < len(seen) or max(counts, default=0) < FEW or len({*counts}) < 2:
        return
    ranked = sorted(zip(counts, seen, strict=True), key=lambda pair: -pair[0])[:LOOKED_AT]
    connected = [_share_connected(read_codes(one.path, how)) for _, one in ranked]
    if np.mean(connected) < 0.95:
        return
    most, one = ranked[0]
    raise UserError(
        f"{one.path}: seems to number objects, not classes: in every mask the values count up from 1 (here to {most}), and "
        f"each is one region. If all are of one class: --values 0=background 1-{most}=object. If they are classes, name them: "
        "--values 0=background 1=cat 2=dog ..."
    )


def _counted(codes: Sequence[int]) -> int | None:
    """Largest value, if the values apart from 0 and 255 count up from 1; else None."""
    objects = [code for code in codes if code not in (0, 255)]
    return len(objects) if objects == list(range(1, len(objects) + 1)) else None


def _share_connected(codes: np.ndarray) -> float:
    """Share of the values above 0, except 255, that are one connected region."""
    import cv2

    values = [value for value in np.unique(codes).tolist() if value not in (0, 255)]
    parts = [cv2.connectedComponents((codes == value).astype(np.uint8))[0] - 1 for value in values]
    return float(np.mean([count == 1 for count in parts])) if parts else 1.0
