"""Three copies are left: what opens, and what never does (rule 10, H9)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pytest

from aurora_operator.core.copy import CopyState
from aurora_operator.core.lsn import Term
from aurora_operator.core.members import MemberList
from aurora_operator.core.names import Identity, Slot
from aurora_operator.core.opening import Choice, CopyAnswer, GiveUp, choose, judge_prevotes
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.verdicts import Proceed, Wait
from support.copies import IDENTITIES, STRANGER, full, members, promise, without_say

ASKED = promise(9)
SIX = members()
LOST = IDENTITIES[3:]
NEW = Identity("s3_new")
FOUR = SIX.of_survivors(IDENTITIES[:3], Slot(3), NEW, Term(8))
FIVE = SIX.without(IDENTITIES[5], Term(7))


def promised(slot: int, listed: MemberList = SIX, *, scl: int = 100) -> CopyAnswer:
    identity = listed.identity_in(Slot(slot))
    return CopyAnswer(True, full(slot, promised=ASKED, listed=listed, scl=scl, identity=identity))


def refused(slot: int, listed: MemberList = SIX) -> CopyAnswer:
    identity = listed.identity_in(Slot(slot))
    return CopyAnswer(False, full(slot, promised=99, listed=listed, identity=identity))


def blank(slot: int) -> CopyAnswer:
    return CopyAnswer(False, without_say(CopyState.BLANK, slot))


THREE = [promised(0), promised(1), promised(2, scl=140)]
THREE_OF_FOUR = [promised(n, FOUR) for n in range(3)]


@pytest.mark.parametrize(
    ("answers", "lost", "verdict"),
    [
        pytest.param(THREE, (), Wait, id="no-record"),
        pytest.param(THREE, LOST, Choice, id="the-record-names-the-others"),
        pytest.param([*THREE, *map(blank, (3, 4, 5))], LOST, Choice, id="blank-ones-beside"),
        pytest.param([*THREE, *map(blank, (3, 4, 5))], (), GiveUp, id="blank-without-a-record"),
        pytest.param(THREE[:2], LOST, Wait, id="four-lost"),
        pytest.param([*THREE[:2], blank(2)], LOST, Wait, id="one-of-the-three-is-blank"),
        pytest.param([*THREE[:2], refused(2)], LOST, Wait, id="one-of-the-three-refuses"),
        pytest.param(THREE, LOST[:2], Wait, id="two-recorded"),
        pytest.param(THREE, (*LOST, IDENTITIES[2]), Wait, id="four-recorded"),
        pytest.param(THREE, (*LOST[:2], STRANGER), Wait, id="a-stranger-recorded"),
        pytest.param(THREE, (LOST[0], LOST[0], LOST[1]), Wait, id="one-recorded-twice"),
        pytest.param([promised(0), promised(1), promised(3)], LOST, Wait, id="a-lost-one-is-back"),
        pytest.param([*THREE, promised(3)], LOST, Choice, id="four-promise-as-ever"),
        pytest.param(
            [promised(n, FIVE) for n in range(3)],
            (*IDENTITIES[3:5], IDENTITIES[5]),
            Choice,
            id="one-of-them-was-being-replaced",
        ),
        pytest.param(THREE_OF_FOUR, LOST, Wait, id="the-new-one-is-only-away"),
        pytest.param([*THREE_OF_FOUR, blank(3)], LOST, Choice, id="the-new-one-was-never-filled"),
        pytest.param([*THREE_OF_FOUR, blank(3)], (), Wait, id="never-filled-without-a-record"),
        pytest.param(
            [*THREE_OF_FOUR, promised(3, FOUR)], (), Choice, id="the-new-one-promises-too"
        ),
        pytest.param(
            [promised(0, FOUR), promised(1), promised(2), blank(3)],
            LOST,
            Choice,
            id="the-new-list-is-on-one-of-three",
        ),
    ],
)
def test_rule_10_choose(
    answers: Sequence[CopyAnswer], lost: Sequence[Identity], verdict: type[object]
) -> None:
    assert isinstance(choose(ASKED, answers, AURORA_QUORUM, lost), verdict)


def test_rule_10_the_newest_of_the_three_goes_on() -> None:
    choice = choose(ASKED, THREE, AURORA_QUORUM, LOST)
    assert isinstance(choice, Choice)
    assert choice.identity == IDENTITIES[2]
    assert choice.survivors == IDENTITIES[:3]


def test_four_promises_need_no_fourth_copy() -> None:
    choice = choose(ASKED, [*THREE, promised(3)], AURORA_QUORUM, LOST)
    assert isinstance(choice, Choice)
    assert not choice.survivors


@pytest.mark.parametrize("gone", list(combinations(range(6), 3)))
def test_rule_10_each_three_that_are_left_open_after_the_record(gone: Sequence[int]) -> None:
    answers = [blank(n) if n in gone else promised(n) for n in range(6)]
    lost = [IDENTITIES[n] for n in gone]
    assert isinstance(choose(ASKED, answers, AURORA_QUORUM, lost), Choice)
    assert isinstance(judge_prevotes(answers, AURORA_QUORUM, lost), Proceed)
    assert not isinstance(choose(ASKED, answers, AURORA_QUORUM), Choice)
    assert isinstance(judge_prevotes(answers, AURORA_QUORUM), Wait)


def test_rule_10_the_list_of_four_holds_the_three_and_the_new_one() -> None:
    assert FOUR.identities == (*IDENTITIES[:3], NEW)
    assert FOUR.slots == (0, 1, 2, 3)
    assert FOUR.empty_slots == (4, 5)
    assert FOUR.version > SIX.version
    with pytest.raises(ValueError, match="taken"):
        SIX.of_survivors(IDENTITIES[:3], Slot(2), NEW, Term(8))
