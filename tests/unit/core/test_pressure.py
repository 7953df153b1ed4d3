"""What a copy says of itself when it cannot keep up, and what gives way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_operator.core.copy import CopyState
from aurora_operator.core.lsn import Lsn
from aurora_operator.core.pressure import (
    Pressure,
    PressureFacts,
    is_left_behind,
    is_low_on_space,
    judge_pressure,
    may_run_page_store,
    reserve_bytes,
)
from support.copies import at, full, without_say

GIB = 1024**3
WELL = PressureFacts(free_bytes=50 * GIB, total_bytes=100 * GIB)


@pytest.mark.parametrize(
    ("total", "reserve"),
    [(100 * GIB, 10 * GIB), (10 * GIB, GIB), (5 * GIB, GIB), (2 * GIB, GIB // 2)],
    ids=["a-tenth", "both", "at-least-1-GiB", "small-disk"],
)
def test_the_reserve_of_the_log(total: int, reserve: int) -> None:
    assert reserve_bytes(total) == reserve
    assert is_low_on_space(reserve - 1, total)
    assert not is_low_on_space(reserve, total)


@pytest.mark.parametrize(
    ("free", "log", "runs", "may"),
    [
        pytest.param(100, 50, True, True, id="at-the-reserve"),
        pytest.param(99, 50, True, False, id="below-it"),
        pytest.param(100, 50, False, False, id="not-again-at-once"),
        pytest.param(125, 50, False, True, id="again-with-more"),
        pytest.param(99, 101, True, True, id="small-pages-and-much-log"),
        pytest.param(0, 200, True, True, id="nothing-free-but-for-log"),
        pytest.param(0, 200, False, True, id="go-on-so-that-log-can-go"),
        pytest.param(99, 100, True, False, id="large-pages"),
    ],
)
def test_pages_stand_below_the_reserve_and_go_on_well_above_it(
    free: int, log: int, runs: bool, may: bool
) -> None:
    """A disk of 400: a reserve of 100, and a bound of 100 for the log."""
    assert may_run_page_store(free, 400, log, runs=runs) is may


@pytest.mark.parametrize(
    ("facts", "state", "words"),
    [
        pytest.param(WELL, Pressure.NONE, "", id="well"),
        pytest.param(replace(WELL, free_bytes=GIB), Pressure.LOW_SPACE, "Raise", id="low-space"),
        pytest.param(
            replace(WELL, behind_seconds=3.0, behind_bytes=7), Pressure.SLOW, "7 bytes", id="slow"
        ),
        pytest.param(replace(WELL, behind_seconds=2.9), Pressure.NONE, "", id="a-moment-behind"),
        pytest.param(
            replace(WELL, long_sync_seconds=0.4), Pressure.SLOW, "0.4 s over an fsync", id="fsync"
        ),
        pytest.param(
            replace(WELL, free_bytes=0, refusal="ENOSPC", behind_seconds=9),
            Pressure.NO_ROOM,
            "ENOSPC",
            id="no-room-comes-before-slow",
        ),
        pytest.param(
            replace(WELL, refusal="ENOSPC", left_behind=True),
            Pressure.LEFT_BEHIND,
            "filled anew",
            id="left-behind-comes-first",
        ),
    ],
)
def test_the_worst_is_told_with_what_to_do(
    facts: PressureFacts, state: Pressure, words: str
) -> None:
    verdict = judge_pressure(facts)
    assert verdict.state is state
    assert words in verdict.sentence
    assert bool(verdict.sentence) is (state is not Pressure.NONE)


OWN = full(0, scl=100)


@pytest.mark.parametrize(
    ("starts", "scl_before", "expected"),
    [
        ([200] * 5, 100, True),
        ([200] * 4, 100, True),
        ([200] * 3, 100, False),
        ([200, 200, 200, 200, 100], 100, False),
        ([200] * 5, 90, False),
        ([200] * 5, None, False),
    ],
    ids=["nobody-has-it", "four-answer", "three-answer", "one-has-it", "moves", "first-look"],
)
def test_a_copy_is_left_behind_when_nobody_keeps_what_it_needs(
    starts: list[int], scl_before: int | None, expected: bool
) -> None:
    peers = [replace(full(n + 1, scl=300), log_start=at(start)) for n, start in enumerate(starts)]
    before: Lsn | None = None if scl_before is None else at(scl_before)
    assert is_left_behind(OWN, before, peers) is expected


def test_only_full_copies_count_for_being_left_behind() -> None:
    blank = [without_say(CopyState.BLANK, slot) for slot in range(1, 6)]
    assert not is_left_behind(OWN, OWN.scl, blank)
