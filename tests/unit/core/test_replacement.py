"""Replacing a lost copy: which step comes next, and what is never done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_operator.core.copy import CopyState, CopyView, Promise
from aurora_operator.core.lsn import Term
from aurora_operator.core.members import MemberList
from aurora_operator.core.names import Identity, Slot
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.replacement import (
    FillCopy,
    Hold,
    Membership,
    PutIn,
    Remembered,
    Settled,
    StoreList,
    TakeIn,
    TakeOut,
    judge_refill,
    next_step,
    returned_with_less,
)
from aurora_operator.core.verdicts import Refuse, Wait
from support.copies import IDENTITIES, at, full, history, members, promise, without_say

TERM = Term(7)
TERMS = history((1, 0), (7, 60))
SIX = members()
NEW = Identity("s2_new")
FIVE = SIX.without(IDENTITIES[2], TERM)
SIX_AGAIN = FIVE.with_member(Slot(2), NEW, TERM)
LOST = without_say(CopyState.BLANK, 2)


def copy(
    slot: int,
    listed: MemberList = SIX,
    *,
    identity: Identity | None = None,
    promised: Promise | int = 7,
    streaming: int | None = 7,
    scl: int = 100,
) -> CopyView:
    return full(
        slot,
        listed=listed,
        identity=identity,
        promised=promised,
        terms=TERMS,
        streaming=streaming,
        scl=scl,
    )


def six(listed: MemberList = SIX, **others: CopyView | None) -> dict[Slot, CopyView | None]:
    """All copies keep ``listed``; ``slot_2=…`` for one that is otherwise."""
    copies: dict[Slot, CopyView | None] = {Slot(n): copy(n, listed) for n in range(6)}
    for name, view in others.items():
        copies[Slot(int(name.removeprefix("slot_")))] = view
    return copies


def seen(
    listed: MemberList,
    in_force: tuple[Identity, ...],
    copies: dict[Slot, CopyView | None],
    *,
    less: int | None = None,
    behind: int | None = None,
    flushed: int | None = None,
) -> Membership:
    return Membership(
        promise=promise(7),
        members=listed,
        in_force=in_force,
        copies=copies,
        returned_with_less=frozenset() if less is None else frozenset({Slot(less)}),
        left_behind=frozenset() if behind is None else frozenset({Slot(behind)}),
        flushed=None if flushed is None else at(flushed),
    )


ALL = SIX.identities
LEFT = FIVE.identities
GUEST = copy(2, FIVE, identity=NEW)
FILLING = replace(LOST, state=CopyState.FILLING, identity=NEW)


@pytest.mark.parametrize(
    ("look", "step"),
    [
        pytest.param(seen(SIX, ALL, six()), Settled, id="all-well"),
        pytest.param(seen(SIX, ALL, six(slot_2=None)), Settled, id="away-is-not-lost"),
        pytest.param(seen(SIX, ALL, six(slot_2=LOST)), TakeOut, id="blank"),
        pytest.param(
            seen(SIX, ALL, six(slot_2=without_say(CopyState.FAILED, 2))), TakeOut, id="failed"
        ),
        pytest.param(seen(SIX, ALL, six(), less=2), TakeOut, id="h17-returned-with-less"),
        pytest.param(seen(SIX, ALL, six(), behind=2), TakeOut, id="rule-14-left-behind"),
        pytest.param(
            seen(SIX, ALL, six(slot_2=FILLING)), TakeOut, id="disk-is-another-ones-by-now"
        ),
        pytest.param(
            seen(SIX, ALL, six(slot_2=LOST, slot_3=None, slot_4=copy(4, streaming=None))),
            Hold,
            id="three-others-follow",
        ),
        pytest.param(
            seen(SIX, ALL, six(slot_2=LOST, slot_3=None)), TakeOut, id="four-others-follow"
        ),
        pytest.param(seen(SIX, LEFT, six(slot_2=LOST)), StoreList, id="taken-out"),
        pytest.param(seen(SIX, LEFT, six(slot_2=None)), Hold, id="taken-out-and-silent"),
        pytest.param(seen(FIVE, LEFT, six(slot_2=LOST)), StoreList, id="five-not-stored"),
        pytest.param(
            seen(FIVE, LEFT, six(FIVE, slot_2=LOST, slot_0=copy(0), slot_1=copy(1))),
            StoreList,
            id="five-stored-on-three",
        ),
        pytest.param(
            seen(FIVE, LEFT, six(FIVE, slot_2=LOST, slot_0=copy(0))),
            FillCopy,
            id="five-stored-on-four",
        ),
        pytest.param(seen(FIVE, LEFT, six(FIVE, slot_2=FILLING)), FillCopy, id="filling"),
        pytest.param(seen(FIVE, LEFT, six(FIVE, slot_2=None)), Hold, id="empty-slot-silent"),
        pytest.param(
            seen(FIVE, LEFT, six(FIVE, slot_2=copy(2, FIVE, identity=NEW, streaming=None))),
            TakeIn,
            id="filled",
        ),
        pytest.param(seen(FIVE, LEFT, six(FIVE, slot_2=GUEST)), TakeIn, id="flushed-not-read"),
        pytest.param(
            seen(FIVE, LEFT, six(FIVE, slot_2=copy(2, FIVE, identity=NEW, promised=8))),
            TakeIn,
            id="promised-another",
        ),
        pytest.param(
            seen(FIVE, LEFT, six(FIVE, slot_2=GUEST), flushed=101), Hold, id="h8-short-by-one-byte"
        ),
        pytest.param(
            seen(FIVE, LEFT, six(FIVE, slot_2=GUEST), flushed=100), StoreList, id="holds-everything"
        ),
        pytest.param(
            seen(FIVE, LEFT, six(FIVE, slot_2=copy(2)), flushed=100),
            FillCopy,
            id="removed-comes-back",
        ),
        pytest.param(seen(FIVE, LEFT, six(FIVE), less=2), FillCopy, id="guest-with-less"),
        pytest.param(
            seen(SIX_AGAIN, LEFT, six(FIVE, slot_2=GUEST)), StoreList, id="six-not-stored"
        ),
        pytest.param(
            seen(SIX_AGAIN, LEFT, six(SIX_AGAIN, slot_2=copy(2, SIX_AGAIN, identity=NEW))),
            PutIn,
            id="six-stored",
        ),
        pytest.param(
            seen(SIX_AGAIN, LEFT, six(SIX_AGAIN, slot_2=LOST)), StoreList, id="lost-once-more"
        ),
        pytest.param(
            seen(SIX, ALL, six(slot_3=copy(3, FIVE))), StoreList, id="a-list-that-never-was"
        ),
    ],
)
def test_rule_8_next_step(look: Membership, step: type[object]) -> None:
    assert isinstance(next_step(look, AURORA_QUORUM), step)


def test_rule_8_the_list_without_the_lost_one_is_stored_first() -> None:
    step = next_step(seen(SIX, LEFT, six(slot_2=LOST)), AURORA_QUORUM)
    assert isinstance(step, StoreList)
    assert step.members == FIVE


def test_rule_8_a_removed_identity_is_filled_under_another_one() -> None:
    step = next_step(seen(FIVE, LEFT, six(FIVE, slot_2=copy(2))), AURORA_QUORUM)
    assert isinstance(step, FillCopy)
    assert step.identity is None


def test_rule_8_a_fill_goes_on_under_its_identity() -> None:
    step = next_step(seen(FIVE, LEFT, six(FIVE, slot_2=FILLING)), AURORA_QUORUM)
    assert isinstance(step, FillCopy)
    assert step.identity == NEW


def test_a_list_that_never_came_into_effect_is_overruled() -> None:
    """An earlier writer died after one copy kept its list; this writer did not hear of it."""
    theirs = SIX.without(IDENTITIES[0], Term(6))
    step = next_step(seen(SIX, ALL, six(slot_3=copy(3, theirs))), AURORA_QUORUM)
    assert isinstance(step, StoreList)
    assert step.members.identities == SIX.identities
    assert step.members.version > theirs.version


@pytest.mark.parametrize(
    ("answer", "before", "loses"),
    [
        pytest.param(copy(0), Remembered(), False, id="never-heard"),
        pytest.param(copy(0), Remembered(Term(7), at(100)), False, id="the-same"),
        pytest.param(copy(0, scl=120), Remembered(Term(7), at(100)), False, id="more"),
        pytest.param(copy(0, scl=99), Remembered(Term(7), at(100)), True, id="less-log"),
        pytest.param(copy(0, promised=7), Remembered(Term(8)), True, id="an-older-promise"),
        pytest.param(full(0, promised=7), Remembered(Term(7), at(100)), True, id="log-of-before"),
        pytest.param(
            copy(0, promised=8, scl=50), Remembered(Term(8), at(100)), False, id="another-writers"
        ),
        pytest.param(without_say(CopyState.BLANK), Remembered(Term(9), at(9)), False, id="blank"),
    ],
)
def test_h17_a_copy_that_returns_with_less(
    answer: CopyView, before: Remembered, loses: bool
) -> None:
    assert (returned_with_less(answer, before, TERM) is not None) is loses


FIVE_FULL = [copy(slot, FIVE) for slot in (0, 1, 3, 4, 5)]


@pytest.mark.parametrize(
    ("own", "peers", "verdict"),
    [
        pytest.param(LOST, FIVE_FULL, CopyView, id="blank"),
        pytest.param(copy(2), FIVE_FULL, CopyView, id="removed-copy-is-wiped"),
        pytest.param(LOST, FIVE_FULL[:3], CopyView, id="three-full"),
        pytest.param(LOST, FIVE_FULL[:2], Wait, id="two-full"),
        pytest.param(LOST, [], Wait, id="nobody"),
        pytest.param(
            LOST,
            [*FIVE_FULL[:2], without_say(CopyState.BLANK, 5)],
            Wait,
            id="h13-a-blank-one-teaches-nothing",
        ),
        pytest.param(LOST, [copy(s) for s in (0, 1, 3, 4, 5)], Refuse, id="still-a-member"),
        pytest.param(copy(2), [copy(s) for s in (0, 1, 3, 4, 5)], Refuse, id="never-wiped-as-one"),
        pytest.param(
            LOST, [*FIVE_FULL[:4], copy(5, FIVE, promised=8)], Wait, id="somebody-promised-higher"
        ),
        pytest.param(
            LOST,
            [full(s, listed=FIVE, promised=6) for s in (0, 1, 3, 4)],
            Wait,
            id="not-of-this-writer",
        ),
        pytest.param(
            without_say(CopyState.BLANK, 3), FIVE_FULL, Refuse, id="the-slot-has-a-member"
        ),
        pytest.param(
            LOST,
            [*FIVE_FULL[:3], copy(4, replace(FIVE, identities=(*FIVE.identities[:4], NEW)))],
            Refuse,
            id="two-lists-of-one-version",
        ),
        pytest.param(
            replace(LOST, identity=NEW),
            [copy(s, SIX_AGAIN) for s in (0, 1, 3)],
            CopyView,
            id="listed-before-it-was-filled",
        ),
    ],
)
def test_rule_9_what_a_blank_copy_learns(
    own: CopyView, peers: list[CopyView], verdict: type[object]
) -> None:
    assert isinstance(judge_refill(own, NEW, promise(7), peers, AURORA_QUORUM), verdict)
