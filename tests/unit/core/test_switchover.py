"""What the writer does next while it hands over, and to whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_operator.core.names import InstanceName
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.switchover import (
    CONSENT_SECONDS,
    DRAIN_SECONDS,
    END_SECONDS,
    LAG_BYTES_MAX,
    LIMITS_SECONDS,
    SETTLE_SECONDS,
    STRANDED_HOLD_SECONDS,
    Moved,
    Peer,
    SwitchoverFacts,
    SwitchoverState,
    choose_target,
    may_take_in_stranded,
    next_state,
)
from aurora_operator.core.verdicts import Proceed, Refuse
from support.copies import at

DRAINING, ENDING, SETTLING, CONSENTING, HANDED_OVER, WITHDRAWN = SwitchoverState

CASES = {
    "transactions-run": (DRAINING, SwitchoverFacts(sessions=2), 0.5, None),
    "not-looked-yet": (DRAINING, SwitchoverFacts(), 0.5, None),
    "all-finished": (DRAINING, SwitchoverFacts(sessions=0), 0.1, SETTLING),
    "they-had-their-time": (DRAINING, SwitchoverFacts(sessions=2), DRAIN_SECONDS, ENDING),
    "sessions-end": (ENDING, SwitchoverFacts(sessions=1), 0.5, None),
    "sessions-ended": (ENDING, SwitchoverFacts(sessions=0), 0.5, SETTLING),
    "a-session-hangs": (ENDING, SwitchoverFacts(sessions=1), END_SECONDS, WITHDRAWN),
    "log-not-durable": (SETTLING, SwitchoverFacts(log_end=at(9), vdl=at(8)), 0.1, None),
    "log-durable": (SETTLING, SwitchoverFacts(log_end=at(9), vdl=at(9)), 0.1, CONSENTING),
    "log-never-durable": (
        SETTLING,
        SwitchoverFacts(log_end=at(9), vdl=at(8)),
        SETTLE_SECONDS,
        WITHDRAWN,
    ),
    "no-vdl": (SETTLING, SwitchoverFacts(log_end=at(9)), SETTLE_SECONDS, WITHDRAWN),
    "target-opens": (CONSENTING, SwitchoverFacts(), 1.0, None),
    "target-died": (CONSENTING, SwitchoverFacts(target_lost="it is gone"), 0.1, WITHDRAWN),
    "target-died-before": (DRAINING, SwitchoverFacts(target_lost="it is gone"), 0.1, WITHDRAWN),
    "target-slow": (CONSENTING, SwitchoverFacts(), CONSENT_SECONDS, WITHDRAWN),
}


@pytest.mark.parametrize("case", CASES)
def test_the_next_state(case: str) -> None:
    state, facts, seconds, expected = CASES[case]
    moved = next_state(state, facts, seconds)
    assert (None if moved is None else moved.state) is expected


@pytest.mark.parametrize("state", LIMITS_SECONDS)
def test_rule_12_three_higher_promises_end_it_in_every_state(state: SwitchoverState) -> None:
    """Also when it is late, and when the target seems lost: it would never come back as writer."""
    facts = SwitchoverFacts(superseded=True, sessions=0, target_lost="it seems gone")
    moved = next_state(state, facts, LIMITS_SECONDS[state])
    assert moved is not None
    assert moved.state is HANDED_OVER


@pytest.mark.parametrize("state", [HANDED_OVER, WITHDRAWN])
def test_the_last_states_are_the_last(state: SwitchoverState) -> None:
    assert next_state(state, SwitchoverFacts(superseded=True, sessions=0), 60) is None


@pytest.mark.parametrize("facts", [SwitchoverFacts(), SwitchoverFacts(sessions=3, vdl=at(5))])
def test_a_switchover_that_gets_nowhere_ends_withdrawn(facts: SwitchoverFacts) -> None:
    """From whatever state: each has a limit, and no consent is given on the way."""
    for first in LIMITS_SECONDS:
        state, seen = first, [first]
        while (moved := next_state(state, facts, LIMITS_SECONDS[state])) is not None:
            state = moved.state
            seen.append(state)
            if state in (HANDED_OVER, WITHDRAWN):
                break
        assert state is WITHDRAWN
        assert first is CONSENTING or CONSENTING not in seen


def test_rule_2_no_consent_before_sessions_and_log_are_at_an_end() -> None:
    """Whatever else is true: consent follows only a log that four copies hold to its end."""
    for facts in (
        SwitchoverFacts(sessions=1, log_end=at(9), vdl=at(9)),
        SwitchoverFacts(sessions=0, log_end=at(9), vdl=at(8)),
        SwitchoverFacts(sessions=0),
    ):
        for state in (DRAINING, ENDING, SETTLING):
            if state is SETTLING and facts.vdl == facts.log_end is not None:
                continue
            for seconds in (0.0, 0.5, 10.0):
                moved = next_state(state, facts, seconds)
                assert moved is None or moved.state is not CONSENTING


GOOD = Peer(InstanceName("shop-instance-2"), True, True, False, at(100))


def named(number: int, **changes: object) -> Peer:
    return replace(GOOD, name=InstanceName(f"shop-instance-{number}"), **changes)  # type: ignore[arg-type]


TARGETS = {
    "furthest": ((named(2), named(3, applied_lsn=at(101))), 3),
    "first-by-name": ((named(4), named(3)), 3),
    "opening-already": ((named(2), named(3, opening=True, can_open=False, healthy=False)), 3),
    "ill": ((named(2, healthy=False), named(3)), 3),
    "cannot": ((named(2, can_open=False), named(3)), 3),
}


@pytest.mark.parametrize("case", TARGETS)
def test_the_target(case: str) -> None:
    peers, number = TARGETS[case]
    chosen = choose_target(peers, at(100), 6, AURORA_QUORUM)
    assert isinstance(chosen, Peer)
    assert chosen.name == f"shop-instance-{number}"


REFUSED = {
    "nobody": ((), 6, "no other instance"),
    "only-ill": ((named(2, healthy=False),), 6, "cannot take over"),
    "far-behind": ((GOOD,), 6, "behind"),
    "three-copies": ((GOOD,), 3, "3 copies"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_no_target(case: str) -> None:
    peers, copies, told = REFUSED[case]
    vdl = at(101 + LAG_BYTES_MAX) if case == "far-behind" else at(100)
    chosen = choose_target(peers, vdl, copies, AURORA_QUORUM)
    assert isinstance(chosen, Refuse)
    assert told in chosen.sentence


@pytest.mark.parametrize(
    ("open_seconds", "asked", "yes"),
    [
        pytest.param(STRANDED_HOLD_SECONDS, False, True, id="now"),
        pytest.param(STRANDED_HOLD_SECONDS - 1, False, False, id="just-opened"),
        pytest.param(STRANDED_HOLD_SECONDS, True, False, id="once-a-term"),
    ],
)
def test_stranded_copies_are_worth_one_switchover(
    open_seconds: float, asked: bool, yes: bool
) -> None:
    verdict = may_take_in_stranded(open_seconds=open_seconds, asked=asked)
    assert isinstance(verdict, Proceed) is yes


def test_states_move_with_a_sentence() -> None:
    moved = next_state(DRAINING, SwitchoverFacts(sessions=0), 0)
    assert moved == Moved(SETTLING, "no client session is left")
