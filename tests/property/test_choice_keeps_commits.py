"""The choice of a candidate, against brute force, and against what was acknowledged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aurora_operator.core.copy import CopyView
from aurora_operator.core.opening import Choice, CopyAnswer, choose
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.verdicts import GiveUp, Wait
from support.copies import IDENTITIES, STRANGER, at, full, members, promise
from support.logs import dumb, histories

ASKED = promise(9)


@st.composite
def answers(draw: st.DrawFn) -> CopyAnswer:
    slot = draw(st.integers(0, 5))
    listed = draw(st.sampled_from((members(1), members(4, 1, (STRANGER, *IDENTITIES[1:])))))
    stranger = slot == 0 and draw(st.booleans())
    granted = draw(st.sampled_from((True, True, True, False)))
    copy = full(
        slot,
        promised=ASKED if granted else draw(st.sampled_from((promise(9, "other"), promise(12)))),
        scl=draw(st.integers(1, 14)),
        terms=draw(histories()),
        listed=listed,
        identity=STRANGER if stranger else None,
    )
    return CopyAnswer(granted, copy)


@given(
    st.lists(answers(), max_size=7, unique_by=lambda answer: answer.copy.identity),
)
def test_rule_3_choose_against_brute_force(given_answers: list[CopyAnswer]) -> None:
    verdict = choose(ASKED, given_answers, AURORA_QUORUM)
    newest = max(
        (a.copy.record.members for a in given_answers if a.copy.record is not None),
        key=lambda listed: listed.version,
        default=members(),
    )
    counted = [a for a in given_answers if a.copy.identity in newest.identities]
    promised = [a.copy for a in counted if a.granted]
    if len(counted) - len(promised) > 2:
        assert isinstance(verdict, GiveUp)
    elif len(promised) < 4:
        assert isinstance(verdict, Wait)
    else:
        assert isinstance(verdict, Choice)
        best = max(_rank(copy) for copy in promised)
        assert (verdict.log_term, verdict.scl) == best
        winner = next(copy for copy in promised if copy.identity == verdict.identity)
        assert _rank(winner) == best
        length = verdict.scl - at(0)
        assert winner.record is not None
        assert dumb(verdict.history, length) == dumb(winner.record.history, length)


def _rank(copy: CopyView) -> tuple[int, int]:
    assert copy.record is not None
    assert copy.scl is not None
    return dumb(copy.record.history, copy.scl - at(0))[-1], copy.scl
