"""The record beside the log: replaced whole, believed only with its checksum."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aurora_operator.volume.errors import RecordDamaged
from aurora_operator.volume.files import Files
from aurora_operator.volume.term_file import NAME, read_record, write_record
from support.copies import history, members, promise, record, vdl
from support.crash import DONE, QuickFiles, every_cut

OLD = record(2, promised=6, terms=history((1, 0), (6, 60)), listed=members(6, 1), floor=90)
NEW = record(2, promised=promise(7, "x"), terms=history((1, 0), (6, 60)), known=vdl(6, 80))


def test_reads_what_was_written(tmp_path: Path) -> None:
    for written in (OLD, NEW):
        write_record(QuickFiles(), tmp_path, written)
        assert read_record(tmp_path) == written


def test_none_was_written(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None


def test_rule_2_every_crash_leaves_the_old_or_the_new_promise(tmp_path: Path) -> None:
    """Mutant 3 (I3): and once the call returned, the new one."""

    def act(root: Path, files: Files) -> None:
        write_record(files, root, NEW)

    seen = set()
    for what, found in every_cut(tmp_path, lambda root: write_record(QuickFiles(), root, OLD), act):
        after = read_record(found)
        assert after in (OLD, NEW), what
        assert after == NEW or not what.startswith(DONE), what
        seen.add(after == NEW)
    assert seen == {False, True}


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """A promise that was read wrongly would be a promise broken."""
    write_record(QuickFiles(), tmp_path, NEW)
    path = tmp_path / NAME
    whole = path.read_bytes()
    for byte in range(len(whole) - 1):
        harmed = bytearray(whole)
        harmed[byte] ^= 0x01
        path.write_bytes(harmed)
        with pytest.raises(RecordDamaged, match="filled"):
            read_record(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="not-a-document"),
        pytest.param(b"{}", id="no-checksum"),
        pytest.param(b"\xff\xfe", id="not-text"),
    ],
)
def test_nonsense_is_not_believed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(RecordDamaged, match="cannot be believed"):
        read_record(tmp_path)


def test_a_person_can_read_it(tmp_path: Path) -> None:
    write_record(QuickFiles(), tmp_path, NEW)
    shown = json.loads((tmp_path / NAME).read_text())["record"]
    assert shown["promise"] == [7, "x"]
    assert shown["history"] == [[1, "0/1000000"], [6, "0/100003C"]]
