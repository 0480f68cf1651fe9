"""Safetensors files with the same bytes for the same content, written straight from the tensors' memory, and their sum.

The library of that name copies all tensors once more to write them, and leaves the order of the metadata to chance; it
reads what is written here. Layout: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, BinaryIO, NamedTuple

__all__ = ["Stored", "checksum", "write"]

ALIGNMENT = 8  # bytes: the tensors begin at a multiple of it


class Stored(NamedTuple):
    """A tensor as it is written: type as safetensors calls it, shape, and its bytes as a contiguous buffer."""

    dtype: str
    shape: tuple[int, ...]
    data: Any


def write(file: BinaryIO, tensors: Mapping[str, Stored], metadata: Mapping[str, str]) -> None:
    """Write tensors and texts by name to an open file.

    Raises:
        UnicodeEncodeError: a name or a text that is no Unicode.

    """
    # The widest elements first, so that each tensor lies at a multiple of its elements' size.
    order = sorted(tensors, key=lambda name: (-_width(tensors[name]), name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in order:
        dtype, shape, data = tensors[name]
        begin, end = end, end + memoryview(data).nbytes
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    file.write(struct.pack("<Q", len(text)) + text)
    for name in order:
        file.write(tensors[name].data)


def checksum(text: str, parts: Iterable[tuple[str, Any]]) -> str:
    """Return the CRC-32 of a text and of parts, each a description and a contiguous buffer: eight hexadecimal digits.

    It finds every change of up to 32 bits in a row, and misses one in 2³² of all others.
    """
    crc = zlib.crc32(text.encode())
    for description, data in parts:
        crc = zlib.crc32(data, zlib.crc32(description.encode(), crc))
    return f"{crc:08x}"


def _width(stored: Stored) -> int:
    """Return the bytes of one element, 0 where there is none."""
    count = prod(stored.shape)
    return memoryview(stored.data).nbytes // count if count else 0
