"""Notes for the user about reading images: fewer bits than their files store, and ignored frames."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from types import MappingProxyType

import numpy as np
from PIL import Image

from .images import WIDE, Header, decode, largest_value, read_header, rgb, stored_bits

BITS = "bits per channel"


def range_notes(image: Image.Image, header: Header) -> list[str]:
    """Notes about a decoded image: its bits if 12 or fewer of 16 are used, and ignored frames."""
    bits = image.info.get("bits") or (stored_bits(largest_value(image)) if image.mode in WIDE else 16)
    notes = [f"{bits} {BITS}, stored in 16: scaled to 8"] if bits < 16 else []
    return notes + ([f"only the first of {header.frames} frames is read"] if header.frames > 1 else [])


def note_lines(counts: Counter[str], first: Mapping[str, Path] = MappingProxyType({})) -> list[str]:
    """A line for each note, with the number of images and an example; and a line if their bits differ."""
    lines = [
        f"{count} image{'s' * (count > 1)}: {note}" + (f" ({first[note]})" if note in first else "")
        for note, count in counts.items()
    ]
    if sum(BITS in note for note in counts) > 1:
        lines.append(
            "the range of each file is determined by its largest value, so dark images of one camera are brightened; save them "
            "with 8 bits, or scaled to all 16 bits by one factor"
        )
    return lines


class RangeNotes:
    """Reads images, and collects the notes about them. Threads may share it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, Path] = {}
        self._lock = Lock()

    def read(self, path: Path) -> np.ndarray:
        """`read_image` of a file."""
        image = decode(path)
        for note in range_notes(image, read_header(path)):
            with self._lock:
                self._counts[note] += 1
                self._first.setdefault(note, path)
        return rgb(image)

    def lines(self) -> list[str]:
        """See `note_lines`."""
        return note_lines(self._counts, self._first)
