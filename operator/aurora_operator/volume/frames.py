"""Frames: how log bytes lie in a segment file.

A frame is a header and a payload. The checksum covers both, so a frame is whole or it is not a
frame. Each frame also says how much of the log was durable when it was written: after a crash the
last frames of a log may be torn, which is no loss, because nothing reported them; but a broken
frame below what a later one calls durable was acknowledged once, and is damage.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aurora_operator.core.lsn import Lsn, Term

MAGIC: Final = b"ALog"
VERSION: Final = 1
PAYLOAD_BYTES_MAX: Final = 1024 * 1024

_HEADER: Final = struct.Struct(">4sIIIQQQ")
"""Magic, version, checksum, payload length, term, position, durable end at the time of writing."""
_CHECKED: Final = struct.Struct(">IIQQQ")
"""What the checksum covers of the header: all but the magic and itself."""
HEADER_BYTES: Final = _HEADER.size


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame's header, and where in its file it begins."""

    offset: int
    term: Term
    lsn: Lsn
    length_bytes: int
    durable_end: Lsn

    @property
    def end(self) -> Lsn:
        """The position after its last byte."""
        return self.lsn.advanced(self.length_bytes)

    @property
    def offset_after(self) -> int:
        """Where the next frame of the file begins."""
        return self.offset + HEADER_BYTES + self.length_bytes


def encode(term: Term, lsn: Lsn, durable_end: Lsn, payload: bytes) -> bytes:
    """The header that goes before ``payload``."""
    checksum = _checksum(VERSION, len(payload), term, lsn, durable_end, payload)
    return _HEADER.pack(MAGIC, VERSION, checksum, len(payload), term, lsn, durable_end)


def decode(content: bytes | memoryview, offset: int) -> Frame | None:
    """The frame at ``offset``, or ``None`` if no whole and unharmed frame begins there."""
    if offset + HEADER_BYTES > len(content):
        return None
    magic, version, checksum, length, term, lsn, durable = _HEADER.unpack_from(content, offset)
    start = offset + HEADER_BYTES
    if magic != MAGIC or version != VERSION or start + length > len(content) or length == 0:
        return None
    payload = content[start : start + length]
    if _checksum(version, length, term, lsn, durable, payload) != checksum:
        return None
    return Frame(offset, Term(term), Lsn(lsn), length, Lsn(durable))


def find_after(content: bytes, offset: int) -> Iterator[Frame]:
    """Every unharmed frame that begins after ``offset``, wherever it begins."""
    while (offset := content.find(MAGIC, offset + 1)) >= 0:
        frame = decode(content, offset)
        if frame is not None:
            yield frame


def _checksum(
    version: int, length: int, term: int, lsn: int, durable: int, payload: bytes | memoryview
) -> int:
    header = zlib.crc32(_CHECKED.pack(version, length, term, lsn, durable))
    return zlib.crc32(payload, header)
