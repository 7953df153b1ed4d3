"""Frames: how log bytes lie in a segment file.

A frame is a header and a payload. The checksum covers both, so a frame is whole or it is not a
frame. Each frame also says how much of the log was durable when it was written: after a crash the
last frames of a log may be torn, which is no loss, because nothing reported them; but a broken
frame below what a later one calls durable was acknowledged once, and is damage. A log holds what
users write, and a user may write something that looks like a frame: each file's checksums begin
with a seed of their own, so that what was a frame elsewhere is none here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from aurora_operator.core.lsn import Lsn, Term

MAGIC: Final = b"ALog"
VERSION: Final = 1
PAYLOAD_BYTES_MAX: Final = 1024 * 1024

_FIELDS: Final = struct.Struct(">4sIIQQQ")
"""Magic, version, payload length, term, position, durable end at the time of writing."""
_CHECKSUM: Final = struct.Struct(">I")
"""Of the seed, the fields before it and the payload behind it."""
HEADER_BYTES: Final = _FIELDS.size + _CHECKSUM.size


class Frame(NamedTuple):
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


def seed_of(salt: bytes, start: Lsn) -> int:
    """What the checksums of the file of this copy that begins at ``start`` begin with."""
    return zlib.crc32(salt + int(start).to_bytes(8, "big"))


def encode(seed: int, term: Term, lsn: Lsn, durable_end: Lsn, payload: bytes) -> bytes:
    """The header that goes before ``payload``."""
    fields = _FIELDS.pack(MAGIC, VERSION, len(payload), term, lsn, durable_end)
    return fields + _CHECKSUM.pack(zlib.crc32(payload, zlib.crc32(fields, seed)))


def decode(seed: int, content: bytes | memoryview, offset: int) -> Frame | None:
    """The frame at ``offset``, or ``None`` if no whole and unharmed frame begins there."""
    payload_at = offset + HEADER_BYTES
    if payload_at > len(content):
        return None
    magic, version, length, term, lsn, durable = _FIELDS.unpack_from(content, offset)
    end = payload_at + length
    if magic != MAGIC or version != VERSION or end > len(content) or length == 0:
        return None
    checksum_at = payload_at - _CHECKSUM.size
    checksum = zlib.crc32(content[payload_at:end], zlib.crc32(content[offset:checksum_at], seed))
    if _CHECKSUM.unpack_from(content, checksum_at)[0] != checksum:
        return None
    return Frame(offset, Term(term), Lsn(lsn), length, Lsn(durable))


def find_after(seed: int, content: bytes, offset: int) -> Iterator[Frame]:
    """Every unharmed frame that begins after ``offset``, wherever it begins."""
    while (offset := content.find(MAGIC, offset + 1)) >= 0:
        frame = decode(seed, content, offset)
        if frame is not None:
            yield frame
