"""EXIF orientations: how a stored image is turned and mirrored to be upright."""

from PIL import Image

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transpose that makes an image of each EXIF orientation upright."""


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 if it has none, or an unreadable EXIF."""
    try:
        return int(image.getexif().get(0x0112) or 1)
    except Exception:  # Pillow raises whatever its parsers run into
        return 1


def upright(image: Image.Image, orientation: int | None = None) -> Image.Image:
    """Turn and mirror an image by an EXIF orientation, 1 to 8; default: its own."""
    # Pillow's exif_transpose also rewrites the other EXIF entries, and fails if they are damaged.
    turn = TURNS.get(orientation_of(image) if orientation is None else orientation)
    return image if turn is None else image.transpose(turn)
