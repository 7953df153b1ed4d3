"""What a copy lets others read: as far as the volume is durable, and who is sent elsewhere."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from aurora_operator.core.birth import born_record
from aurora_operator.core.copy import Adoption
from aurora_operator.core.gate import ServePoint
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import Slot
from aurora_operator.volume import copy_store
from aurora_operator.volume.copy_store import CopyStore
from aurora_operator.volume.errors import StorageFailed
from support.copies import IDENTITIES, at, history, members, promise, vdl
from support.crash import QuickFiles
from support.stores import VOLUME, FailingFiles, content, following, reopen, write


def test_rule_7_serves_what_it_knows_to_be_durable_for_the_volume(tmp_path: Path) -> None:
    """I2, mutant 23: the VDL of term 1 says nothing about the log of term 7.

    It still says that what the two have in common is durable, and that much is served.
    """
    store = following(tmp_path)
    moved: list[str] = []
    store.on_change(lambda: moved.append("moved"))
    write(store, 90, 130, 7)
    assert store.serve_point() == ServePoint(at(90), Term(1))
    assert store.uncapped_point() == ServePoint(at(130), Term(7))
    assert store.learn_vdl(vdl(7, 120))
    assert not store.learn_vdl(vdl(7, 110))
    assert not store.learn_vdl(vdl(8, 130))
    assert store.serve_point() == ServePoint(at(120), Term(7))
    assert len(moved) == 2, "T6: the log moved, the VDL moved"


def test_rule_7_the_known_vdl_survives_once_it_is_saved(tmp_path: Path) -> None:
    store = following(tmp_path)
    write(store, 90, 130, 7)
    store.learn_vdl(vdl(7, 120))
    lower = ServePoint(at(90), Term(1))
    assert reopen(tmp_path).serve_point() == lower, "a lower bound: it was not saved yet"
    store.save_known_vdl()
    assert reopen(tmp_path).serve_point() == ServePoint(at(120), Term(7))


def test_rule_10_three_copies_left_show_no_more_than_was_known(tmp_path: Path) -> None:
    """Mutant 20 (H9)."""
    store = following(tmp_path)
    write(store, 90, 130, 7)
    store.learn_vdl(vdl(7, 120))
    store.promise(promise(8), lambda: None)
    assert store.serve_point() == ServePoint(at(120), Term(7))


def test_rule_7_gates_are_not_dark_when_a_term_never_reaches_four_copies(tmp_path: Path) -> None:
    """A candidate's first record is on three copies when it dies: its forerunner is still shown."""
    stores = []
    for slot in range(4):
        root = tmp_path / str(slot)
        root.mkdir()
        store = CopyStore.open(root, IDENTITIES[slot], Slot(slot), files=QuickFiles())
        store.begin_fill()
        store.append(at(0), content(0, 100), Term(1))
        store.complete_birth(born_record(VOLUME, Slot(slot), "7000000000000000001", at(100)))
        assert store.promise(promise(2), lambda: None) is None
        stores.append(store)
    for store in stores[:3]:
        store.adopt(Adoption(promise(2), history((1, 0), (2, 100)), at(110), members()))
        write(store, 100, 120, 2)
    assert [store.serve_point() for store in stores] == [ServePoint(at(100), Term(1))] * 4


def test_a_gate_that_stays_behind_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub told of more than this copy gets, or a peer's gate serves it."""
    store = following(tmp_path)
    write(store, 90, 130, 7)
    store.learn_vdl(vdl(7, 130))
    assert store.why_elsewhere() is None
    store.learn_vdl(vdl(7, 150))
    assert store.why_elsewhere() is None, "it may lag for a while"
    monkeypatch.setattr(copy_store, "BEHIND_SECONDS", 0.0)
    assert "behind other gates" in (store.why_elsewhere() or "")
    write(store, 130, 150, 7)
    monkeypatch.undo()
    assert store.why_elsewhere() is None
    store.note_served_elsewhere(ServePoint(at(10), Term(8)))
    monkeypatch.setattr(copy_store, "BEHIND_SECONDS", 0.0)
    assert "behind other gates" in (store.why_elsewhere() or "")


def test_a_gate_whose_copy_failed_sends_its_readers_away(tmp_path: Path) -> None:
    files = FailingFiles()
    store = following(tmp_path, files)
    store.append(at(90), content(90, 30), Term(7))
    files.failing = {"sync": errno.EIO}
    with pytest.raises(StorageFailed):
        store.sync()
    assert "serves nobody" in (store.why_elsewhere() or "")
