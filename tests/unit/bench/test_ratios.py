"""The figures' arithmetic: drifts cancel, unsteady moments are dropped and counted."""

from __future__ import annotations

import math

import pytest

from bench.ratios import (
    Sample,
    interval,
    percentile,
    ratio_between,
    ratio_to_control,
    turn_order,
)


def sample(arm: str, turn: int, tps: float, before: float, after: float | None = None) -> Sample:
    return Sample(arm, turn, tps, before, before if after is None else after)


def test_a_machine_that_slows_down_changes_no_ratio() -> None:
    samples = [
        s
        for turn, speed in enumerate((1.0, 0.5, 0.1))
        for s in (
            sample("ours", turn, 300 * speed, 1000 * speed),
            sample("other", turn, 400 * speed, 1000 * speed),
        )
    ]
    assert ratio_to_control(samples, "ours").median == pytest.approx(0.3)
    between = ratio_between(samples, "ours", "other")
    assert between.median == between.low == between.high == pytest.approx(0.75)
    assert (between.n, between.dropped) == (3, 0)


@pytest.mark.parametrize(("after", "kept"), [(850.0, 1), (849.0, 0), (1170.0, 1), (1180.0, 0)])
def test_a_sample_between_unlike_controls_is_dropped(after: float, kept: int) -> None:
    ratio = ratio_to_control([sample("ours", 0, 300, 1000, after)], "ours")
    assert (ratio.n, ratio.dropped) == (kept, 1 - kept)


def test_a_pair_needs_both_sides_steady() -> None:
    samples = [
        sample("ours", 0, 300, 1000),
        sample("other", 0, 400, 1000, 500),
        sample("ours", 1, 300, 1000),
        sample("other", 1, 600, 1000),
        sample("ours", 2, 300, 1000),
    ]
    ratio = ratio_between(samples, "ours", "other")
    assert ratio.median == pytest.approx(0.5)
    assert (ratio.n, ratio.dropped) == (1, 1)


def test_without_a_steady_pair_there_is_no_figure() -> None:
    ratio = ratio_to_control([sample("ours", 0, 300, 1000, 10)], "ours")
    assert math.isnan(ratio.median)
    assert str(ratio) == "none of 1 pairs was steady"


def test_the_interval_holds_the_median_and_is_repeatable() -> None:
    values = [1.0, 1.1, 0.9, 1.05, 5.0, 1.02, 0.97]
    low, high = interval(values)
    assert 0.9 <= low <= 1.02 <= high <= 5.0
    assert (low, high) == interval(values)


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.99) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_every_second_turn_goes_backwards() -> None:
    assert [turn_order("ab", turn) for turn in range(3)] == [("a", "b"), ("b", "a"), ("a", "b")]
