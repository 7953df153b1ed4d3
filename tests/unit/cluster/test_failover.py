"""Whom to ask when no writer is open: the table of cases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aurora_operator.core.cluster.failover import (
    ASKS_BEFORE_NEXT,
    HandOverAt,
    OpenAt,
    Replace,
    RestartAt,
    Wait,
    WriterInDoubt,
    WriterOpen,
    decide_opening,
    rank_candidates,
)
from aurora_operator.core.cluster.observation import ClusterObservation, NodeView, Role
from aurora_operator.core.lsn import SEGMENT_BYTES, Lsn, Term
from support.observations import NODES, healthy, instance, instances, name, pod, without


def with_writer_pod(seen: ClusterObservation, **changes: Any) -> ClusterObservation:
    pods = dict(seen.instance_pods)
    pods[1] = replace(pods[1], **changes)
    return replace(seen, instance_pods=pods)


def answers(seen: ClusterObservation, *views: Any) -> ClusterObservation:
    return replace(seen, instances=instances(*views))


WELL = healthy(replicas=2)
REPLICAS = (instance(2), instance(3))
STOPPED = instance(1, Role.STOPPED, restartable=True)
SHUT = instance(1, Role.WRITER, door_open=False)
HANDING = instance(1, Role.WRITER, handing_over_to=name(2), door_open=False)
DELETION = "deletion of uid-shop-instance-1"
ALONE = healthy(replicas=0)
LOST_NODE = tuple(
    replace(node, ready=False) if node.name == NODES[0].name else node for node in NODES
)

CASES = {
    "writer-open": (WELL, WriterOpen),
    "writer-pod-deleted": (with_writer_pod(WELL, terminating=True), HandOverAt),
    "writer-pod-deleted-and-silent": (
        with_writer_pod(answers(WELL, *REPLICAS), terminating=True),
        OpenAt,
    ),
    "writer-pod-deleted-and-it-could-not-hand-over": (
        with_writer_pod(
            answers(WELL, instance(1, Role.WRITER, hand_over_request=DELETION), *REPLICAS),
            terminating=True,
        ),
        OpenAt,
    ),
    "writer-pod-deleted-and-no-replica-is-well": (
        with_writer_pod(
            answers(WELL, instance(1, Role.WRITER), instance(2, can_open=False)), terminating=True
        ),
        Wait,
    ),
    "writer-hands-over": (answers(WELL, HANDING, *REPLICAS), Wait),
    "writer-hands-over-for-long": (
        replace(answers(WELL, HANDING, *REPLICAS), shut_seconds={name(1): 6.0}),
        Wait,
    ),
    "writer-pod-deleted-hands-over": (
        with_writer_pod(answers(WELL, HANDING, *REPLICAS), terminating=True),
        Wait,
    ),
    "a-newer-writer-is-open-while-the-old-pod-ends": (
        with_writer_pod(
            answers(WELL, instance(1, Role.WRITER), instance(2, Role.WRITER, term=Term(3))),
            terminating=True,
        ),
        WriterOpen,
    ),
    "writer-pod-gone": (
        replace(answers(WELL, *REPLICAS), instance_pods=without(WELL.instance_pods, 1)),
        OpenAt,
    ),
    "writer-pod-evicted": (with_writer_pod(answers(WELL, *REPLICAS), phase="Failed"), OpenAt),
    "server-ended-by-condition": (with_writer_pod(WELL, server_running=False), OpenAt),
    "server-ended-by-answer": (answers(WELL, STOPPED, *REPLICAS), OpenAt),
    "container-restarted": (answers(WELL, instance(1, Role.STARTING), *REPLICAS), OpenAt),
    "node-lost": (replace(answers(WELL, *REPLICAS), nodes=LOST_NODE), OpenAt),
    "writer-silent-for-a-moment": (
        replace(answers(WELL, *REPLICAS), silent_seconds={name(1): 0.5}),
        WriterInDoubt,
    ),
    "writer-silent-for-long": (
        replace(answers(WELL, *REPLICAS), silent_seconds={name(1): 3.0}),
        OpenAt,
    ),
    "writer-shut-its-door-a-moment-ago": (
        replace(answers(WELL, SHUT, *REPLICAS), shut_seconds={name(1): 2.9}),
        WriterOpen,
    ),
    "writer-shut-its-door": (
        replace(answers(WELL, SHUT, *REPLICAS), shut_seconds={name(1): 3.0}),
        OpenAt,
    ),
    "alone-and-its-door-is-shut": (
        replace(answers(ALONE, SHUT), shut_seconds={name(1): 60.0}),
        Wait,
    ),
    "writers-name-on-a-new-pod": (
        with_writer_pod(answers(WELL, *REPLICAS), server_running=None),
        OpenAt,
    ),
    "candidate-at-work": (
        with_writer_pod(answers(WELL, instance(2, Role.OPENING), instance(3)), terminating=True),
        Wait,
    ),
    "candidate-at-work-but-its-pod-ends": (
        replace(
            answers(WELL, instance(2, Role.OPENING), instance(3)),
            instance_pods={
                1: pod(name(1), terminating=True),
                2: pod(name(2), terminating=True),
                3: pod(name(3)),
            },
        ),
        OpenAt,
    ),
    "alone-and-restartable": (answers(ALONE, STOPPED), RestartAt),
    "alone-and-not-restartable": (answers(ALONE, instance(1, Role.STOPPED)), Replace),
    "not-restartable-but-another-comes-up": (
        answers(WELL, instance(1, Role.STOPPED), instance(2, Role.STARTING)),
        Wait,
    ),
    "restartable-and-replica-not-healthy": (
        answers(WELL, STOPPED, instance(2, healthy=False)),
        RestartAt,
    ),
    "every-instance-new": (
        answers(
            WELL,
            *(instance(n, Role.REPLICA, healthy=False) for n in (1, 2, 3)),
        ),
        OpenAt,
    ),
    "nobody-answers-yet": (
        replace(answers(WELL), instance_pods={2: pod(name(2))}),
        Wait,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_case(case: str) -> None:
    seen, kind = CASES[case]
    decided = decide_opening(seen)
    assert isinstance(decided, kind), decided


def test_best_is_healthy_then_furthest_then_first_by_name() -> None:
    seen = answers(
        healthy(replicas=4),
        instance(2, healthy=False, applied_lsn=Lsn(9 * SEGMENT_BYTES)),
        instance(3, applied_lsn=Lsn(7 * SEGMENT_BYTES)),
        instance(4, applied_lsn=Lsn(8 * SEGMENT_BYTES)),
        instance(5, applied_lsn=Lsn(8 * SEGMENT_BYTES)),
    )
    assert [view.name for view in rank_candidates(seen)] == [name(n) for n in (4, 5, 3, 2)]


def test_a_candidate_on_a_lost_node_or_in_an_ending_pod_is_none() -> None:
    nodes = (*NODES, NodeView("node-x", "zone-a", ready=False))
    seen = replace(
        answers(WELL, instance(2), instance(3)),
        nodes=nodes,
        instance_pods={2: pod(name(2), terminating=True), 3: pod(name(3), node="node-x")},
    )
    assert rank_candidates(seen) == []


def test_of_two_who_say_writer_the_higher_term_is() -> None:
    seen = answers(
        WELL,
        instance(1, Role.WRITER, term=Term(2)),
        instance(2, Role.WRITER, term=Term(3)),
        instance(3),
    )
    decided = decide_opening(seen)
    assert isinstance(decided, WriterOpen)
    assert decided.writer == name(2)


def test_a_stale_writer_is_not_open_because_the_newer_one_shut_its_door() -> None:
    seen = answers(
        WELL,
        instance(1, Role.WRITER, term=Term(2)),
        instance(2, Role.WRITER, term=Term(3), door_open=False),
        instance(3),
    )
    decided = decide_opening(replace(seen, shut_seconds={name(2): 3.0}))
    assert isinstance(decided, OpenAt)
    assert decided.instance == name(3)


def test_one_that_never_manages_gives_way_to_the_next() -> None:
    seen = with_writer_pod(answers(WELL, *REPLICAS), terminating=True)
    first = decide_opening(seen)
    later = decide_opening(replace(seen, openings_asked=ASKS_BEFORE_NEXT))
    assert isinstance(first, OpenAt)
    assert isinstance(later, OpenAt)
    assert {first.instance, later.instance} == {name(2), name(3)}
