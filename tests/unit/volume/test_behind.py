"""A copy that stays behind notices, and one that only lags or is alone does not."""

from __future__ import annotations

import pytest

from aurora_operator.core.gate import ServePoint
from aurora_operator.core.lsn import Term
from aurora_operator.volume.behind import Behind
from support.copies import at


class Bench:
    """A clock to move, and points in short."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.behind = Behind(lambda: self.now)

    def hear(self, own: int, other: int, term: int = 7) -> None:
        self.behind.compare(point(own), point(other, term))

    def seconds(self, own: int) -> float:
        return self.behind.seconds(point(own))


def point(offset: int, term: int = 7) -> ServePoint:
    return ServePoint(at(offset), Term(term))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_copy_that_stands_still_is_behind_from_the_first_it_lacks(bench: Bench) -> None:
    for second in range(5):
        bench.hear(100, 200 + second)
        bench.now += 1
    assert bench.seconds(100) == 5


def test_a_copy_that_lags_but_moves_is_behind_for_its_lag_only(bench: Bench) -> None:
    for second in range(10):
        bench.hear(100 * second, 100 * second + 150)
        bench.now += 1
    assert bench.seconds(900) <= 2


def test_a_copy_that_caught_up_is_not_behind(bench: Bench) -> None:
    bench.hear(100, 200)
    bench.now += 4
    assert bench.seconds(100) == 4
    assert bench.seconds(200) == 0


def test_a_later_term_is_ahead_whatever_its_positions(bench: Bench) -> None:
    bench.hear(100, 90, term=8)
    bench.now += 4
    assert bench.seconds(100) == 4


def test_an_older_term_is_not_ahead(bench: Bench) -> None:
    bench.hear(100, 900, term=6)
    bench.now += 4
    assert bench.seconds(100) == 0


def test_a_copy_that_serves_nothing_is_behind_whoever_serves_something(bench: Bench) -> None:
    bench.behind.compare(None, point(1))
    bench.now += 4
    assert bench.behind.seconds(None) == 4


def test_rule_10_the_best_that_is_left_is_not_behind(bench: Bench) -> None:
    """Those that served more are gone: nobody says so any longer."""
    bench.hear(100, 200)
    bench.now += 10
    assert bench.seconds(100) == 0
    bench.hear(100, 200)
    assert bench.seconds(100) == 10, "they are back, and it stood still all the time"
