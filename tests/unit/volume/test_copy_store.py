"""A copy on its disk: birth, log in, promise, adopt, serve, and every crash in between."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from aurora_operator.core.birth import born_record
from aurora_operator.core.copy import Adoption, CopyState, Follow, position_of
from aurora_operator.core.gate import ServePoint
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import Slot
from aurora_operator.core.verdicts import Refuse
from aurora_operator.volume.blank_disk import FAILED_NAME
from aurora_operator.volume.copy_store import CopyStore
from aurora_operator.volume.errors import LogRefused, StorageFailed
from aurora_operator.volume.files import Files
from aurora_operator.volume.term_file import NAME
from support.copies import IDENTITIES, at, history, members, promise, vdl
from support.crash import DONE, QuickFiles, every_cut
from support.stores import (
    SLOT,
    VOLUME,
    FailingFiles,
    adoption,
    bear,
    born,
    content,
    following,
    read_all,
    reopen,
    write,
)

# -- birth ---------------------------------------------------------------------------------


def test_an_empty_disk_is_blank(tmp_path: Path) -> None:
    store = reopen(tmp_path)
    assert store.view().state is CopyState.BLANK
    assert store.view().scl is None
    with pytest.raises(LogRefused, match="blank"):
        store.append(at(0), b"x", Term(1))


def test_rule_13_a_filled_copy_is_full_and_stays_so(tmp_path: Path) -> None:
    born(tmp_path)
    store = reopen(tmp_path)
    view = store.view()
    assert (view.state, view.scl, view.log_start) == (CopyState.FULL, at(100), at(0))
    assert store.serve_point() == ServePoint(at(100), Term(1))
    assert read_all(store) == content(0, 100)


def test_rule_13_a_fill_may_begin_again_until_it_is_complete(tmp_path: Path) -> None:
    half = reopen(tmp_path)
    half.begin_fill()
    half.append(at(0), content(0, 70), Term(1))
    half.sync()
    assert half.view().state is CopyState.FILLING
    again = reopen(tmp_path)
    assert again.view().state is CopyState.BLANK
    bear(again)
    with pytest.raises(LogRefused, match="record"):
        again.begin_fill()


def test_rule_13_a_copy_that_lacks_log_does_not_become_full(tmp_path: Path) -> None:
    store = reopen(tmp_path)
    store.begin_fill()
    store.append(at(0), content(0, 70), Term(1))
    with pytest.raises(LogRefused, match="not filled up to"):
        store.complete_birth(born_record(VOLUME, SLOT, "7", at(100)))
    assert store.view().state is CopyState.FILLING


def test_rule_13_every_crash_leaves_a_copy_blank_or_full(tmp_path: Path) -> None:
    seen = set()
    for what, found in every_cut(
        tmp_path, lambda _: None, lambda root, files: bear(reopen(root, files), 300)
    ):
        store = reopen(found)
        seen.add(store.state)
        assert store.state in (CopyState.BLANK, CopyState.FULL), what
        if store.state is CopyState.FULL:
            assert read_all(store) == content(0, 300), what
    assert seen == {CopyState.BLANK, CopyState.FULL}


# -- rule 2: promise -----------------------------------------------------------------------


def test_rule_2_a_promise_closes_the_stream_before_it_reads(tmp_path: Path) -> None:
    """Mutant 5 (H10): what came in before counts, nothing comes in after."""
    store = following(tmp_path)
    store.append(at(90), content(90, 30), Term(7))
    order: list[str] = []

    def close() -> None:
        order.append(f"closed at {store.scl()}")

    assert store.promise(promise(8), close) is None
    assert order == [f"closed at {at(90)}"]
    assert store.view().scl == at(120)
    assert store.reportable(Term(7)) is None
    with pytest.raises(LogRefused, match="until then"):
        store.append(at(120), b"x", Term(7))


def test_rule_2_a_repeat_gets_the_same_answer_and_keeps_the_stream(tmp_path: Path) -> None:
    store = following(tmp_path)
    before = store.view()
    assert store.promise(promise(7), lambda: pytest.fail("closed the stream")) is None
    assert store.view() == before


def test_rule_2_refusals_change_nothing(tmp_path: Path) -> None:
    store = following(tmp_path)
    before = store.view()
    for asked in (promise(6), promise(7, "another")):
        assert isinstance(store.promise(asked, lambda: pytest.fail("closed")), Refuse)
    assert store.view() == before == reopen(tmp_path).view()


def test_rule_2_every_crash_of_a_promise(tmp_path: Path) -> None:
    """Mutants 3 and 24: an answered promise is durable, and so is all that was reported."""

    def act(root: Path, files: Files) -> None:
        store = reopen(root, files)
        write(store, 90, 110, 7)
        store.append(at(110), content(110, 20), Term(7))
        assert store.promise(promise(8), lambda: None) is None

    seen = set()
    for what, found in every_cut(tmp_path, lambda root: following(root).close(), act):
        after = reopen(found)
        view = after.view()
        assert view.state is CopyState.FULL, what
        assert view.promised_term in (7, 8), what
        assert view.scl is not None
        assert at(90) <= view.scl <= at(130), what
        if view.promised_term == 8:
            assert view.scl == at(130), f"{what}: promised, but the synced log is gone"
        if what.startswith(DONE):
            assert view.promised_term == 8, f"{what}: answered, but forgotten"
        assert after.promise(promise(8), lambda: None) is None
        seen.add(view.promised_term)
    assert seen == {7, 8}


# -- rule 5: adopt -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fork", "kept"),
    [
        pytest.param(90, 90, id="cut"),
        pytest.param(100, 100, id="keep"),
        pytest.param(140, 100, id="short"),
    ],
)
def test_rule_5_a_copy_is_cut_to_the_common_prefix(tmp_path: Path, fork: int, kept: int) -> None:
    store = born(tmp_path)
    assert store.promise(promise(7), lambda: None) is None
    assert store.reportable(Term(7)) is None, "mutant 11: nothing is reported before"
    assert store.adopt(adoption(7, fork)) == Follow(at(kept), Term(1))
    assert store.adopt(adoption(7, fork)) == Follow(at(kept), Term(1))
    assert store.reportable(Term(7)) == at(kept)
    assert reopen(tmp_path).view() == store.view()


def test_rule_5_every_crash_of_an_adoption(tmp_path: Path) -> None:
    """Mutants 9, 10 and 24 (H15): dead bytes never pass for the new term's."""

    def prepare(root: Path) -> None:
        store = born(root)
        store.promise(promise(6), lambda: None)
        store.adopt(adoption(6, 80))
        write(store, 80, 700, 6)
        store.promise(promise(7), lambda: None)
        store.close()

    def act(root: Path, files: Files) -> None:
        assert reopen(root, files).adopt(adoption(7, 90)) == Follow(at(80), Term(1))

    seen = set()
    for what, found in every_cut(tmp_path, prepare, act):
        store = reopen(found)
        view = store.view()
        assert view.state is CopyState.FULL, f"{what}: {view.sentence}"
        assert view.record is not None
        assert view.scl is not None
        assert view.record.promise == promise(7), what
        assert at(80) <= view.scl <= at(700), what
        adopted = view.record.history == adoption(7, 90).history
        assert view.log_term == (6 if view.scl > at(80) else 1), what
        assert not (adopted and view.scl > at(80)), f"{what}: history before the cut"
        assert read_all(store) == content(0, view.scl - at(0)), what
        assert store.adopt(adoption(7, 90)) == Follow(at(80), Term(1)), what
        if what.startswith(DONE):
            assert adopted, f"{what}: answered, but forgotten"
        seen.add((adopted, int(view.scl - at(0))))
    assert {(True, 80), (False, 80), (False, 700), (False, 256), (False, 512)} <= seen


def test_rule_5_log_of_the_new_term_goes_on_behind_the_cut(tmp_path: Path) -> None:
    store = following(tmp_path)
    write(store, 90, 130, 7)
    assert store.reportable(Term(7)) == at(130)
    after = reopen(tmp_path)
    assert after.reportable(Term(7)) == at(130)
    assert position_of(after.view()).log_term == 7


@pytest.mark.parametrize(
    ("start", "term", "why"),
    [
        pytest.param(90, 1, "adopted history", id="byte-of-the-dead-term"),
        pytest.param(90, 8, "adopted history", id="byte-of-an-unknown-term"),
    ],
)
def test_rule_1_log_must_be_of_the_adopted_term(
    tmp_path: Path, start: int, term: int, why: str
) -> None:
    """I3: even a writer of the promised term cannot put other bytes here."""
    store = following(tmp_path)
    with pytest.raises(LogRefused, match=why):
        store.append(at(start), content(start, 20), Term(term))
    assert store.scl() == at(90)


def test_a_fetch_from_a_peer_may_cross_terms_one_by_one(tmp_path: Path) -> None:
    store = born(tmp_path)
    store.promise(promise(7), lambda: None)
    store.adopt(adoption(7, 140))
    with pytest.raises(LogRefused, match="adopted history"):
        write(store, 100, 141, 1)
    write(store, 100, 140, 1)
    write(store, 140, 180, 7)
    assert reopen(tmp_path).view().log_term == 7


# -- failures ------------------------------------------------------------------------------


def test_rule_5_a_failed_fsync_makes_the_copy_failed_for_good(tmp_path: Path) -> None:
    files = FailingFiles()
    store = following(tmp_path, files)
    store.append(at(90), content(90, 30), Term(7))
    files.failing = {"sync": errno.EIO}
    with pytest.raises(StorageFailed):
        store.sync()
    assert store.state is CopyState.FAILED
    assert store.reportable(Term(7)) is None
    assert isinstance(store.promise(promise(9), lambda: None), Refuse)
    assert (tmp_path / FAILED_NAME).exists()
    assert reopen(tmp_path).state is CopyState.FAILED, "a second fsync would have succeeded"


def test_rule_2_a_promise_that_is_not_durable_is_not_given(tmp_path: Path) -> None:
    files = FailingFiles()
    store = born(tmp_path, files)
    files.failing = {"rename": errno.EIO}
    assert isinstance(store.promise(promise(7), lambda: None), Refuse)
    assert store.state is CopyState.FAILED, "nobody can say which promise is on the disk"


def test_a_full_disk_refuses_a_promise_and_harms_nothing(tmp_path: Path) -> None:
    files = FailingFiles()
    store = born(tmp_path, files)
    files.failing = {"create": errno.ENOSPC}
    refusal = store.promise(promise(7), lambda: None)
    assert isinstance(refusal, Refuse)
    assert "old one stands" in refusal.sentence
    assert store.state is CopyState.FULL
    assert store.promise(promise(7), lambda: None) is None


def test_a_full_disk_refuses_an_adoption_and_harms_nothing(tmp_path: Path) -> None:
    files = FailingFiles()
    store = born(tmp_path, files)
    store.promise(promise(7), lambda: None)
    files.failing = {"create": errno.ENOSPC}
    assert isinstance(store.adopt(adoption()), Refuse)
    assert store.adopt(adoption()) == Follow(at(90), Term(1))


def test_a_full_disk_only_delays_what_is_saved_lazily(tmp_path: Path) -> None:
    files = FailingFiles()
    store = following(tmp_path, files)
    write(store, 90, 130, 7)
    store.learn_vdl(vdl(7, 120))
    files.failing = {"create": errno.ENOSPC}
    store.save_known_vdl()
    assert store.state is CopyState.FULL
    assert reopen(tmp_path).serve_point() == ServePoint(at(90), Term(1))
    store.save_known_vdl()
    assert reopen(tmp_path).serve_point() == ServePoint(at(120), Term(7))


def test_a_damaged_log_fails_the_copy_and_says_what_to_do(tmp_path: Path) -> None:
    born(tmp_path)
    (tmp_path / "log" / f"{int(at(0)):016X}.log").write_bytes(b"")
    view = reopen(tmp_path).view()
    assert view.state is CopyState.FAILED
    assert "filled from its peers" in view.sentence


def test_dead_bytes_under_a_new_history_are_damage(tmp_path: Path) -> None:
    """H15: a history that was made durable before the cut would let them pass."""
    store = following(tmp_path)
    write(store, 90, 130, 7)
    kept = (tmp_path / "log" / f"{int(at(0)):016X}.log").read_bytes()
    store.promise(promise(8), lambda: None)
    store.adopt(Adoption(promise(8), history((1, 0), (8, 90)), at(100), members()))
    (tmp_path / "log" / f"{int(at(0)):016X}.log").write_bytes(kept)
    view = reopen(tmp_path).view()
    assert view.state is CopyState.FAILED
    assert "is of term 7" in view.sentence


def test_an_unreadable_record_fails_the_copy(tmp_path: Path) -> None:
    born(tmp_path)
    (tmp_path / NAME).write_text("{}")
    store = reopen(tmp_path)
    assert store.state is CopyState.FAILED
    assert not (tmp_path / FAILED_NAME).exists(), "it is seen again; a newer release may read it"


def test_another_copys_disk_is_not_touched(tmp_path: Path) -> None:
    born(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    store = CopyStore.open(tmp_path, IDENTITIES[3], Slot(3), files=QuickFiles())
    assert store.state is CopyState.FAILED
    assert "check the claims" in store.view().sentence
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_copy_that_lost_log_is_failed(tmp_path: Path) -> None:
    """H17: the floor was raised when a segment was filled."""
    store = following(tmp_path)
    write(store, 90, 300, 7)
    store.close()
    (tmp_path / "log" / f"{int(at(256)):016X}.log").unlink()
    assert reopen(tmp_path).state is CopyState.FAILED


def test_a_copy_that_lost_log_which_a_promise_answered_for_is_failed(tmp_path: Path) -> None:
    """H17: the candidate chose by that answer."""
    store = following(tmp_path)
    write(store, 90, 110, 7)
    write(store, 110, 130, 7)
    assert store.promise(promise(8), lambda: None) is None
    store.close()
    file = tmp_path / "log" / f"{int(at(0)):016X}.log"
    file.write_bytes(file.read_bytes().rstrip(b"\0")[:-1])
    assert reopen(tmp_path).state is CopyState.FAILED


def test_rule_14_log_is_removed_by_segments(tmp_path: Path) -> None:
    store = following(tmp_path)
    write(store, 90, 600, 7)
    store.remove_log_before(at(520))
    assert store.log_start() == at(512)
    assert reopen(tmp_path).view().log_start == at(512)
    refusal = store.adopt(adoption())
    assert refusal == Follow(at(600), Term(7)), "its own history needs nothing below"
