"""Opening under a new term: pre-votes, promises, the choice, catching up, and the door."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_operator.core.copy import CopyState, CopyView, Position
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.opening import (
    Choice,
    CopyAnswer,
    Opened,
    choose,
    judge_caught_up,
    judge_prevotes,
    judge_promotion,
    may_open,
    next_term,
    skipped_terms,
)
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.verdicts import GiveUp, Proceed, Wait, Wipe
from support.copies import (
    IDENTITIES,
    STRANGER,
    at,
    full,
    history,
    members,
    promise,
    without_say,
)

ASKED = promise(9)


def yes(copy: CopyView) -> CopyAnswer:
    return CopyAnswer(True, copy)


def no(copy: CopyView) -> CopyAnswer:
    return CopyAnswer(False, copy)


def promised(slot: int, scl: int, *terms: tuple[int, int]) -> CopyAnswer:
    return yes(full(slot, promised=ASKED, scl=scl, terms=history(*(terms or ((1, 0),)))))


def chosen(answers: list[CopyAnswer]) -> Choice:
    choice = choose(ASKED, answers, AURORA_QUORUM)
    assert isinstance(choice, Choice), choice
    return choice


def test_rule_2_a_term_is_one_above_the_highest_seen() -> None:
    assert next_term([Term(1), Term(7), Term(3)]) == 8


@pytest.mark.parametrize(
    ("answers", "proceeds"),
    [
        pytest.param([yes(full(slot)) for slot in range(4)], True, id="four-yes"),
        pytest.param([yes(full(slot)) for slot in range(3)], False, id="three-yes"),
        pytest.param([], False, id="nobody"),
        pytest.param(
            [*(yes(full(slot)) for slot in range(3)), yes(without_say(CopyState.BLANK, 3))],
            False,
            id="a-blank-does-not-count",
        ),
        pytest.param([yes(full(0))] * 4, False, id="one-copy-four-times"),
        pytest.param(
            [*(yes(full(slot)) for slot in range(3)), yes(full(0, identity=STRANGER))],
            False,
            id="no-member",
        ),
    ],
)
def test_rule_2_four_members_must_be_willing(answers: list[CopyAnswer], proceeds: bool) -> None:
    """Mutants 2, 13 and 25."""
    assert isinstance(judge_prevotes(answers, AURORA_QUORUM), Proceed) is proceeds


def test_rule_2_three_promises_are_not_enough() -> None:
    """Mutant 2: two candidates could each get three."""
    answers = [promised(slot, 50) for slot in range(3)]
    assert isinstance(choose(ASKED, answers, AURORA_QUORUM), Wait)


def test_rule_2_only_this_attempts_promises_count() -> None:
    """Mutant 17: three of ours and one of another attempt of the same term (H3)."""
    other = yes(full(3, promised=promise(9, "other"), scl=50))
    answers = [*(promised(slot, 50) for slot in range(3)), other]
    assert isinstance(choose(ASKED, answers, AURORA_QUORUM), Wait)


def test_rule_3_chooses_by_term_of_last_byte_before_position() -> None:
    """Mutant 1: the longest log is of a term that lost."""
    choice = chosen(
        [promised(0, 90), promised(1, 90), promised(2, 60, (1, 0), (3, 50)), promised(3, 40)]
    )
    assert (choice.identity, choice.log_term, choice.scl) == (IDENTITIES[2], Term(3), at(60))
    assert choice.history == history((1, 0), (3, 50))


def test_rule_3_an_adopted_term_without_a_byte_does_not_count() -> None:
    """Mutant 9 (H5): the laggard adopted term 2 and wrote nothing of it."""
    laggard = promised(3, 50, (1, 0), (2, 50))
    choice = chosen([promised(0, 100), promised(1, 100), promised(2, 80), laggard])
    assert (choice.log_term, choice.scl) == (Term(1), at(100))


def test_rule_3_the_choice_brings_no_term_without_a_byte() -> None:
    laggards = [promised(slot, 50, (1, 0), (2, 50)) for slot in range(4)]
    assert chosen(laggards).history == history((1, 0))


def test_rule_3_equal_copies_are_chosen_by_slot() -> None:
    assert chosen([promised(slot, 70) for slot in (5, 3, 2, 4)]).slot == 2


def test_rule_8_only_members_of_the_highest_list_promise() -> None:
    """Mutant 15 (H1): four promises, one of them by a disk that was replaced."""
    newer = members(4, 1, (STRANGER, *IDENTITIES[1:]))
    promises = [full(slot, promised=ASKED, listed=newer) for slot in (1, 2, 3)]
    retired = promised(0, 99)
    answers = [*(yes(copy) for copy in promises), retired]
    assert isinstance(choose(ASKED, answers, AURORA_QUORUM), Wait)
    answers.append(yes(full(0, promised=ASKED, identity=STRANGER, listed=newer)))
    assert chosen(answers).members == newer


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        pytest.param(
            [
                *(promised(slot, 9) for slot in range(3)),
                *(no(full(s, promised=10)) for s in (3, 4, 5)),
            ],
            "refuse",
            id="three-refuse",
        ),
        pytest.param(
            [*(promised(slot, 9) for slot in range(4)), no(full(4, system="8"))],
            "different databases",
            id="formatted-twice",
        ),
        pytest.param(
            [*(promised(slot, 9) for slot in range(4)), no(full(4, volume="other"))],
            "different volumes",
            id="two-volumes",
        ),
        pytest.param(
            [promised(0, 9), no(full(1, listed=members(1, 0, (*IDENTITIES[:5], STRANGER))))],
            "two member lists",
            id="two-lists-of-one-version",
        ),
    ],
)
def test_rule_2_gives_up_when_four_can_no_longer_promise(
    answers: list[CopyAnswer], why: str
) -> None:
    verdict = choose(ASKED, answers, AURORA_QUORUM)
    assert isinstance(verdict, GiveUp)
    assert why in verdict.sentence


def test_two_refusals_leave_hope() -> None:
    answers = [
        *(promised(slot, 9) for slot in range(3)),
        *(no(full(s, promised=10)) for s in (3, 4)),
    ]
    assert isinstance(choose(ASKED, answers, AURORA_QUORUM), Wait)


def test_rule_4_stubs_for_the_terms_that_nobody_wrote() -> None:
    assert skipped_terms(history((1, 0), (3, 50)), Term(6)) == (2, 4, 5)
    assert skipped_terms(history((1, 0)), Term(2)) == ()


CHOICE = chosen([promised(slot, 100) for slot in range(4)])


@pytest.mark.parametrize(
    ("flushed", "replayed", "stalled", "verdict"),
    [
        pytest.param(100, 96, True, Proceed, id="mid-record-end"),
        pytest.param(100, 100, True, Proceed, id="whole"),
        pytest.param(99, 96, True, Wait, id="promote-short"),
        pytest.param(100, 60, False, Wait, id="replay-goes-on"),
        pytest.param(101, 96, True, Wipe, id="holds-more-than-chosen"),
        pytest.param(90, 110, True, Wipe, id="replayed-more-than-chosen"),
    ],
)
def test_rule_4_caught_up_means_all_flushed_and_replay_at_rest(
    flushed: int, replayed: int, stalled: bool, verdict: type[object]
) -> None:
    """Mutants 18 and 21 (H14)."""
    judged = judge_caught_up(at(flushed), at(replayed), replay_stalled=stalled, choice=CHOICE)
    assert isinstance(judged, verdict)


CHOSEN = chosen([promised(slot, 100, (1, 0), (4, 40), (6, 90)) for slot in range(4)])


@pytest.mark.parametrize(
    ("promoted", "verdict"),
    [
        pytest.param(history((1, 0), (4, 40), (6, 90), (9, 96)), Proceed, id="as-asked"),
        pytest.param(
            history((1, 0), (4, 40), (6, 90), (10, 96)), Wipe, id="timeline-is-not-the-term"
        ),
        pytest.param(
            history((1, 0), (4, 40), (6, 90), (9, 95)), Wipe, id="forked-before-what-was-replayed"
        ),
        pytest.param(
            history((1, 0), (4, 40), (9, 90)), Wipe, id="part-of-a-record-that-4-never-finished"
        ),
        pytest.param(history((1, 0), (6, 90), (9, 96)), Wipe, id="lacks-a-term"),
    ],
)
def test_rule_4_the_promoted_history_is_the_chosen_one(
    promoted: TermHistory, verdict: type[object]
) -> None:
    """Positions alone do not tell whose bytes were received (I6)."""
    replayed = at(90 if promoted.last.begin == at(90) else 96)
    judged = judge_promotion(promoted, replayed, CHOSEN, Term(9))
    assert isinstance(judged, verdict)
    assert ("made timeline 10, not 9" in judged.sentence) is (promoted.last.term == 10)


def _holding(*scls: int) -> list[Position]:
    return [Position(IDENTITIES[slot], Term(9), Term(9), at(scl)) for slot, scl in enumerate(scls)]


@pytest.mark.parametrize(
    ("scls", "must_hold", "opens_at"),
    [
        pytest.param((110, 110, 110), 110, None, id="three-hold-it"),
        pytest.param((110, 110, 110, 109), 110, None, id="the-fourth-lacks-a-byte"),
        pytest.param((115, 112, 111, 110), 110, 110, id="four-hold-it"),
        pytest.param((150, 150, 150, 120), 140, None, id="rule-11-recovered-log-not-on-four"),
        pytest.param((150, 150, 150, 145), 140, 145, id="rule-11-recovered-log-on-four"),
    ],
)
def test_rule_6_nobody_comes_in_before_four_hold_the_first_record(
    scls: tuple[int, ...], must_hold: int, opens_at: int | None
) -> None:
    """Mutants 6 and 8 (I4)."""
    verdict = may_open(Term(9), at(110), at(must_hold), _holding(*scls), members(), AURORA_QUORUM)
    vdl: Lsn | None = verdict.vdl if isinstance(verdict, Opened) else None
    assert vdl == (None if opens_at is None else at(opens_at))


def test_an_answer_that_calls_itself_promised_but_shows_no_log_ends_the_attempt() -> None:
    empty = replace(full(3, promised=ASKED), scl=at(0))
    answers = [*(promised(slot, 50) for slot in range(3)), yes(empty)]
    assert isinstance(choose(ASKED, answers, AURORA_QUORUM), GiveUp)
