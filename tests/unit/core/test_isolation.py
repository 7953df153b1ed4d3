"""Rule 12 as a table: what an open writer may do, by what it heard of its members."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from aurora_operator.core import isolation
from aurora_operator.core.copy import CopyState, CopyView
from aurora_operator.core.isolation import (
    AWAKE_NS,
    HOLD_NS,
    LOST_NS,
    NEVER_NS,
    Heard,
    Hold,
    Serve,
    Shut,
    StandDown,
    judge_isolation,
    out_of_reach,
    stamp_of,
    superseded,
)
from aurora_operator.core.lsn import Term
from aurora_operator.core.quorum import AURORA_QUORUM
from support.copies import STRANGER, full, members, promise, without_say

TERM = Term(7)
NOW = 1_000_000 * isolation.MILLISECOND_NS
GUARD = Path(__file__).parents[3] / "images/engine/guard"


def answered(*ages_ms: int | None) -> list[Heard]:
    """Members of the own term, asked so long ago; ``None`` never answered."""
    return [
        Heard(TERM, NEVER_NS if age is None else NOW - age * isolation.MILLISECOND_NS)
        for age in ages_ms
    ]


def judge(heard: list[Heard], awake_ms: int = 60_000) -> Serve | Hold | Shut | StandDown:
    return judge_isolation(
        TERM,
        heard,
        now_ns=NOW,
        awake_since_ns=NOW - awake_ms * isolation.MILLISECOND_NS,
        policy=AURORA_QUORUM,
    )


TABLE = {
    "all-answer": (answered(5, 5, 5, 5, 5, 5), Serve),
    "three-answer": (answered(5, 6, 7, None, None, None), Serve),
    "the-third-is-just-young-enough": (answered(5, 6, 200, 9000, 9000, 9000), Serve),
    "the-third-is-just-too-old": (answered(5, 6, 201, 9000, 9000, 9000), Hold),
    "two-answer-one-did-a-moment-ago": (answered(5, 5, 999, 9000, 9000, 9000), Hold),
    "a-second-is-not-over": (answered(5, 5, 1000, 9000, 9000, 9000), Hold),
    "a-second-is-over": (answered(5, 5, 1001, 9000, 9000, 9000), Shut),
    "two-answer": (answered(5, 5, None, None, None, None), Shut),
    "nobody-answers": (answered(5000, 5000, 5000, 5000, 5000, 5000), Shut),
    "nobody-ever-answered": (answered(None, None, None, None, None, None), Shut),
}


@pytest.mark.parametrize(("heard", "verdict"), TABLE.values(), ids=TABLE)
def test_rule_12_what_silence_means(heard: list[Heard], verdict: type[Serve | Hold | Shut]) -> None:
    for order in itertools.permutations(heard):
        assert type(judge(list(order))) is verdict


def test_rule_12_a_pause_of_this_process_proves_nothing_about_the_members() -> None:
    silent = answered(*6 * [5000])
    awake_ms = AWAKE_NS // isolation.MILLISECOND_NS
    assert isinstance(judge(silent, awake_ms=0), Hold)
    assert isinstance(judge(silent, awake_ms=awake_ms - 1), Hold)
    assert isinstance(judge(silent, awake_ms=awake_ms), Shut)
    assert isinstance(judge(answered(*6 * [5]), awake_ms=0), Serve)


@pytest.mark.parametrize("higher", range(7))
def test_rule_12_three_higher_promises_end_a_writer_however_well_it_is_heard(higher: int) -> None:
    """And two do not: a lone candidate ends no healthy writer (H11)."""
    heard = [Heard(Term(TERM + 1) if number < higher else TERM, NOW) for number in range(6)]
    over = superseded(TERM, [member.promised_term for member in heard], AURORA_QUORUM)
    assert (over is not None) == (higher >= 3)
    assert isinstance(judge(heard), StandDown if higher >= 3 else Serve)
    assert isinstance(judge(heard, awake_ms=0), StandDown if higher >= 3 else Serve)


def test_rule_12_promises_of_the_own_or_a_lower_term_are_not_higher() -> None:
    assert superseded(TERM, [TERM, Term(6), Term(0), TERM, Term(1), TERM], AURORA_QUORUM) is None


def test_rule_12_at_the_stamp_no_other_candidate_had_four_promises() -> None:
    """The claim on which every bound stands.

    Each member promises higher at some even moment; asked at every odd one, it answers until then.
    """
    for promised_at in itertools.combinations_with_replacement((2, 4, 6, 8, 10, 12), 6):
        stamp = stamp_of([Heard(TERM, at - 1) for at in promised_at], AURORA_QUORUM)
        fourth_promise = promised_at[AURORA_QUORUM.write_quorum - 1]
        assert stamp < fourth_promise
        assert stamp == fourth_promise - 1, "and it is the best that is known"


def test_a_list_too_short_for_a_quorum_has_no_stamp() -> None:
    assert stamp_of(answered(5, 5), AURORA_QUORUM) == NEVER_NS


def test_never_is_not_what_the_guard_takes_for_no_stamp() -> None:
    """A stamp of 0 would hold nobody."""
    assert NEVER_NS > 0


def test_the_verdict_carries_the_stamp_and_says_how_old_it_is() -> None:
    verdict = judge(answered(5, 6, 207, 300, 300, 300))
    assert isinstance(verdict, Hold)
    assert verdict.stamp_ns == NOW - 207 * isolation.MILLISECOND_NS
    assert verdict.sentence == "3 members last answered 207 ms ago: statements wait"


def test_the_guard_goes_by_the_same_numbers() -> None:
    source = (GUARD / "stamp.c").read_text()
    numbers = dict(re.findall(r"#define (\w+_NS) \((\d+) \* MILLISECOND_NS\)", source))
    assert int(numbers["FRESH_NS"]) * isolation.MILLISECOND_NS == HOLD_NS
    assert int(numbers["LOST_NS"]) * isolation.MILLISECOND_NS == LOST_NS


BOUND_HIGHER, BOUND_BESIDE = promise(9), promise(7, "another")
LOST = CopyState.BLANK


@pytest.mark.parametrize(
    ("copies", "over"),
    [
        pytest.param([full(0, promised=BOUND_HIGHER)], False, id="one-bound"),
        pytest.param(
            [full(0, promised=BOUND_HIGHER), full(1, promised=BOUND_BESIDE)], False, id="two-bound"
        ),
        pytest.param(
            [full(0, promised=BOUND_HIGHER), full(1, promised=BOUND_BESIDE), without_say(LOST, 2)],
            True,
            id="two-bound-and-one-lost",
        ),
        pytest.param(
            [full(0, promised=BOUND_BESIDE), without_say(LOST, 1), without_say(LOST, 2)],
            True,
            id="one-bound-beside-and-two-lost",
        ),
        pytest.param(
            [full(0, promised=BOUND_HIGHER), *(without_say(LOST, slot) for slot in (1, 2, 3))],
            False,
            id="three-lost-the-next-term-could-not-open-either",
        ),
        pytest.param([without_say(LOST, 0), without_say(LOST, 1)], False, id="two-lost"),
        pytest.param(
            [full(0, promised=5), full(1, promised=6), without_say(LOST, 2)],
            False,
            id="older-promises-will-follow",
        ),
        pytest.param(
            [
                full(0, promised=BOUND_HIGHER),
                full(1, promised=BOUND_HIGHER),
                full(2, promised=7, identity=STRANGER),
            ],
            True,
            id="another-disk-in-a-members-slot",
        ),
    ],
)
def test_rule_12_copies_out_of_reach_end_a_writer(copies: list[CopyView], over: bool) -> None:
    """H11: fewer than three that promised higher may still be one too many."""
    verdict = out_of_reach(promise(7), members(), copies, AURORA_QUORUM)
    assert isinstance(verdict, StandDown) is over
