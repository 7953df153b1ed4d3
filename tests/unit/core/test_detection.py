"""Who notices that the writer is gone, and whose turn it is."""

from __future__ import annotations

import pytest

from aurora_operator.core.copy import StreamState
from aurora_operator.core.detection import (
    ABANDONED_SECONDS,
    ALONE_SECONDS,
    RANK_SECONDS,
    Sight,
    Standing,
    agree_writer_is_gone,
    backoff,
    decide_candidacy,
    decide_lone_restart,
    known_standings,
    misses_writer,
    rank,
)
from aurora_operator.core.lsn import SEGMENT_BYTES
from aurora_operator.core.names import InstanceName, Slot
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.verdicts import Proceed, Wait
from support.copies import at, full

LONG = 60.0


def standing(number: int, applied: int | None = 100, *, healthy: bool = True) -> Standing:
    lsn = None if applied is None else at(applied)
    return Standing(InstanceName(f"shop-instance-{number}"), healthy, lsn)


def sights(missing: int, of: int = 6, *standings: Standing) -> list[Sight]:
    return [Sight(Slot(n), n < missing, f"copy {n}", standings) for n in range(of)]


@pytest.mark.parametrize(
    ("stream", "promised", "beat_silent", "up", "misses"),
    [
        pytest.param(StreamState.STREAMING, 2, LONG, LONG, False, id="hears-its-writer"),
        pytest.param(StreamState.CLOSED, 2, 0.0, LONG, True, id="closed-counts-at-once"),
        pytest.param(StreamState.SILENT, 2, 0.0, LONG, True, id="silence-over-the-limit"),
        pytest.param(StreamState.NONE, 2, 1.9, LONG, False, id="a-candidate-may-be-at-work"),
        pytest.param(StreamState.NONE, 2, ABANDONED_SECONDS, LONG, True, id="abandoned-term"),
        pytest.param(StreamState.NONE, 2, LONG, 1.9, False, id="just-back"),
        pytest.param(StreamState.NONE, 1, LONG, LONG, False, id="never-opened"),
    ],
)
def test_when_a_copy_misses_its_writer(
    stream: StreamState, promised: int, beat_silent: float, up: float, misses: bool
) -> None:
    verdict = misses_writer(
        full(promised=promised), stream, beat_silent_seconds=beat_silent, up_seconds=up
    )
    assert isinstance(verdict, Proceed) is misses


@pytest.mark.parametrize(("missing", "agreed"), [(0, False), (2, False), (3, True), (6, True)])
def test_h24_three_copies_are_the_sign(missing: int, agreed: bool) -> None:
    """Two that lost touch leave a writer with its quorum; three do not."""
    assert isinstance(agree_writer_is_gone(sights(missing), AURORA_QUORUM), Proceed) is agreed


def test_a_minority_that_sees_three_copies_only_needs_all_of_them() -> None:
    assert isinstance(agree_writer_is_gone(sights(2, of=3), AURORA_QUORUM), Wait)
    assert isinstance(agree_writer_is_gone(sights(3, of=3), AURORA_QUORUM), Proceed)


def test_rank_is_health_then_position_then_name() -> None:
    ranked = rank(
        [
            standing(4, 9 * SEGMENT_BYTES, healthy=False),
            standing(3, SEGMENT_BYTES),
            standing(2, None),
            standing(5, 3 * SEGMENT_BYTES),
            standing(1, SEGMENT_BYTES),
        ]
    )
    assert [s.name[-1] for s in ranked] == ["5", "1", "3", "2", "4"]


def test_positions_in_one_segment_are_alike() -> None:
    """They move while they are told; two replicas must not see two orders."""
    ahead, behind = standing(2, 5_000), standing(1, 4_000)
    assert rank([ahead, behind]) == [behind, ahead]


def test_what_copies_heard_of_an_instance_differs_and_the_furthest_counts() -> None:
    """So that two replicas that see the same copies do not both call themselves first."""
    seen = [
        Sight(Slot(0), True, "", (standing(1, 100), standing(2, 150))),
        Sight(Slot(1), True, "", (standing(1, 200), standing(2, 150))),
    ]
    assert known_standings(seen) == (standing(1, 200), standing(2, 150))
    assert known_standings([seen[0]]) == (standing(1, 100), standing(2, 150))
    assert known_standings(reversed(seen)) == known_standings(seen)


@pytest.mark.parametrize(
    ("number", "agreed_seconds", "backoff_seconds", "stands"),
    [
        pytest.param(1, 0.0, 0.0, True, id="best-at-once"),
        pytest.param(1, 0.2, 0.3, False, id="best-was-refused-just-now"),
        pytest.param(1, 0.3, 0.3, True, id="best-again"),
        pytest.param(2, RANK_SECONDS - 0.01, 0.0, False, id="second-waits"),
        pytest.param(2, RANK_SECONDS, 0.0, True, id="second-when-the-best-did-not"),
        pytest.param(3, RANK_SECONDS, 0.0, False, id="third-waits-longer"),
        pytest.param(9, LONG, 0.0, False, id="unknown-to-the-copies"),
    ],
)
def test_each_rank_has_its_turn(
    number: int, agreed_seconds: float, backoff_seconds: float, stands: bool
) -> None:
    seen = sights(3, 6, standing(2, 200), standing(3, 100), standing(1, 100))
    verdict = decide_candidacy(
        standing(number).name,
        seen,
        agreed_seconds=agreed_seconds,
        backoff_seconds=backoff_seconds,
        policy=AURORA_QUORUM,
    )
    assert isinstance(verdict, Proceed) is stands


def test_nobody_stands_while_the_copies_hear_a_writer() -> None:
    verdict = decide_candidacy(
        standing(1).name,
        sights(2, 6, standing(1)),
        agreed_seconds=LONG,
        backoff_seconds=0.0,
        policy=AURORA_QUORUM,
    )
    assert verdict == Wait("2 of 6 copies miss the writer")


@pytest.mark.parametrize(
    ("others", "copies", "alone_seconds", "restarts"),
    [
        pytest.param((), 6, ALONE_SECONDS, True, id="nobody-else"),
        pytest.param((), 6, 0.5, False, id="somebody-may-come"),
        pytest.param((), 3, LONG, False, id="too-few-copies-answer"),
        pytest.param((2,), 6, LONG, False, id="a-replica-opens"),
    ],
)
def test_rule_11_an_ended_writer_restarts_unasked_only_alone(
    others: tuple[int, ...], copies: int, alone_seconds: float, restarts: bool
) -> None:
    seen = sights(copies, copies, *(standing(number) for number in others))
    verdict = decide_lone_restart(
        standing(1).name, seen, alone_seconds=alone_seconds, policy=AURORA_QUORUM
    )
    assert isinstance(verdict, Proceed) is restarts


def test_backoff_doubles_is_bounded_and_random() -> None:
    assert backoff(0, 0.9) == 0.0
    assert [backoff(n, 0.5) for n in range(1, 7)] == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0]
    assert backoff(10_000, 0.5) == 4.0
    assert backoff(1, 0.0) < backoff(1, 0.99)
