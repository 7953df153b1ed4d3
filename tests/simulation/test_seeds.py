"""Some seeds for every run of the unit tests; ``make sim`` goes through many more.

A seed that failed is pasted into ``PASTED`` and replayed while its fault is looked for. Each change
of the simulation gives every seed another meaning, so what it showed then becomes a scenario.
"""

from __future__ import annotations

import pytest

from support.simulation.ledger import Violated
from support.simulation.run import run_seeds
from support.simulation.world import World

PASTED = (206, 590, 2772, 3599)


def test_i1_to_i6_hold_in_some_seeds() -> None:
    tally, stories = run_seeds(range(60))
    assert not stories, stories[0]
    assert tally.openings > 60, "too few openings: this shows nothing"
    assert tally.acknowledged > 120, "too few acknowledgements: this shows nothing"
    assert tally.chosen > 120, "too few terms: this shows nothing"


@pytest.mark.parametrize("seed", PASTED)
def test_a_seed_that_failed_once(seed: int) -> None:
    World(seed).run()


def test_a_seed_is_the_same_run_each_time() -> None:
    one, other = World(7), World(7)
    assert one.run() == other.run()
    assert one.story() == other.story()


@pytest.mark.parametrize(
    ("flaw", "seed"),
    [
        pytest.param("reports before sync", 0, id="4-ack-before-fsync"),
        pytest.param("stream survives promise", 0, id="5-log-after-promise"),
        pytest.param("promise not fsynced", 16, id="3-promise-not-fsynced"),
        pytest.param("mark forgotten", 13, id="18-tainted-data-reused"),
        pytest.param("cache survives reboot", 140, id="22-lost-cache-reused"),
        pytest.param("two connections a slot", 90, id="12-duplicate-connection"),
    ],
)
def test_a_world_with_a_flaw_is_found_out(flaw: str, seed: int) -> None:
    """What the stand-ins must keep, because the shells must: the simulation would notice."""
    for number in range(seed, seed + 1000):
        story = _violation(number, flaw)
        if story:
            assert f"seed {number}" in story
            assert len(story.splitlines()) > 10, "a story is told"
            return
    pytest.fail(f"none of the seeds found out: {flaw}")


def _violation(seed: int, flaw: str) -> str:
    try:
        World(seed, {flaw}).run()
    except Violated as violation:
        return str(violation)
    return ""
