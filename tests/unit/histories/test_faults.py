"""A schedule is a function of its seed, stays within what a volume survives, misses nothing."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from histories.faults import (
    COPIES_FILLED_MAX,
    COPIES_HIT_MAX,
    HOLD_SECONDS,
    OF_COPIES,
    OF_INSTANCE,
    OF_ZONE,
    Fault,
    Kind,
    Role,
    Round,
    draw,
)

SEEDS = range(300)
ALL = frozenset(Kind)


@cache
def all_rounds() -> tuple[Round, ...]:
    return tuple(planned for seed in SEEDS for planned in draw(seed, ALL, rounds=3))


def test_a_seed_always_gives_the_same() -> None:
    assert draw(7, ALL, rounds=4) == draw(7, tuple(sorted(ALL, reverse=True)), rounds=4)
    assert draw(7, ALL, rounds=4) != draw(8, ALL, rounds=4)


def test_only_what_the_ground_can_do() -> None:
    able = {Kind.KILL_SERVER, Kind.FREEZE_COPIES}
    found = {f.kind for seed in SEEDS for r in draw(seed, able, rounds=2) for f in r.faults}
    assert found == able


def test_every_kind_strikes_alone_and_in_pairs() -> None:
    alone = {r.faults[0].kind for r in all_rounds() if len(r.faults) == 1}
    paired = Counter(f.kind for r in all_rounds() if len(r.faults) == 2 for f in r.faults)
    assert alone == ALL
    assert set(paired) == ALL


def test_pairs_overlap_and_never_hit_two_sets_of_copies() -> None:
    for planned in all_rounds():
        assert len(planned.faults) <= 2
        if len(planned.faults) == 2:
            first, second = planned.faults
            assert first.kind is not second.kind
            assert first.begin_seconds <= second.begin_seconds <= first.hold_seconds
            assert not {first.kind, second.kind} <= OF_COPIES | OF_ZONE


def test_faults_name_whom_they_hit() -> None:
    roles = Counter()  # type: Counter[Role]
    for fault in (f for planned in all_rounds() for f in planned.faults):
        assert HOLD_SECONDS[0] <= fault.hold_seconds <= HOLD_SECONDS[1]
        assert (fault.role is not None) is (fault.kind in OF_INSTANCE | OF_ZONE)
        assert bool(fault.slots) is (fault.kind in OF_COPIES)
        assert len(set(fault.slots)) == len(fault.slots)
        if fault.kind in OF_COPIES:
            assert len(fault.slots) <= COPIES_HIT_MAX.get(fault.kind, COPIES_FILLED_MAX)
        if fault.role is not None:
            roles[fault.role] += 1
    assert roles[Role.WRITER] > roles[Role.REPLICA] > 0


def test_wiping_never_reaches_what_cannot_be_survived() -> None:
    wiped = [f.slots for r in all_rounds() for f in r.faults if f.kind is Kind.WIPE_COPIES]
    assert wiped
    assert max(map(len, wiped)) <= 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(Kind.KILL_SERVER, 0, 1.5, Role.WRITER), "kill-server(writer)~1.5s"),
        (Fault(Kind.KILL_COPIES, 0, 2, None, (0, 5)), "kill-copies(0,5)~2.0s"),
        (Fault(Kind.STOP_API, 0, 3), "stop-api~3.0s"),
    ],
)
def test_a_fault_in_words(fault: Fault, words: str) -> None:
    assert str(fault) == words


def test_a_round_lasts_as_long_as_its_last_fault() -> None:
    faults = (Fault(Kind.STOP_API, 0, 3), Fault(Kind.KILL_SERVER, 2, 2, Role.WRITER))
    assert Round(faults).seconds == 4
