"""What becomes of the switchover annotation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_operator.core.cluster.actions import (
    AcceptSwitchover,
    AskHandOver,
    EndSwitchover,
)
from aurora_operator.core.cluster.events import EventKind
from aurora_operator.core.cluster.failover import decide_opening
from aurora_operator.core.cluster.observation import (
    ClusterObservation,
    InstanceView,
    Role,
    SwitchoverRequest,
)
from aurora_operator.core.cluster.phases import ClusterPhase
from aurora_operator.core.cluster.plan import decide
from aurora_operator.core.cluster.switchover import (
    Accept,
    HandOver,
    Over,
    Refused,
    SwitchoverStep,
    next_switchover_step,
)
from aurora_operator.core.lsn import Term
from support.observations import healthy, instance, instances, name

WELL = healthy(replicas=2)
WRITER = instance(1, Role.WRITER)
ACCEPTED = SwitchoverRequest(name(3), Term(2), "17")


def asked(
    to: str | SwitchoverRequest,
    *views: InstanceView,
) -> ClusterObservation:
    request = to if isinstance(to, SwitchoverRequest) else SwitchoverRequest(to)
    seen = replace(WELL, instances=instances(*views)) if views else WELL
    return replace(seen, switchover=request)


CASES: dict[str, tuple[ClusterObservation, object]] = {
    "nothing-asked": (WELL, None),
    "to-one": (asked(name(3)), Accept(name(3), Term(2))),
    "to-any": (asked("any"), Accept(name(2), Term(2))),
    "to-any-but-none-is-healthy": (
        asked("any", WRITER, instance(2, healthy=False), instance(3, healthy=False)),
        Refused,
    ),
    "to-the-writer": (asked(name(1)), Refused),
    "to-nobody-known": (asked("shop-instance-7"), Refused),
    "to-one-that-is-ill": (asked(name(3), WRITER, instance(3, healthy=False)), Refused),
    "to-one-that-is-silent": (asked(name(3), WRITER, instance(2)), Refused),
    "accepted": (asked(ACCEPTED), HandOver(name(1), name(3), "17")),
    "accepted-and-under-way": (
        asked(ACCEPTED, instance(1, Role.WRITER, handing_over_to=name(3), hand_over_request="17")),
        None,
    ),
    "accepted-and-done": (
        asked(ACCEPTED, instance(3, Role.WRITER, term=Term(3)), instance(1)),
        Over(),
    ),
    "accepted-and-another-took-over": (
        asked(ACCEPTED, instance(2, Role.WRITER, term=Term(4)), instance(1)),
        Over(),
    ),
    "accepted-and-withdrawn": (
        asked(ACCEPTED, instance(1, Role.WRITER, hand_over_request="17"), instance(3)),
        Refused,
    ),
    "accepted-after-an-earlier-one-failed": (
        asked(ACCEPTED, instance(1, Role.WRITER, hand_over_request="5"), instance(3)),
        HandOver(name(1), name(3), "17"),
    ),
    "accepted-and-the-target-fell-ill": (
        asked(ACCEPTED, WRITER, instance(3, healthy=False)),
        Refused,
    ),
    "no-writer-is-open": (asked("any", instance(2), instance(3)), None),
}


@pytest.mark.parametrize("case", CASES)
def test_step(case: str) -> None:
    seen, expected = CASES[case]
    step: SwitchoverStep | None = next_switchover_step(seen, decide_opening(seen))
    if isinstance(expected, type):
        assert isinstance(step, expected), step
    else:
        assert step == expected


def test_an_accepted_request_is_asked_before_anything_else_and_told() -> None:
    plan = decide(asked(ACCEPTED))
    assert plan.actions[0] == AskHandOver(name(1), name(3), "17", "a switchover was asked for")
    assert [note.message for note in plan.notes] == [
        f"Started cross AZ failover to DB instance: {name(3)}"
    ]


def test_accepting_writes_before_it_asks() -> None:
    """So that an operator that dies in between carries it out once."""
    plan = decide(asked("any"))
    assert AcceptSwitchover(name(2), Term(2)) in plan.actions
    assert not any(isinstance(action, AskHandOver) for action in plan.actions)


def test_what_cannot_be_done_is_said_and_not_kept() -> None:
    plan = decide(asked("shop-instance-7"))
    assert EndSwitchover() in plan.actions
    told = [note for note in plan.notes if note.kind is EventKind.SWITCHOVER_REFUSED]
    assert len(told) == 1
    assert "no such instance; there are shop-instance-1" in told[0].message


def test_a_writer_that_hands_over_is_a_failover_in_rds_words() -> None:
    handing = instance(1, Role.WRITER, handing_over_to=name(3), door_open=False)
    plan = decide(asked(ACCEPTED, handing, instance(2), instance(3)))
    assert plan.phase is ClusterPhase.FAILING_OVER
    assert "hands over to shop-instance-3" in plan.sentence
