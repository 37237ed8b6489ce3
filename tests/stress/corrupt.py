"""Ways to corrupt a file: random bytes, and wrong contents that only someone who knows the format can write.

Each public function that takes a path corrupts that file in place, at random.
"""

import copy
import datetime
import gzip
import hashlib
import io
import json
import math
import re
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from seg.training.checkpoint import MARK, TRAILER
from seg.weights.tensor_bundle import read_bundle
from tests.helpers import bundles

# Random bytes.


def flip(data: bytes, rng: Random) -> bytes:
    """Flip bits or replace bytes in 1 to 64 places."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        out[rng.randrange(len(out))] ^= rng.choice((1 << rng.randrange(8), 255, rng.randrange(1, 256)))
    return bytes(out)


def _part(data: bytes, rng: Random) -> tuple[int, int]:
    """Choose a part at random: its start and end."""
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 4, 16, 64, 512, len(data) // 4 + 1)))


def cut(data: bytes, rng: Random) -> bytes:
    """Keep the first bytes only."""
    return data[: rng.randrange(len(data))]


def remove(data: bytes, rng: Random) -> bytes:
    """Remove a part."""
    start, end = _part(data, rng)
    return data[:start] + data[end:]


def zero(data: bytes, rng: Random) -> bytes:
    """Fill a part with zeros."""
    start, end = _part(data, rng)
    return data[:start] + bytes(end - start) + data[end:]


def insert(data: bytes, rng: Random) -> bytes:
    """Insert random bytes."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 16, 300))) + data[at:]


def double(data: bytes, rng: Random) -> bytes:
    """Repeat a part."""
    start, end = _part(data, rng)
    return data[:end] + data[start:]


def swap(data: bytes, rng: Random) -> bytes:
    """Swap two neighboring parts."""
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def empty(data: bytes, rng: Random) -> bytes:
    """Remove everything."""
    return b""


def noise(data: bytes, rng: Random) -> bytes:
    """Replace everything by random bytes."""
    return rng.randbytes(len(data))


WAYS = (flip, flip, flip, flip, cut, cut, remove, zero, insert, double, swap, empty, noise)


def spoil(data: bytes, rng: Random) -> bytes:
    """Corrupt bytes in one of WAYS."""
    return rng.choice(WAYS)(data, rng) if data else rng.randbytes(9)


def any_bytes(path: Path, rng: Random) -> None:
    """Corrupt bytes of any file."""
    path.write_bytes(spoil(path.read_bytes(), rng))


# Values in a tree of mappings and lists.

NEST = "@nest@"
"""Placeholder for deeply nested brackets, which a recursive writer cannot write."""
ODD = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, -(2**63), 2**70, 0.5, -0.0, 1e308, math.inf, -math.inf, math.nan),
    *(
        "",
        "x",
        " ",
        "\n",
        "a\nb",
        "\0",
        "\x1b[2J",
        "\ud800",
        "\u202e",
        "é",
        "x" * 100_000,
        "/",
        "../../x",
        "~",
        "???",
        "${",
        "1",
    ),
    *([], [[]], [None], [1, 2], ["x"], [0] * 3000, {}, {"x": 1}, {"": None}, [[3, 0]], [[3, "x"]], [{"x": {}}], NEST),
)


def odd(tree: Any, rng: Random, more: tuple[Any, ...] = ()) -> Any:
    """Copy a tree of mappings and lists, and make one to three values odd, or remove or rename them; `more` adds odd values."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            break
        where, key = rng.choice(places)
        way = rng.randrange(10)
        if way == 0:
            del where[key]
        elif way == 1 and isinstance(where, dict):
            where[rng.choice(("x", "", "é", "\n", "1"))] = where.pop(key)
        elif way == 2:
            where[key] = copy.deepcopy(rng.choice(places)[0])
        else:
            where[key] = copy.deepcopy(rng.choice((*ODD, *more)))
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container in a tree with each of its keys or indices."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield tree, key
        yield from _places(value)


def _nested(text: str) -> str:
    """Replace NEST by brackets nested too deeply."""
    return text.replace(f'"{NEST}"', "[" * 100_000 + "]" * 100_000).replace(f"'{NEST}'", "[" * 5000 + "]" * 5000)


def odd_json(data: bytes, rng: Random) -> bytes:
    """Make values of a JSON document odd."""
    return _nested(json.dumps(odd(json.loads(data), rng))).encode()


def json_file(path: Path, rng: Random) -> None:
    """Corrupt a JSON file: its bytes or its values."""
    path.write_bytes(rng.choice((spoil, odd_json, odd_json))(path.read_bytes(), rng))


def page(path: Path, rng: Random) -> None:
    """Corrupt a report: its bytes, or the values in one of its scripts."""
    data = path.read_bytes()
    scripts = list(re.finditer(rb'<script type="application/json"[^>]*>([^<]*)</script>', data))
    if rng.random() < 0.4:
        path.write_bytes(spoil(data, rng))
        return
    script = rng.choice((scripts[0], rng.choice(scripts)))
    text = odd_json(script[1], rng).replace(b"<", b"\\u003c")
    path.write_bytes(data[: script.start(1)] + text + data[script.end(1) :])


def json_lines(path: Path, rng: Random) -> None:
    """Corrupt one line of a file of JSON lines."""
    lines = path.read_bytes().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines[at] = rng.choice((spoil, odd_json))(lines[at], rng) + rng.choice((b"", b"\n"))
    path.write_bytes(b"".join(lines))


SNIPPETS = (
    *("*unknown", "&a [*a]", "&a {x: *a}", "!!int ''", "!!int x", "!!float x", "!!bool x", "!!timestamp x", "!!binary é"),
    *(
        "!!python/object/apply:os.mkdir [ran]",
        "!!python/name:os.system",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!!pairs [a]",
        "!x y",
    ),
    *("2001-99-99", "2001-01-01", "2001-01-01 25:61:61", "1e400", "-.inf", ".nan", "0x", "0b2", "1_0", "9:99:99", "9" * 5000),
    *(
        "<<: *a",
        "? [a]\n: b",
        "? {a: b}\n: c",
        "=",
        "%YAML 9.9",
        "---\n",
        "...\n",
        "\tx: y",
        "- x",
        "a: b: c",
        "'",
        '"\\ud800"',
    ),
    *(
        "[" * 5000,
        "{" * 5000,
        "- " * 5000,
        "\0",
        "\x85",
        "\ufeff",
        "${oc.env:HOME}",
        "${train}",
        "${${",
        "${oc.decode:x}",
        "???",
    ),
    *(
        "null",
        "~",
        "yes",
        "no",
        "on",
        "12e03",
        "|\n x",
        ">\n x",
        "&a",
        "*",
        "!",
        "@",
        "`",
        "# x",
        "~: ~",
        "1: 2",
        "x" * 100_000,
    ),
)


def _bomb() -> str:
    """Return YAML whose aliases expand to billions of values."""
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(rows) + "\n"


def yaml_text(data: bytes, rng: Random) -> bytes:
    """Put a snippet in place of a value, on a line or at the start; or an alias bomb in place of a value."""
    lines = data.decode().splitlines()
    at, snippet = rng.randrange(len(lines)), rng.choice(SNIPPETS)
    start, colon, _ = lines[at].partition(":")
    way = rng.randrange(8)
    if way < 4:
        lines[at] = f"{start}{colon or ' '} {snippet}"
    elif way < 6:
        lines.insert(at, snippet)
    elif way == 6:
        lines.insert(0, snippet)
    else:
        lines[at] = f"{start}{colon or ':'} *a{rng.choice((2, 4, 11))}"
        lines.insert(0, _bomb())
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def yaml_values(data: bytes, rng: Random) -> bytes:
    """Make values of a YAML document odd."""
    dates = (datetime.date(2001, 1, 1), datetime.datetime(2001, 1, 1), b"bytes", {1: 2}, {None: 3}, {2.5: []}, {True: 1})
    text = yaml.safe_dump(odd(yaml.safe_load(data), rng, dates), sort_keys=False, allow_unicode=rng.random() < 0.5)
    return _nested(text).encode("utf-8", "surrogatepass")


def yaml_file(path: Path, rng: Random) -> None:
    """Corrupt a YAML file: its bytes, its text or its values."""
    path.write_bytes(rng.choice((spoil, yaml_text, yaml_values, yaml_values))(path.read_bytes(), rng))


LINES = (
    *("", " ", "..", "/", "../../x", "/etc/passwd", "\0", "a\0b", "x" * 300, "x" * 100_000, "é", "\x1b[2J", "\u202e", "*", "#"),
    *("toy_000", "toy_002", "toy_002.jpg", "toy_002 1", "toy_002\t-1", "JPEGImages/toy_002", "toy_002\r", "\ufefftoy_002"),
)


def list_lines(data: bytes, rng: Random) -> bytes:
    """Add odd lines to a list, with any line ending and encoding."""
    lines = data.decode().splitlines()
    for _ in range(rng.choice((1, 1, 3))):
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(LINES))
    text = rng.choice(("\n", "\n", "\r\n", "\r", "\x0b", "\u2028")).join(lines) + rng.choice(("", "\n"))
    return text.encode(rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-7")))


def list_file(path: Path, rng: Random) -> None:
    """Corrupt a list: its bytes or its lines."""
    path.write_bytes(rng.choice((spoil, list_lines, list_lines))(path.read_bytes(), rng))


# Images.

SIDES = (0, 1, 2, 7, 32, 33, 47, 255, 4096, 65535)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode an image in a file format of Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _exif(rng: Random) -> Image.Exif:
    """Make EXIF data with an orientation, valid or not."""
    exif = Image.Exif()
    exif[0x0112] = rng.choice((0, 1, 2, 3, 5, 6, 8, 9, 65535))
    return exif


def jpeg_frame(data: bytes, rng: Random) -> bytes:
    """Change size, precision or components in the frame header (SOF)."""
    out, at = bytearray(data), 2
    while out[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + int.from_bytes(out[at + 2 : at + 4], "big")
    way = rng.randrange(4)
    if way == 0:
        out[at + 4] = rng.choice((0, 1, 12, 16, 255))
    elif way == 1:
        out[at + 9] = rng.choice((0, 1, 2, 3, 4, 255))
    else:
        place = at + 5 + 2 * (way == 2)
        out[place : place + 2] = rng.choice(SIDES).to_bytes(2, "big")
    return bytes(out)


def jpeg_segment(data: bytes, rng: Random) -> bytes:
    """Add an application segment (EXIF, ICC profile, Adobe, MPF, ...) with random content."""
    name = rng.choice(
        (b"Exif\0\0", b"ICC_PROFILE\0", b"Adobe\0", b"MPF\0", b"JFIF\0", b"Photoshop 3.0\0", b"http://ns.adobe.com/xap/1.0/\0")
    )
    tiff = rng.choice((b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""))
    content = name + tiff + rng.randbytes(rng.choice((0, 1, 12, 40)))
    marker = bytes([0xFF, rng.choice((0xE0, 0xE1, 0xE1, 0xE2, 0xED, 0xEE, 0xFE))])
    return data[:2] + marker + (len(content) + 2).to_bytes(2, "big") + content + data[2:]


def jpeg(path: Path, rng: Random) -> None:
    """Corrupt a JPEG: its bytes, its frame header or an application segment."""
    image = Image.open(path).convert(rng.choice(("RGB", "RGB", "L", "CMYK")))
    data = _encoded(image, "JPEG", progressive=rng.random() < 0.3, optimize=rng.random() < 0.3, exif=_exif(rng))
    path.write_bytes(rng.choice((spoil, spoil, jpeg_frame, jpeg_segment))(data, rng))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each chunk of a PNG."""
    at = 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _png(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Make a PNG of chunks, with correct checksums."""
    out = b"\x89PNG\r\n\x1a\n"
    for name, content in chunks:
        out += len(content).to_bytes(4, "big") + name + content + struct.pack(">I", zlib.crc32(name + content))
    return out


def png_header(data: bytes, rng: Random) -> bytes:
    """Change size, bit depth, color type, compression, filter or interlacing, with a correct checksum."""
    (_, header), *rest = _chunks(data)
    fields = list(struct.unpack(">IIBBBBB", header))
    at = rng.randrange(7)
    sides = (*SIDES, 20_000, 2**31 - 1, 2**31, 2**32 - 1)
    choices = [sides, sides, (0, 1, 2, 3, 4, 8, 16, 255), range(8), (1, 255), (1, 255), (0, 1, 2)]
    fields[at] = rng.choice(choices[at])
    return _png([(b"IHDR", struct.pack(">IIBBBBB", *fields)), *rest])


def png_chunks(data: bytes, rng: Random) -> bytes:
    """Corrupt, remove, repeat, move or add a chunk, with correct checksums."""
    chunks = list(_chunks(data))
    at, way = rng.randrange(len(chunks)), rng.randrange(5)
    name, content = chunks[at]
    if way == 0:
        chunks[at] = name, spoil(content, rng)
    elif way == 1:
        del chunks[at]
    elif way == 2:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[at])
    elif way == 3:
        chunks.insert(rng.randrange(len(chunks)), chunks.pop(at))
    else:
        bomb = zlib.compress(bytes(100_000_000), 1)
        new = (
            *((b"zTXt", b"x\0\0" + bomb), (b"iCCP", b"x\0\0" + bomb), (b"iTXt", b"x\0\1\0\0\0" + bomb), (b"tEXt", b"x\0\xff")),
            *(
                (b"tRNS", rng.randbytes(rng.choice((0, 1, 2, 6, 300)))),
                (b"PLTE", rng.randbytes(rng.choice((0, 1, 3, 30, 900)))),
            ),
            *((b"eXIf", b"II*\0" + rng.randbytes(20)), (b"acTL", struct.pack(">II", 3, 0)), (b"gAMA", b""), (b"pHYs", b"x")),
            *((b"fcTL", rng.randbytes(26)), (b"fdAT", rng.randbytes(9)), (b"sRGB", b""), (b"cHRM", b"x"), (b"IEND", b"")),
        )
        chunks.insert(rng.randrange(1, len(chunks)), rng.choice(new))
    return _png(chunks)


def png_pixels(data: bytes, rng: Random) -> bytes:
    """Corrupt the pixels before compression, or add far too many."""
    chunks = list(_chunks(data))
    raw = zlib.decompress(b"".join(content for name, content in chunks if name == b"IDAT"))
    raw = rng.choice((spoil(raw, rng), spoil(raw, rng), raw + bytes(50_000_000)))
    first = next(at for at, (name, _) in enumerate(chunks) if name == b"IDAT")
    rest = [(name, content) for name, content in chunks if name != b"IDAT"]
    return _png([*rest[:first], (b"IDAT", zlib.compress(raw)), *rest[first:]])


PNG = (spoil, spoil, png_header, png_header, png_chunks, png_pixels)


def png(path: Path, rng: Random) -> None:
    """Corrupt a PNG of any mode."""
    image = Image.open(path).convert(rng.choice(("RGB", "RGBA", "L", "LA", "P", "1")))
    if rng.random() < 0.2:
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    transparency = {"transparency": 1} if image.mode in ("P", "L") and rng.random() < 0.5 else {}
    path.write_bytes(rng.choice(PNG)(_encoded(image, "PNG", exif=_exif(rng), **transparency), rng))


def mask(path: Path, rng: Random) -> None:
    """Corrupt a mask file."""
    path.write_bytes(mask_bytes(path.read_bytes(), rng))


def mask_bytes(data: bytes, rng: Random) -> bytes:
    """Corrupt a mask as palette, gray or RGB PNG; the bytes of anything that is no image."""
    try:
        image = Image.open(io.BytesIO(data))
    except OSError:
        return spoil(data, rng)
    if (way := rng.randrange(4)) == 0:
        image = Image.fromarray(np.asarray(image))
    elif way == 1:
        image = image.convert(rng.choice(("RGB", "RGBA")))
    return rng.choice((*PNG, png_chunks, png_pixels))(_encoded(image, "PNG"), rng)


def other_image(path: Path, rng: Random) -> None:
    """Write the image as BMP, TIFF of several compressions and modes, WebP, GIF, ... under the same name, and corrupt it."""
    image = Image.open(path).convert(rng.choice(("RGB", "RGB", "L", "RGBA", "P", "1", "CMYK", "I", "F")))
    kind = rng.choice(("BMP", "TIFF", "TIFF", "TIFF", "WEBP", "GIF", "PPM", "TGA"))
    options = (
        {"compression": rng.choice(("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"))} if kind == "TIFF" else {}
    )
    try:
        data = _encoded(image, kind, **options)
    except (OSError, KeyError, ValueError):  # this format does not have this mode
        data = _encoded(image.convert("RGB"), kind, **options)
    path.write_bytes(spoil(data, rng))


# Weights.


def safetensors(path: Path, rng: Random) -> None:
    """Corrupt a .safetensors file: its bytes, or its header, metadata or values."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, content = json.loads(data[8 : 8 + size]), data[8 + size :]
    about = header.get("__metadata__", {})
    way = rng.randrange(9)
    if way < 2 or not header:
        path.write_bytes(spoil(data, rng))
        return
    if way == 2:
        text = spoil(data[8 : 8 + size], rng)
    else:
        name = rng.choice([key for key in header if key != "__metadata__"])
        if way == 3:
            header[name] = odd(header[name], rng)
        elif way == 4:
            header[name]["dtype"] = rng.choice(("F16", "BF16", "F64", "I32", "I64", "U8", "BOOL", "F8_E4M3", "C64", "F4", "x"))
        elif way == 5:
            header[name]["shape"] = rng.choice(([], [0], [1], [2**40, 2**40], [2**62], header[name]["shape"][::-1]))
            header[name]["data_offsets"] = rng.choice((header[name]["data_offsets"], [0, 0], [0, 2**50], [9, 3]))
        elif way == 6:
            values = np.frombuffer(content, np.float32, len(content) // 4).copy()
            values[rng.randrange(len(values)) :: rng.choice((1, 7, 1000))] = rng.choice((math.nan, math.inf, 0, 1e-45))
            content = values.tobytes() + content[len(values) * 4 :]
        elif about:
            key = rng.choice(("config", "config", "labels", "score", "input", "format"))
            if rng.random() < 0.7 and key != "format":
                about[key] = odd_json(about[key].encode(), rng).decode()
            else:
                about[key] = spoil(about[key].encode(), rng).decode("latin-1")
        else:
            header[rng.choice(("x", "é", "blocks.999.x", "fc.weight", "\n", "\x1b[2J"))] = header.pop(name)
        text = _nested(json.dumps(header)).encode()
    size = rng.choice((len(text),) * 12 + (0, 1, 2**31, 2**63, 2**64 - 1))
    path.write_bytes(size.to_bytes(8, "little") + text + content)


def bundle(path: Path, rng: Random) -> None:
    """Corrupt a TensorFlow checkpoint with the index `path`: bytes of a file, or index entries, with correct checksums."""
    prefix = str(path).removesuffix(".index")
    if rng.random() < 0.4:
        any_bytes(rng.choice((path, Path(f"{prefix}.data-00000-of-00001"))), rng)
        return
    entries, _ = bundles.lay_out(read_bundle(prefix))
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.choice((0, rng.randrange(len(entries))))
        key, value = entries[at]
        huge = rng.choice((0, 1, 3, 7, 2**20, 2**31, 2**40, 2**63 - 1, 2**64 - 1))
        way = rng.randrange(5)
        if way == 0:
            entries[at] = key, spoil(value, rng)
        elif way == 1:
            key = rng.choice((spoil(key, rng), b"\xff\xfe", b"", b"\x1b[2J", key + b"/Momentum"))
            entries[at] = key, value
        elif way == 2:
            sides = rng.choice(((huge,), (huge, huge), (0, huge), (1,) * 40, (1,) * 200))
            entries[at] = key, value + bundles.field(2, b"".join(bundles.field(2, bundles.field(1, side)) for side in sides))
        elif way == 3:
            entries[at] = key, value + bundles.varint(rng.choice((1, 3, 4, 5, 6, 7, 9)) << 3) + bundles.varint(huge)
        elif len(entries) > 1:
            entries.insert(rng.randrange(len(entries)), entries.pop(at))
    bundles.write_index(path, entries, rng.choice((1, 5, 1000)))


def checkpoint(path: Path, rng: Random) -> None:
    """Corrupt a training state: its bytes, or its content with a correct checksum. Sometimes without a previous one."""
    if rng.random() < 0.5:
        (path.parent / "previous.ckpt").unlink()
    data = path.read_bytes()
    way = rng.randrange(6)
    if way == 0:
        path.write_bytes(spoil(data, rng))
        return
    content = data[:-TRAILER]
    if way == 1:
        content = spoil(content, rng)
    else:
        state = torch.load(io.BytesIO(content), weights_only=True)
        if way == 2:
            part = rng.choice((state["model"], state["optimizer"]["state"][0]))
            name = rng.choice(list(part))
            part[name] = rng.choice((torch.zeros(3), torch.tensor(1), torch.zeros(2, dtype=torch.int8), None, "x", math.nan))
        else:
            part = rng.choice(("state", "optimizer", "config", "versions", "scaler", "ema", None))
            if part is None:
                state = odd(state, rng) if rng.random() < 0.5 else rng.choice(ODD)
            else:
                state[part] = odd({part: state[part]}, rng).get(part)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
    path.write_bytes(content + MARK + hashlib.sha256(content).digest())


# SBD's masks.

MAT_HEADER = 128


def mat(path: Path, rng: Random) -> None:
    """Corrupt a MATLAB 5 file: its bytes, the bytes before compression, the headers; or make a decompression bomb."""
    data = path.read_bytes()
    head, size = data[:MAT_HEADER], int.from_bytes(data[MAT_HEADER + 4 : MAT_HEADER + 8], "little")
    plain = zlib.decompress(data[MAT_HEADER + 8 : MAT_HEADER + 8 + size])
    way = rng.randrange(6)
    if way == 0:
        path.write_bytes(spoil(data, rng))
        return
    if way == 1:
        plain = rng.choice((plain, plain[:8])) + bytes(rng.choice((1, 300_000_000)))
    elif way == 2:
        plain = spoil(plain, rng)
    else:
        out = bytearray(plain)
        for _ in range(rng.choice((1, 2))):
            at = rng.randrange(0, 400, 4)
            values = (0, 1, 2, 5, 7, 9, 14, 15, 2**15, 2**16 + 5, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(2**32))
            out[at : at + 4] = rng.choice(values).to_bytes(4, "little")
        plain = bytes(out)
    packed = zlib.compress(plain, 1)
    element = struct.pack("<II", 15, len(packed)) + packed
    path.write_bytes(head + rng.choice((element, element, plain, element + element)))


# Archives.

NAMES = (
    *(
        "../x",
        "/tmp/seg-fuzz-x",
        "",
        ".",
        "..",
        "a/../../x",
        "x" * 99,
        "a\nb",
        "\x1b[2J",
        "é",
        "JPEGImages",
        "~",
        "C:\\x",
        "a//b",
    ),
    *(
        "VOCdevkit/VOC2012/../../../x",
        "VOCdevkit/VOC2012",
        "VOCdevkit/VOC2012/JPEGImages/",
        "VOCdevkit/VOC2012/JPEGImages/0.jpg/x",
    ),
)
SIZES = (
    b"0",
    b"1",
    b"777",
    b"7777777",
    b"77777777777",
    b"-1",
    b"9",
    b"x",
    b"\x80" + b"\xff" * 11,
    b"\xff" * 12,
    b"\xff" * 11 + b"\0",
)


def _members(path: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Read the members of a tar archive and their contents."""
    with tarfile.open(path) as tar:
        return [(member, tar.extractfile(member).read() if member.isreg() else b"") for member in tar]


def tar_headers(data: bytes, rng: Random) -> bytes:
    """Change a field of one member's header, with a correct checksum."""
    out, at, places = bytearray(data), 0, []
    while at + 512 <= len(data) and data[at]:
        places.append(at)
        at += 512 + -(-int(data[at + 124 : at + 135], 8) // 512) * 512
    at = rng.choice(places)
    start, size, values = rng.choice(
        (
            (0, 100, [name.encode("utf-8", "surrogatepass") for name in NAMES]),
            (100, 8, (b"7777777", b"0", b"x")),
            (124, 12, SIZES),
            (136, 12, SIZES),
            (156, 1, (b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"x", b"g", b"L", b"K", b"S", b"D", b"V", b"M", b"z")),
            (157, 100, [name.encode() for name in NAMES]),
            (257, 8, (b"ustar  \0", b"\0", b"ustar\x0000", b"x")),
            (345, 155, [name.encode() for name in NAMES] + [rng.randbytes(155)]),
        )
    )
    out[at + start : at + start + size] = rng.choice(values)[:size].ljust(size, b"\0")
    out[at + 148 : at + 156] = b" " * 8
    out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + 512])
    return bytes(out)


def _bomb_of_zeros(members: list[tuple[tarfile.TarInfo, bytes]], rng: Random) -> bytes:
    """Make a gzip file of 3 MB that unpacks to 3 GB: gzip allows concatenated files."""
    member, _ = rng.choice(members)
    member.size = 3 << 30
    zeros = gzip.compress(bytes(16 << 20), 1)
    return gzip.compress(member.tobuf(tarfile.GNU_FORMAT)) + zeros * 192 + gzip.compress(bytes(1024))


def tar(path: Path, rng: Random) -> None:
    """Corrupt a tar archive: its bytes before or after compression, its headers, or its members."""
    data = path.read_bytes()
    packed = data[:2] == b"\x1f\x8b"
    way = rng.randrange(8)
    if way == 0 or (way == 1 and not packed):
        path.write_bytes(spoil(data, rng))
        return
    if way == 1 and rng.random() < 0.5:
        path.write_bytes(_bomb_of_zeros(_members(path), rng))
        return
    if way < 5:
        plain = gzip.decompress(data) if packed else data
        plain = rng.choice((spoil, tar_headers, tar_headers, tar_headers))(plain, rng)
    else:
        members, buffer = _members(path), io.BytesIO()
        at = rng.randrange(len(members))
        member, content = members[at]
        change = rng.randrange(6)
        if change == 0:
            del members[at]
        elif change == 1:
            members.insert(rng.randrange(len(members)), members[at])
        elif change == 2:
            member.type, member.linkname = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE)), rng.choice(NAMES)
        elif change == 3:
            member.pax_headers = {
                rng.choice(
                    ("path", "size", "linkpath", "GNU.sparse.size", "GNU.sparse.map", "hdrcharset", "mtime")
                ): rng.choice(("1", "-1", "9" * 30, "../x", "0,9999999999", "x", "BINARY", "\x1b"))
            }
        elif change == 4:
            content = rng.choice((mask_bytes, lambda data, rng: spoil(data, rng)))(content, rng) if content else b"x"
            members[at] = member, content
        else:
            member.name = rng.choice(NAMES)
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for member, content in members:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        plain = buffer.getvalue()
    path.write_bytes(gzip.compress(plain, 1) if packed else plain)
