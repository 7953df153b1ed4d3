"""The byte of the door."""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path

import pytest

from aurora_operator.engines.postgresql.guard_door import Door, HeldStatements

GUARD = Path(__file__).parents[3] / "images/engine/guard"


@pytest.fixture
def door(tmp_path: Path) -> Door:
    made = Door(tmp_path / "door")
    made.create_shut()
    return made


def test_i4_a_new_door_is_shut(door: Door) -> None:
    assert not door.is_open
    assert door.path.read_bytes() == b"S" + 31 * b"\0"


def test_a_missing_door_is_shut(tmp_path: Path) -> None:
    assert not Door(tmp_path / "nothing").is_open


def test_who_mapped_the_file_sees_every_change(door: Door) -> None:
    """Also when the door is made shut again: it must stay the same file."""
    with door.path.open("rb") as file, mmap.mmap(file.fileno(), 1, prot=mmap.PROT_READ) as seen:
        door.open()
        assert seen[:] == b"O"
        assert door.is_open
        door.shut()
        assert seen[:] == b"S"
        door.open()
        door.create_shut()
        assert seen[:] == b"S"


@pytest.mark.parametrize("content", [b"", b"o", b"S", b"\0", b"xO"])
def test_any_other_byte_is_shut(door: Door, content: bytes) -> None:
    door.path.write_bytes(content)
    assert not door.is_open


def page(door: Door) -> tuple[bytes, int, int, int]:
    """Byte, stamp and counts, as the guard reads them."""
    return struct.unpack("=c7xqqq", door.path.read_bytes())


def test_rule_12_the_stamp_stands_beside_the_byte(door: Door) -> None:
    door.stamp(123_456_789_012_345)
    assert page(door) == (b"S", 123_456_789_012_345, 0, 0)
    door.open()
    door.stamp(2)
    assert page(door) == (b"O", 2, 0, 0)
    door.shut()
    assert page(door) == (b"S", 2, 0, 0)


def test_rule_12_a_new_server_begins_without_a_stamp(door: Door) -> None:
    """Also after an agent that died: a replica must not be held by an old writer's stamp."""
    door.stamp(5)
    Door(door.path).create_shut()
    assert page(door) == (b"S", 0, 0, 0)


def test_what_the_server_counted_is_read_and_kept(door: Door, tmp_path: Path) -> None:
    assert door.held() == HeldStatements(0, 0)
    with door.path.open("r+b") as file:
        file.seek(16)
        file.write(struct.pack("=qq", 3, 4_000))
    assert door.held() == HeldStatements(3, 4_000)
    door.create_shut()
    assert door.held() == HeldStatements(3, 4_000)
    assert Door(tmp_path / "nothing").held() == HeldStatements(0, 0)


def test_the_page_is_laid_out_as_the_guard_says() -> None:
    header = (GUARD / "guard.h").read_text()
    told = re.findall(r"/\* (Bytes? [0-9 and]+), the (?:agent|server)", header)
    assert told == ["Byte 0", "Byte 8", "Bytes 16 and 24"]
