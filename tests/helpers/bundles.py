"""Write TensorFlow checkpoint files in TensorFlow's own format."""

import struct
from pathlib import Path

import google_crc32c
import numpy as np

TYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "bool": 10}


def varint(value: int) -> bytes:
    """Encode a number as a protobuf varint."""
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    """Encode a protobuf field; a number of 0 is left out."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value) if value else b""


def masked(data: bytes) -> int:
    """Return the masked CRC-32C that TensorFlow stores."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Encode a block of a table. Each key omits the bytes that it shares with the previous key; only the first is complete."""
    out, before = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    out += struct.pack("<II", 0, 1)
    return out + b"\0" + struct.pack("<I", masked(out + b"\0"))


def write_bundle(prefix: str | Path, tensors: dict[str, np.ndarray], shards: int = 1, per_block: int = 5) -> None:
    """Write PREFIX.index and PREFIX.data-*; consecutive tensors go to consecutive shards."""
    entries, data = lay_out(tensors, shards)
    for shard, content in enumerate(data):
        Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)
    write_index(f"{prefix}.index", entries, per_block)


def lay_out(tensors: dict[str, np.ndarray], shards: int = 1) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Return the entries of the index, header first, and the bytes of each shard."""
    data, sizes = [[] for _ in range(shards)], [0] * shards
    entries = [(b"", field(1, shards) + field(3, field(1, 1)))]
    for number, (name, value) in enumerate(sorted(tensors.items())):
        shard, raw = number % shards, np.ascontiguousarray(value).tobytes()
        shape = b"".join(field(2, field(1, side)) for side in value.shape)
        entry = field(1, TYPES[value.dtype.name]) + field(2, shape) + field(3, shard) + field(4, sizes[shard])
        entry += field(5, len(raw)) + varint(6 << 3 | 5) + struct.pack("<I", masked(raw))
        entries.append((name.encode(), entry))
        data[shard].append(raw)
        sizes[shard] += len(raw)
    return entries, [b"".join(parts) for parts in data]


def write_index(path: str | Path, entries: list[tuple[bytes, bytes]], per_block: int = 5) -> None:
    """Write the index: a table with `per_block` entries in a block."""
    out, handles = b"", []
    for start in range(0, len(entries), per_block):
        part = entries[start : start + per_block]
        written = block(part)
        handles.append((part[-1][0], varint(len(out)) + varint(len(written) - 5)))
        out += written
    places = []
    for written in (block([]), block(handles)):
        places.append(varint(len(out)) + varint(len(written) - 5))
        out += written
    footer = b"".join(places).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    Path(path).write_bytes(out + footer)
