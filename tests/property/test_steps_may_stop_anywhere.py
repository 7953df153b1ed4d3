"""Promise and adoption, killed between any two of their steps and asked again.

The steps are taken on a model of a copy. Cut after each of them, the copy must be in a state that
the rules allow, and asking again must end where an undisturbed run ends.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from aurora_operator.core.copy import (
    Adoption,
    AdoptionStep,
    CopyView,
    Follow,
    LowerFloor,
    PersistHistory,
    PersistPromise,
    PromiseStep,
    TruncateLog,
    decide_adoption,
    decide_promise,
)
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Term
from aurora_operator.core.verdicts import Refuse
from support.copies import at, full, members, promise
from support.logs import dumb, dumb_prefix, histories

TERM = Term(9)


def taken(copy: CopyView, step: PromiseStep | AdoptionStep) -> CopyView:
    """The copy after one step."""
    assert copy.record is not None
    match step:
        case PersistPromise(given):
            return replace(copy, record=replace(copy.record, promise=given))
        case LowerFloor(lsn):
            return replace(copy, record=replace(copy.record, scl_floor=lsn))
        case TruncateLog(lsn):
            return replace(copy, scl=lsn)
        case PersistHistory(terms, first_record_end, listed):
            kept = replace(
                copy.record, history=terms, first_record_end=first_record_end, members=listed
            )
            return replace(copy, record=kept)
        case _:
            return copy


@given(histories(), st.integers(1, 14))
def test_rule_2_a_promise_from_every_interruption(terms: TermHistory, scl: int) -> None:
    start = full(promised=8, terms=terms, scl=scl)
    steps = decide_promise(start, promise(TERM))
    assert not isinstance(steps, Refuse)
    for cut in range(len(steps) + 1):
        copy = start
        for step in steps[:cut]:
            copy = taken(copy, step)
        assert copy.promised_term in (8, TERM)
        again = decide_promise(copy, promise(TERM))
        assert not isinstance(again, Refuse)
        for step in again:
            copy = taken(copy, step)
        assert copy.promised_term == TERM
        assert copy.scl == start.scl


@given(histories(), st.integers(1, 14), histories(), st.integers(1, 14))
def test_rule_5_an_adoption_from_every_interruption(
    own: TermHistory, scl: int, chosen: TermHistory, fork: int
) -> None:
    """H15: at no point does a byte pass for another term's than the one that wrote it."""
    start = full(promised=promise(TERM), terms=own, scl=scl)
    assert start.record is not None
    start = replace(start, record=replace(start.record, scl_floor=at(scl)))
    target = chosen.extended(TERM, at(fork))
    asked = Adoption(promise(TERM), target, at(fork + 2), members())
    log = dumb(own, scl)
    common = dumb_prefix(log, dumb(target, 20))
    steps = decide_adoption(start, asked)
    assume(not isinstance(steps, Refuse))
    assert not isinstance(steps, Refuse)
    for cut in range(len(steps) + 1):
        copy = start
        for step in steps[:cut]:
            copy = taken(copy, step)
            assert copy.record is not None
            assert copy.scl is not None
            assert copy.record.scl_floor <= copy.scl
            length = copy.scl - at(0)
            assert common <= length <= scl
            assert dumb(copy.record.history, length) == log[:length]
        again = decide_adoption(copy, asked)
        assert not isinstance(again, Refuse)
        for step in again:
            copy = taken(copy, step)
        assert copy.record is not None
        assert (copy.scl, copy.record.history) == (at(common), target)
        assert again[-1] == Follow(at(common), Term(log[common - 1]))
