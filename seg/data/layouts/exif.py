"""Images without their EXIF orientation."""

import shutil
import struct
from pathlib import Path

from PIL import Image

from ..images import read_header

_ORIENTATION = 0x0112


def write_unturned(source: Path, target: Path) -> None:
    """Copy an image without its EXIF orientation, so that it is not turned.

    In a JPEG, one number in its EXIF is changed, without recompression. Other images are written as PNG without EXIF, under the
    same name.
    """
    content = bytearray(source.read_bytes())
    place = _orientation_in_jpeg(content)
    if place:
        offset, order = place
        struct.pack_into(order + "H", content, offset, 1)
        target.write_bytes(content)
        if read_header(target).orientation == 1:
            shutil.copymode(source, target)
            return
    with Image.open(source) as image:
        image.load()
        image.info.pop("exif", None)
        image.getexif().clear()
        image.save(target, format="PNG", exif=b"")


def _orientation_in_jpeg(content: bytearray) -> tuple[int, str] | None:
    """Position of the orientation in a JPEG's EXIF, and its byte order; None if there is none."""
    at = 2
    try:
        while content[:2] == b"\xff\xd8" and content[at] == 0xFF and content[at + 1] != 0xDA:
            (length,) = struct.unpack_from(">H", content, at + 2)
            if content[at + 1] == 0xE1 and content[at + 4 : at + 10] == b"Exif\0\0":
                base = at + 10
                order = "<" if content[base : base + 2] == b"II" else ">"
                (first,) = struct.unpack_from(order + "I", content, base + 4)
                (count,) = struct.unpack_from(order + "H", content, base + first)
                for entry in range(base + first + 2, base + first + 2 + 12 * count, 12):
                    tag, kind = struct.unpack_from(order + "HH", content, entry)
                    if (tag, kind) == (_ORIENTATION, 3):
                        return entry + 8, order
            at += 2 + length
    except (IndexError, struct.error):
        pass
    return None
