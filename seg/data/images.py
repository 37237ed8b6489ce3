"""Read image files as RGB, uint8.

Formats: JPEG, PNG, BMP, TIFF, WebP, GIF, JPEG 2000 and AVIF, known by their content, up to `PIXELS` pixels. HEIF needs the
extra `heif`.

- Black and white, gray, palette, RGB, YCbCr and CMYK (in a JPEG inverted, as Adobe writes it). Color profiles are not applied.
- 8 or 16 bits per channel. Of 16 bits the upper 8 are used. If no value of the file needs more than 12, 10 or 8 bits, as
  cameras and microscopes write them, the upper 8 of those are used (`stored_bits`).
- Transparency is dropped: the color of transparent pixels is kept.
- The image is turned and mirrored by its EXIF orientation. An unreadable EXIF is ignored.
- Of an animation or a file of several pages, the first is read.

Errors are one line: floating-point values, damaged or truncated files (a PNG by its checksums; damage inside a JPEG may only
be visible), and anything but a regular file, which is never opened: a pipe would block.
"""

import contextlib
import ctypes
import logging
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from ..errors import UserError, reason
from ..extras import pip_command
from .orientation import TURNS, orientation_of, upright
from .pillow_memory import pillow_memory

PIXELS = 200_000_000
"""Largest image that is read, in pixels: it takes 1.4 GB to decode. A file of a few bytes can claim any size."""

_OPTIONAL = {"jpg_2000": "JPEG2000", "avif": "AVIF"}
IMAGE_FORMATS = (
    "JPEG",
    "PNG",
    "BMP",
    "TIFF",
    "WEBP",
    "GIF",
    *(f for library, f in _OPTIONAL.items() if features.check(library)),
)
"""Pillow's names of the supported formats; JPEG 2000 and AVIF only if Pillow was built with them."""
WIDE = ("I", "I;16", "I;16L", "I;16B")
"""Pillow's modes of more than 8 bits per channel. RGB of 16 bits is decoded to 8."""
INDEX = ("1", "L", "LA", "P", "PA", *WIDE)
"""Modes of one channel, with or without transparency."""
COLOR = ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
RESCALE = "scale them to 0..255, and save it as gray or RGB of 8 or 16 bits"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")

# PIXELS is the limit; Pillow's own limit warns from 89 million pixels on.
Image.MAX_IMAGE_PIXELS = None
# Errors are one line: other messages of Pillow and libtiff are not shown.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())
with contextlib.suppress(AttributeError, OSError):  # Pillow built without libtiff, or with a hidden one
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)  # type: ignore[attr-defined]


class NotAnImage(UserError):
    """The file has no supported format."""


class TooLarge(UserError):
    """The image has too many pixels."""


def decode(
    source: Any,
    formats: tuple[str, ...] = IMAGE_FORMATS,
    name: str | None = None,
    pixels: int | None = None,
    whole: bool = False,
) -> Image.Image:
    """Decode an image file and turn it upright. The mode is not changed.

    Args:
        source: path, or an open binary file.
        formats: Pillow's names of the formats to accept.
        name: name of an open file in errors.
        pixels: the largest size, in pixels; default `PIXELS`.
        whole: accept floating-point values that are whole numbers, 0 to 65535, as GIS programs write masks.

    Raises:
        TooLarge: more than `pixels` pixels; the image is not decoded.
        NotAnImage: none of the formats.
        UserError: no such file, a damaged file, or unsupported values.
    """
    path: Any = name or Path(source)
    try:
        with contextlib.nullcontext(source) if name else _opened(path) as file:
            image = _decoded(file, formats, path, PIXELS if pixels is None else pixels)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        if not name and _is_tiff(path):
            raise NotAnImage(
                f"{path}: not a readable image (a TIFF of unsupported values, such as floating-point color); {RESCALE}"
            ) from error
        kinds = ", ".join(formats)
        raise NotAnImage(f"{path}: not a readable image (none of {kinds}); save it as one, or copy it again") from error
    except MemoryError as error:
        raise UserError(f"{path}: not a readable image (out of memory); make it smaller, or close other programs") from error
    except Exception as error:  # Pillow raises whatever its parsers run into: struct.error, zlib.error, KeyError, EOFError, ...
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path}: not a readable image ({error.strerror}); check its permissions") from error
        raise UserError(f"{path}: not a readable image ({reason(error)}); damaged or truncated: copy it again") from error
    return _accepted(_whole_numbers(image) if whole and image.mode == "F" else image, path)


def _whole_numbers(image: Image.Image) -> Image.Image:
    """A floating-point image of whole numbers with 8 or 16 bits; any other as it is."""
    values = np.asarray(image)
    if not ((values >= 0) & (values <= 65535) & (values == np.floor(values))).all():
        return image
    return Image.fromarray(values.astype(np.uint8 if values.max() <= 255 else np.uint16))


def _is_tiff(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _decoded(file: BinaryIO, formats: tuple[str, ...], path: Any, limit: int) -> Image.Image:
    image: Any = _open(file, formats, path)
    if image.format == "PNG":
        # Decoding skips the checksums: one damaged mask in seven would be read with other labels.
        image.verify()
        file.seek(0)
        image = Image.open(file, formats=formats)
    width, height = image.size
    if width * height > limit:
        raise TooLarge(f"{path}: {width}x{height} pixels; at most {limit:,} are read: cut it into parts, or make it smaller")
    deep = image.mode in ("RGB", "RGBA") and ";16" in str(image.tile[:1])
    image.load()
    if deep and max(high for _, high in image.getextrema()[:3]) < 16:
        image = _reread_deep(file, image)
    return upright(image)


def _open(file: BinaryIO, formats: tuple[str, ...], path: Any) -> Image.Image:
    """Open the image; HEIF by pillow-heif, which is imported for a HEIF file only."""
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError:
        file.seek(0)
        head = file.read(32)
        file.seek(0)
        if "JPEG" not in formats or head[4:8] != b"ftyp" or not any(brand in head for brand in _HEIF_BRANDS):
            raise
    try:
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise NotAnImage(
            f"{path}: a HEIF image, which needs the extra heif: {pip_command('pillow_heif')}; or save it as JPEG or PNG"
        ) from error
    pillow_heif.register_heif_opener()
    return Image.open(file, formats=(*formats, "HEIF"))


def _reread_deep(file: BinaryIO, image: Image.Image) -> Image.Image:
    """Read RGB of 16 bits again, if no value needs more than 12: Pillow keeps the upper 8 bits, and at most 4 are left."""
    import cv2

    file.seek(0)
    deep: Any = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.ndim != 3 or deep.shape[:2] != (image.height, image.width):
        return image
    shift = stored_bits(int(deep[..., :3].max())) - 8
    found = Image.fromarray(np.ascontiguousarray(deep[..., 2::-1] >> shift).astype(np.uint8))
    found.info = image.info | {"bits": shift + 8}
    found.getexif().update(image.getexif())
    return found


def stored_bits(largest: int) -> int:
    """Number of bits that the values of a 16-bit image use, determined from its largest value: 8, 10, 12 or 16."""
    return next((bits for bits in (8, 10, 12) if largest < 1 << bits), 16)


def largest_value(image: Image.Image) -> int:
    """Largest value of an image of more than 8 bits."""
    return int(np.asarray(image).max())  # getextrema() refuses big-endian modes


def _accepted(image: Image.Image, path: Any) -> Image.Image:
    if image.mode == "F":
        raise UserError(
            f"{path}: not a readable image (values of mode F): floating-point values have no known range; {RESCALE}"
        )
    extrema: Any = image.getextrema() if image.mode == "I" else (0, 0)  # 32 bits, which hold 16 in some formats
    low, high = extrema
    if image.mode not in INDEX + COLOR or low < 0 or high > 65535:
        raise UserError(f"{path}: not a readable image (values of mode {image.mode}); save it as gray or RGB of 8 or 16 bits")
    return image


def _opened(path: Path) -> BinaryIO:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: not a readable image (a folder, pipe or device); give the path of an image file")
    if not status.st_size:
        raise UserError(f"{path}: not a readable image (an empty file); copy it again")
    return open(path, "rb")


class Header(NamedTuple):
    """Data in the header of an image file."""

    width: int
    """Width of the upright image, in pixels."""
    height: int
    orientation: int
    """EXIF orientation, 1 to 8: by which the stored image is turned."""
    frames: int
    """Frames of an animation, or pages; 1 for other images."""


def read_header(path: Any, formats: tuple[str, ...] = IMAGE_FORMATS) -> Header:
    """Size, orientation and number of frames of an image file, without decoding its pixels.

    Raises:
        UserError: as `decode`.
    """
    try:
        with _opened(Path(path)) as file:
            image = _open(file, formats, path)
            if image.mode == "F":
                _accepted(image, path)
            width, height = image.size
            orientation = orientation_of(image)
            # Phones add a depth map to a JPEG as a second frame (MPO); that is no animation.
            frames = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "TIFF", "WEBP") else 1
    except UserError:
        raise
    except Exception:
        decode(path, formats)  # says what is wrong
        raise
    return Header(*((height, width) if orientation >= 5 and orientation in TURNS else (width, height)), orientation, frames)


def read_image(source: Any, name: str | None = None, pixels: int | None = None) -> np.ndarray:
    """Read an image file: uint8 [H, W, 3], RGB, upright. See `decode` for the arguments and errors."""
    return rgb(decode(source, IMAGE_FORMATS, name, pixels))


def read_rgbx(path: Any) -> np.ndarray:
    """Read an image file: uint8 [H, W, 4], RGB and an unused fourth byte, upright. For the loader.

    Pillow stores RGB images this way: up to 16 MB, the image's own memory is used without a copy.
    """
    image = decode(path)
    if image.mode == "RGB":
        with contextlib.suppress(ValueError):  # in several pieces
            return pillow_memory(image)
    pixels = np.empty((image.height, image.width, 4), np.uint8)
    pixels[..., :3] = rgb(image)
    return pixels


def of_pillow(image: Image.Image) -> np.ndarray:
    """`read_image` for an image that Pillow has opened or made; it is not changed."""
    try:
        copy = upright(image).copy()
    except Exception as error:  # a file that Pillow reads only now; as in decode
        raise UserError(f"the image: cannot be decoded ({reason(error)}); damaged or closed: open it again") from error
    return rgb(_accepted(copy, "the image"))


def rgb(image: Image.Image) -> np.ndarray:
    """A decoded image as RGB: uint8 [H, W, 3]."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    shift = stored_bits(largest_value(image)) - 8 if image.mode in WIDE else 0
    for top, band in bands(image):
        if image.mode in WIDE:  # which convert() would clip
            pixels[top : top + band.height] = (np.asarray(band).astype(np.uint32) >> shift)[..., None]
        else:
            pixels[top : top + band.height] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    return pixels


def bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """(first row, part) of the image from top to bottom: converting a large image at once would take many times its memory."""
    image.info.pop("transparency", None)  # convert() would warn of it
    rows = max(1, 2**20 // image.width)
    for top in range(0, image.height, rows):
        whole = rows >= image.height
        yield top, image if whole else image.crop((0, top, image.width, min(top + rows, image.height)))
