"""What is accepted as an image and as a mask: the one place where picture files are read.

An image is a JPEG, PNG, BMP, TIFF, WebP or GIF file, told by its content, of any size up to `PIXELS`:

- black and white, gray, palette, RGB, YCbCr or CMYK (in a JPEG inverted, as Adobe writes it), of 8 bits a channel or of 16, the
  upper 8 of which are taken; color profiles are not applied;
- with or without transparency, which is dropped: what lies beneath is taken as it is;
- turned and mirrored as its EXIF orientation says, all eight of them; an EXIF that cannot be read turns nothing;
- of an animation or a file of several pages the first.

A mask is a file of these kinds but JPEG and WebP, which change labels, and is turned by its EXIF like an image.

Refused in one line are floating-point and other values, files damaged or cut short (a PNG by its checksums; damage inside a
JPEG may show in the picture alone), and what is no regular file, which is never opened: a pipe would wait for ever.
Bytes that came another way than by a file are read alike.
"""

import contextlib
import ctypes
import logging
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import UserError, reason
from ..labels import VOC, VOID, LabelSet

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
PIXELS = 200_000_000
"""The largest image that is read, in pixels: 1.4 GB while it is. A file of a few bytes can claim any size."""

IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
MASK_FORMATS = ("PNG", "BMP", "TIFF", "GIF")
WIDE = ("I", "I;16", "I;16L", "I;16B")
"""Pillow's modes of more than 8 bits a channel; RGB of 16 bits comes as 8."""
INDEX = ("1", "L", "LA", "P", "PA", *WIDE)
"""Modes whose pixels are a mask's labels."""
COLOR = ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of each EXIF orientation upright."""

# PIXELS is the limit here; Pillow's own warns from 89 million pixels on.
Image.MAX_IMAGE_PIXELS = None
# A file is read or refused in one line: what Pillow and libtiff say besides does not reach the terminal.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())
with contextlib.suppress(AttributeError, OSError):  # where Pillow has no libtiff, or hides it
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


class NotAnImage(UserError):
    """None of the formats that are read."""


class TooLarge(UserError):
    """More pixels than are read."""


def decode(source, formats=IMAGE_FORMATS, name=None, pixels: int | None = None) -> Image.Image:
    """The picture in a file of one of the `formats`, upright, in the mode it is stored in.

    `source` is a path, or an open binary file that errors call `name`. Raises UserError where refused: TooLarge, before it is
    decoded, for one of more than `pixels` (default `PIXELS`), NotAnImage for what is of none of the formats.
    """
    path, limit = name or Path(source), PIXELS if pixels is None else pixels
    try:
        with contextlib.nullcontext(source) if name else _opened(path) as file:
            image = Image.open(file, formats=formats)
            if image.format == "PNG":
                # Decoding skips the checksums: one damaged mask in seven would be read with other labels.
                image.verify()
                file.seek(0)
                image = Image.open(file, formats=formats)
            width, height = image.size
            if width * height > limit:
                raise TooLarge(
                    f"{path}: {width}x{height} pixels; at most {limit:,} are read: cut it into parts, or make it smaller"
                )
            image.load()
            image = _upright(image)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(formats)
        raise NotAnImage(f"{path}: not a readable image (none of {kinds}); save it as one, or copy it again") from error
    except MemoryError as error:
        raise UserError(f"{path}: not a readable image (memory is short); make it smaller, or end other programs") from error
    except Exception as error:  # Pillow raises whatever its parsers run into: struct.error, zlib.error, KeyError, EOFError, ...
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path}: not a readable image ({error.strerror}); see that it may be read") from error
        raise UserError(f"{path}: not a readable image ({reason(error)}); damaged or cut short: copy it again") from error
    return _accepted(image, path)


def _accepted(image: Image.Image, path) -> Image.Image:
    low, high = image.getextrema() if image.mode == "I" else (0, 0)  # 32 bits, which hold 16 in some formats
    if image.mode not in INDEX + COLOR or low < 0 or high > 65535:
        raise UserError(f"{path}: not a readable image (values of mode {image.mode}); save it as gray or RGB of 8 or 16 bits")
    return image


def _opened(path: Path):
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: not a readable image (a folder, pipe or device); give the path of an image file")
    if not status.st_size:
        raise UserError(f"{path}: not a readable image (an empty file); copy it again")
    return open(path, "rb")


def _upright(image: Image.Image) -> Image.Image:
    # Pillow's own exif_transpose writes the rest of the EXIF anew, and fails where that is damaged.
    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # as in decode
        return image
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def read_image(source, name=None, pixels: int | None = None) -> np.ndarray:
    """uint8 [H, W, 3], RGB, upright. Raises UserError for what is not accepted; see `decode`."""
    return _rgb(decode(source, IMAGE_FORMATS, name, pixels))


def read_rgbx(path) -> np.ndarray:
    """uint8 [H, W, 4]: `read_image`, and a fourth byte of no meaning. So Pillow holds an RGB image, and nothing is copied where
    its memory is in one piece, up to 16 MB."""
    image = decode(path)
    if image.mode == "RGB":
        with contextlib.suppress(ValueError):  # in several pieces
            return _memory(image)
    pixels = np.empty((image.height, image.width, 4), np.uint8)
    pixels[..., :3] = _rgb(image)
    return pixels


class _Arrow(ctypes.Structure):
    """An array as the Arrow C data interface gives it; what it ends in is not needed here."""


_Arrow._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Arrow))),
]
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))


def _memory(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, 4]: the memory of an image of several channels. Raises ValueError where it is not in one piece."""
    _, capsule = image.__arrow_c_array__()
    array = ctypes.cast(_pointer(capsule, b"arrow_array"), ctypes.POINTER(_Arrow)).contents
    values = array.children[0].contents.buffers[1]
    memory = (ctypes.c_uint8 * (image.height * image.width * 4)).from_address(values)
    memory.owner = capsule  # the memory stays as long as this does
    return np.frombuffer(memory, np.uint8).reshape(image.height, image.width, 4)


def of_pillow(image: Image.Image) -> np.ndarray:
    """`read_image` of what Pillow has opened or made; the image stays as it is."""
    try:
        copy = _upright(image).copy()
    except Exception as error:  # a file that Pillow reads only now; as in decode
        raise UserError(f"the image: cannot be decoded ({reason(error)}); damaged or closed: open it again") from error
    return _rgb(_accepted(copy, "the image"))


def _rgb(image: Image.Image) -> np.ndarray:
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, band in _bands(image):
        if image.mode in WIDE:  # which convert() would clip
            pixels[top : top + band.height] = (np.asarray(band).astype(np.uint32) >> 8)[..., None]
        else:
            pixels[top : top + band.height] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    return pixels


def _bands(image: Image.Image):
    """(top row, part) of the image from top to bottom: what is made of a large one would take many times its memory at once."""
    image.info.pop("transparency", None)  # convert() would warn of it
    rows = max(1, 2**20 // image.width)
    for top in range(0, image.height, rows):
        whole = rows >= image.height
        yield top, image if whole else image.crop((0, top, image.width, min(top + rows, image.height)))


def read_mask(path, labels: LabelSet) -> np.ndarray:
    """uint8 [H, W]: class index or 255, from a palette PNG, an index PNG or an RGB PNG in the label set's colors.

    Raises UserError for a file that is not accepted, and for a label or color that the set does not have, naming the first
    pixel (row, column) and what the mask seems to be.
    """
    return to_labels(decode(path, MASK_FORMATS), labels, path)


def to_labels(image: Image.Image, labels: LabelSet, path) -> np.ndarray:
    """The mask in a decoded picture, as `read_mask` has it; `path` names it in errors."""
    return _indices(image, labels, path) if image.mode in INDEX else _of_colors(image, labels, path)


def _indices(image: Image.Image, labels: LabelSet, path) -> np.ndarray:
    mask = np.array(image.getchannel(0) if image.mode in ("LA", "PA") else image)
    # Void, 255, wraps to 0: a sound mask is known by a single array on the way.
    if mask.dtype == np.uint8 and (mask + np.uint8(1)).max() <= len(labels):
        return mask
    wrong = (mask >= len(labels)) & (mask != VOID)
    if wrong.any():
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        raise UserError(
            f"{path}: label {mask[row, column]} at ({row}, {column}); this label set has {len(labels)} classes and "
            f"{VOID} for void. Is it a mask of another label set? Name that one as data.labels, or --labels"
        )
    return mask.astype(np.uint8)


def _of_colors(image: Image.Image, labels: LabelSet, path) -> np.ndarray:
    table = {_codes(np.array(color)).item(): index for index, color in enumerate(labels.colors)}
    table[_codes(np.array(labels.void_color)).item()] = VOID
    known = np.array(sorted(table), np.int32)
    values = np.array([table[code] for code in known.tolist()], np.uint8)
    mask = np.empty((image.height, image.width), np.uint8)
    for top, band in _bands(image):
        colors = np.asarray(band.convert("RGB"))
        codes = _codes(colors)
        places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        wrong = known[places] != codes
        if wrong.any():
            row, column = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
            raise UserError(_strange(image, colors[row, column], (top + row, column), labels, path))
        mask[top : top + band.height] = values[places]
    return mask


def _codes(colors: np.ndarray) -> np.ndarray:
    """int32 [...]: one number a color, of [..., 3]."""
    r, g, b = np.moveaxis(colors.astype(np.int32), -1, 0)
    return r << 16 | g << 8 | b


def _strange(image: Image.Image, color, place, labels: LabelSet, path) -> str:
    """What to say of a mask with a color that is no class."""
    counted = (image if image.mode == "RGB" else image.convert("RGB")).getcolors(256)
    found = None if counted is None else {each for _, each in counted}
    ours, vocs = ({*known.colors, known.void_color} for known in (labels, VOC))
    if found is None:
        guess = "It has more than 256 colors, as resizing and JPEG make them: make it anew, by nearest neighbor, as PNG"
    elif found <= vocs:
        guess = "Its colors are PASCAL VOC's: set data.labels=voc, or --labels voc"
    elif found <= {(0, 0, 0), (255, 255, 255)}:
        guess = "It is black and white alone: seg data init makes masks of 0 and 1 of such"
    else:
        guess = (
            f"{len(found - ours)} of its {len(found)} colors are none: name the label set that has them as data.labels, or "
            "--labels (seg data init writes one); or was the mask resized, or saved as JPEG?"
        )
    return f"{path}: color {tuple(color.tolist())} at {place} is no class of this label set. {guess}"
