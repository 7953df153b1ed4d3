"""The byte of the door."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from aurora_operator.engines.postgresql.guard_door import Door


@pytest.fixture
def door(tmp_path: Path) -> Door:
    made = Door(tmp_path / "door")
    made.create_shut()
    return made


def test_i4_a_new_door_is_shut(door: Door) -> None:
    assert not door.is_open
    assert door.path.stat().st_size == 1


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
