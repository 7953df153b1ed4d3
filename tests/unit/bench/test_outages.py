"""What a probing client's log says of a failover."""

from __future__ import annotations

import pytest

from bench.outages import Round, outage_ms, summary, two_writers
from support.checker import Attempt, History, Outcome


def acked(number: int, begin: float, end: float, server: str = "a") -> Attempt:
    return Attempt(number, Outcome.ACKED, begin, end, server)


def failed(number: int, at: float) -> Attempt:
    return Attempt(number, Outcome.FAILED, at, at)


def test_an_outage_goes_from_the_last_ack_before_to_the_first_after() -> None:
    history = History((acked(1, 0.9, 1.0), failed(2, 1.1), acked(3, 1.3, 1.5), acked(4, 1.4, 1.6)))
    assert outage_ms(history, 1.05) == pytest.approx(500)


def test_a_second_pause_counts_when_it_is_longer() -> None:
    """A writer that opens, stands down and opens again was away all the time."""
    history = History((acked(1, 0, 1.0), acked(2, 1, 1.2), acked(3, 2, 4.2), acked(4, 3, 4.3)))
    assert outage_ms(history, 1.1) == pytest.approx(3000)


def test_no_write_after_the_strike_is_no_figure() -> None:
    with pytest.raises(ValueError, match="none after"):
        outage_ms(History((acked(1, 0, 1),)), 2.0)


def test_two_writers_are_seen_by_who_acknowledges_what_began_later() -> None:
    late = acked(2, 0.9, 2.1)  # began before the successor's first: only its answer was slow
    both = acked(4, 2.2, 2.3)
    history = History((acked(1, 0, 1), late, acked(3, 1, 2, "b"), both))
    assert two_writers(history) == 1


def test_a_summary_adds_up_what_went_wrong() -> None:
    rounds = [Round("sigkill", ms, 2 * ms, 10, 0, 1, 0, 0) for ms in (100.0, 300.0, 200.0)]
    line = summary(rounds)
    assert line["p50_ms"] == 200
    assert line["max_ms"] == 300
    assert line["session_p50_ms"] == 400
    assert line["acked"] == 30
    assert line["doubled"] == 3
