"""TensorFlow's checkpoint files (tensor bundles), read without TensorFlow. Every byte is checked.

`PREFIX.index` is a LevelDB table: blocks of entries `name -> BundleEntryProto`, each block with a checksum, and a footer.
`PREFIX.data-0000S-of-0000N` hold the bytes of the tensors; an entry has the position, shape, type and checksum of a tensor.
Sources: tensorflow/core: util/tensor_bundle, lib/io/table_format.txt, protobuf/tensor_bundle.proto.
"""

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
"""Size in bytes: two block handles, padded with zeros to 40, and the magic number."""
TYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    9: "<i8",
    10: "?",
    17: "<u2",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}
"""NumPy's name of each supported TensorFlow DataType."""


class DamagedError(Exception):
    """The file is damaged."""


def read_bundle(prefix: str | Path) -> dict[str, np.ndarray]:
    """Read the numeric tensors of a checkpoint.

    Args:
        prefix: the path without `.index`, such as model.ckpt-30000.

    Returns:
        The tensors by TensorFlow's names.

    Raises:
        UserError: a file is missing, or a checksum differs.
    """
    index = Path(f"{prefix}.index")
    if not index.is_file():
        raise UserError(f"{index}: no such file; give the prefix of a TensorFlow checkpoint, such as tf:PATH/model.ckpt-30000")
    try:
        header, entries = _read_index(index.read_bytes())
    except DamagedError as error:
        raise UserError(f"{index}: damaged ({error}); copy or download it again") from error
    shards = []
    for number in range(header.shards):
        path = Path(f"{prefix}.data-{number:05d}-of-{header.shards:05d}")
        if not path.is_file():
            raise UserError(f"{path}: no such file; copy it there: {index.name} refers to it")
        shards.append((path, np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)))
    tensors = {}
    for name, entry in entries.items():
        path, data = shards[entry.shard] if entry.shard < len(shards) else (index, np.zeros(0, np.uint8))
        try:
            value = _read_tensor(entry, data[entry.offset : entry.offset + entry.size])
        except DamagedError as error:
            raise UserError(f"{path}: tensor '{name}': damaged ({error}); copy or download it again") from error
        if value is not None:
            tensors[name] = value
    _check_covered(shards, entries)
    return tensors


@dataclass
class Header:
    """BundleHeaderProto."""

    shards: int = 1


@dataclass
class Entry:
    """BundleEntryProto."""

    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    checksum: int = 0


def _read_tensor(entry: Entry, data: np.ndarray) -> np.ndarray | None:
    """Return the tensor with the bytes `data`; None for an unsupported type, such as strings."""
    if len(data) != entry.size:
        raise DamagedError(f"the file ends before its {entry.size} bytes at {entry.offset}")
    if entry.dtype not in TYPES:
        return None
    _check(data.tobytes(), entry.checksum)
    dtype = np.dtype(TYPES[entry.dtype])
    try:
        value: np.ndarray = data.view(dtype).reshape(entry.shape).copy()
    except ValueError as error:
        raise DamagedError(f"{entry.size} bytes for shape {list(entry.shape)}") from error
    return value


def _check_covered(shards: list[tuple[Path, np.ndarray]], entries: dict[str, Entry]) -> None:
    """Check that every byte belongs to a tensor: TensorFlow writes no other bytes, and no checksum covers them."""
    for number, (path, data) in enumerate(shards):
        end = 0
        for offset, size in sorted((e.offset, e.size) for e in entries.values() if e.shard == number):
            if offset > end and data[end:offset].any():
                break
            end = max(end, offset + size)
        if end != len(data):
            raise UserError(f"{path}: damaged (the bytes after {end} belong to no tensor); copy or download it again")


def _check(data: bytes, masked: int) -> None:
    """Compare bytes with their CRC-32C, which LevelDB stores rotated and shifted."""
    import google_crc32c

    crc = google_crc32c.value(data)
    if ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF != masked:
        raise DamagedError("its checksum differs")


def _read_index(data: bytes) -> tuple[Header, dict[str, Entry]]:
    """Parse an index file."""
    if len(data) < FOOTER or struct.unpack_from("<Q", data, len(data) - 8)[0] != MAGIC:
        raise DamagedError("not a checkpoint index, or cut short")
    footer = data[-FOOTER:-8]
    meta_offset, at = _varint(footer, 0)
    meta_size, at = _varint(footer, at)
    offset, at = _varint(footer, at)
    size, at = _varint(footer, at)
    if any(footer[at:]):
        raise DamagedError("its footer is not padded with zeros")
    _block(data, meta_offset, meta_size)
    values: dict[bytes, bytes] = {}
    end = 0
    for _, handle in _entries(_block(data, offset, size)):
        start, at = _varint(handle, 0)
        length, _ = _varint(handle, at)
        values.update(_entries(_block(data, start, length)))
        end = start + length + 5
    if [end, meta_offset + meta_size + 5, offset + size + 5] != [meta_offset, offset, len(data) - FOOTER]:
        raise DamagedError("its blocks do not follow each other")
    if b"" not in values:
        raise DamagedError("it has no header")
    header = Header()
    for field, value in _fields(values.pop(b""), bytes_in=(3,)):
        if field == 1:
            header.shards = value
        elif field == 2 and value != 0:
            raise DamagedError("written on a big-endian machine, which is not supported")
    try:
        return header, {name.decode(): _entry(value) for name, value in values.items()}
    except UnicodeDecodeError as error:
        raise DamagedError("a name in it is not UTF-8 text") from error


def _entry(data: bytes) -> Entry:
    """Parse a BundleEntryProto."""
    entry = Entry()
    for field, value in _fields(data, bytes_in=(2, 7)):
        if field == 1:
            entry.dtype = value
        elif field == 2:
            dims = [dim for number, dim in _fields(value, bytes_in=(2,)) if number == 2]
            entry.shape = tuple(dict(_fields(dim, bytes_in=(2,))).get(1, 0) for dim in dims)
        elif field == 3:
            entry.shard = value
        elif field == 4:
            entry.offset = value
        elif field == 5:
            entry.size = value
        elif field == 6:
            entry.checksum = value
        elif field == 7:
            raise DamagedError("it holds a partitioned variable, which is not supported")
    return entry


def _block(data: bytes, offset: int, size: int) -> bytes:
    """Return the contents of a block, which are followed by a byte for the compression and the checksum of both."""
    end = offset + size
    if end + 5 > len(data) - FOOTER:
        raise DamagedError("a block lies outside the file")
    _check(data[offset : end + 1], struct.unpack_from("<I", data, end + 1)[0])
    if data[end] != 0:
        raise DamagedError("a block is compressed, which TensorFlow does not do")
    return data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the (key, value) pairs of a block; of each key, only the bytes that differ from the previous key are stored."""
    if len(block) < 4:
        raise DamagedError("a block of it has no end")
    restarts = struct.unpack_from("<I", block, len(block) - 4)[0]
    end, at, key = len(block) - 4 - 4 * restarts, 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        at += fresh + length
        if at > end:
            raise DamagedError("an entry is longer than its block")
        yield key, block[at - length : at]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number stored in groups of 7 bits, lowest first; return it and the position after it."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
    raise DamagedError("a number has no end")


def _fields(data: bytes, bytes_in: Collection[int] = ()) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of each field of a protocol buffer message: bytes for the numbers `bytes_in`, else an int."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        value: int | bytes
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, at = int.from_bytes(data[at : at + length], "little"), at + length
        else:
            raise DamagedError(f"a field of unknown kind {kind}")
        if isinstance(value, bytes) != (tag >> 3 in bytes_in):
            raise DamagedError(f"field {tag >> 3} is of another kind")
        yield tag >> 3, value
