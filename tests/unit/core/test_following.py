"""What the open writer asks of each copy next."""

from __future__ import annotations

import pytest

from aurora_operator.core.copy import CopyState, CopyView, Promise
from aurora_operator.core.following import AskAdopt, AskPromise, Leave, WriterFacts, next_for_copy
from support.copies import IDENTITIES, STRANGER, at, full, history, members, promise, without_say

TERMS = history((1, 0), (7, 60))
WRITER = WriterFacts(promise(7), TERMS, at(70), members())


@pytest.mark.parametrize(
    ("copy", "step"),
    [
        pytest.param(None, Leave, id="does-not-answer"),
        pytest.param(without_say(CopyState.BLANK), Leave, id="blank"),
        pytest.param(without_say(CopyState.FAILED), Leave, id="failed"),
        pytest.param(full(0, identity=STRANGER), Leave, id="no-member"),
        pytest.param(full(promised=6), AskPromise, id="promised-lower"),
        pytest.param(full(promised=7), AskAdopt, id="promised"),
        pytest.param(full(promised=7, terms=TERMS), AskAdopt, id="adopted-not-connected"),
        pytest.param(
            full(promised=7, terms=TERMS, streaming=6), AskAdopt, id="connected-to-another"
        ),
        pytest.param(full(promised=7, terms=TERMS, streaming=7), Leave, id="streams"),
        pytest.param(full(promised=8), Leave, id="promised-higher"),
        pytest.param(full(promised=promise(7, "other")), Leave, id="another-attempt"),
    ],
)
def test_rule_5_next_for_copy(copy: CopyView | None, step: type[object]) -> None:
    assert isinstance(next_for_copy(WRITER, copy), step)


def test_asks_carry_the_writers_own_promise_and_history() -> None:
    asked = next_for_copy(WRITER, full(1, promised=1))
    assert isinstance(asked, AskPromise)
    assert asked.promise == Promise(WRITER.promise.term, WRITER.promise.attempt_id)
    adopt = next_for_copy(WRITER, full(1, promised=7))
    assert isinstance(adopt, AskAdopt)
    assert adopt.adoption.history == TERMS
    assert adopt.adoption.members.identities == IDENTITIES
