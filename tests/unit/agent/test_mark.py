"""The mark survives, and what cannot be believed counts as none."""

from __future__ import annotations

from pathlib import Path

from aurora_operator.agent.instance.mark import MarkFile
from aurora_operator.core.copy import Promise
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import AttemptId
from aurora_operator.core.restart import Mark

MARK = Mark(Promise(Term(7), AttemptId("a1")), "uid", "boot", opened=False)


def test_a_mark_is_read_back(tmp_path: Path) -> None:
    MarkFile(tmp_path / "mark.json").write(MARK)
    assert MarkFile(tmp_path / "mark.json").read() == MARK
    assert [path.name for path in tmp_path.iterdir()] == ["mark.json"]


def test_no_mark(tmp_path: Path) -> None:
    assert MarkFile(tmp_path / "mark.json").read() is None


def test_a_removed_mark_is_gone_and_removing_twice_is_harmless(tmp_path: Path) -> None:
    marks = MarkFile(tmp_path / "mark.json")
    marks.write(MARK)
    marks.remove()
    marks.remove()
    assert marks.read() is None


def test_a_torn_mark_counts_as_none(tmp_path: Path) -> None:
    marks = MarkFile(tmp_path / "mark.json")
    marks.write(MARK)
    path = tmp_path / "mark.json"
    path.write_bytes(path.read_bytes()[:10])
    assert marks.read() is None
