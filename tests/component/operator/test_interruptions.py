"""The operator is struck at every write of a cluster's life, and the end is always the same.

In memory, where a life takes a fraction of a second, so that every write of every stretch has its
turn. ``test_real_api_server.py`` does the same against a real API server. Dying *before* write n
leaves the world as dying *after* write n-1 does, so here the operator dies after, there before.
"""

from __future__ import annotations

import copy

import pytest

from support.fake_kube import FakeKube
from support.interruptions import LIFE, Stretch, count_writes, end_state, live
from support.mortal import Hazard, Strike
from support.operator_world import World


async def _world_before(stretch: Stretch) -> World:
    """A world in which the stretches before this one have been lived."""
    world = World(FakeKube())
    await world.prepare()
    for earlier in LIFE[: LIFE.index(stretch)]:
        await live(world, earlier, Hazard(Strike.KILLED_AFTER, 0))
    return world


@pytest.mark.parametrize("strike", [Strike.KILLED_AFTER, Strike.UNANSWERED], ids=lambda s: s.value)
@pytest.mark.parametrize("stretch", LIFE, ids=lambda stretch: stretch.name)
async def test_every_write_may_be_the_last(stretch: Stretch, strike: Strike) -> None:
    before = await _world_before(stretch)
    writes, wanted = await count_writes(copy.deepcopy(before), stretch)
    for at in range(1, writes + 1):
        world = copy.deepcopy(before)
        hazard = Hazard(strike, at)
        await live(world, stretch, hazard)
        left = await end_state(world)
        where = f"{strike.value} at write {at} of {writes}: {hazard.told[at - 1]}"
        different = {key for key in {*left, *wanted} if left.get(key) != wanted.get(key)}
        assert not different, f"{where}: " + "; ".join(
            f"{key}: {left.get(key)} instead of {wanted.get(key)}" for key in sorted(different)
        )
