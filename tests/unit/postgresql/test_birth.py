"""Where a record ends: over pages, over segments, padded."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from aurora_operator.core.lsn import LOG_START, SEGMENT_BYTES, Lsn
from aurora_operator.engines.postgresql.birth import (
    PAGE_BYTES,
    BirthFailed,
    end_of_record,
    read_log,
)

FIRST = "000000010000000000000001"
SECOND = "000000010000000000000002"


def write_record(directory: Path, start: Lsn, length: int) -> None:
    for name in (FIRST, SECOND):
        with (directory / name).open("ab") as file:
            file.truncate(SEGMENT_BYTES)
    name = FIRST if start < 2 * SEGMENT_BYTES else SECOND
    with (directory / name).open("r+b") as file:
        file.seek(start % SEGMENT_BYTES)
        file.write(struct.pack("<I", length))


@pytest.mark.parametrize(
    ("offset", "length", "end"),
    [
        (40, 114, 40 + 120),
        (40, 112, 40 + 112),
        (PAGE_BYTES - 8, 24, PAGE_BYTES + 24 + 16),
        (PAGE_BYTES - 8, 8, PAGE_BYTES),
        (PAGE_BYTES - 16, 16 + PAGE_BYTES, 2 * PAGE_BYTES + 24 + 24),
        (SEGMENT_BYTES - 8, 24, SEGMENT_BYTES + 40 + 16),
    ],
    ids=["padded", "aligned", "next-page", "ends-with-page", "over-two-pages", "next-segment"],
)
def test_the_end_of_a_record(tmp_path: Path, offset: int, length: int, end: int) -> None:
    start = LOG_START.advanced(offset)
    write_record(tmp_path, start, length)
    assert end_of_record(tmp_path, start) == LOG_START.advanced(end)


def test_log_is_read_over_segments(tmp_path: Path) -> None:
    (tmp_path / FIRST).write_bytes(b"a" * SEGMENT_BYTES)
    (tmp_path / SECOND).write_bytes(b"b" * SEGMENT_BYTES)
    start, end = LOG_START.advanced(100), LOG_START.advanced(SEGMENT_BYTES + 100)
    pieces = list(read_log(tmp_path, start, end))
    assert pieces[0][0] == start
    assert b"".join(data for _, data in pieces) == b"a" * (SEGMENT_BYTES - 100) + b"b" * 100


def test_a_short_segment_is_no_base(tmp_path: Path) -> None:
    (tmp_path / FIRST).write_bytes(b"a" * 100)
    with pytest.raises(BirthFailed):
        list(read_log(tmp_path, LOG_START, LOG_START.advanced(200)))
