"""Every write of a cluster's life loses its answer once, and the end is always the same.

The operator lives on and does not know whether the write was done. In memory, where a life takes a
fraction of a second. That it *dies* at every write is tested in ``test_real_api_server.py``, on a
real API server.
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


@pytest.mark.parametrize("stretch", LIFE, ids=lambda stretch: stretch.name)
async def test_every_writes_answer_may_be_lost(stretch: Stretch) -> None:
    before = await _world_before(stretch)
    writes, wanted = await count_writes(copy.deepcopy(before), stretch)
    for at in range(1, writes + 1):
        world = copy.deepcopy(before)
        hazard = Hazard(Strike.UNANSWERED, at)
        await live(world, stretch, hazard)
        left = await end_state(world)
        where = f"no answer to write {at} of {writes}: {hazard.told[at - 1]}"
        different = {key for key in {*left, *wanted} if left.get(key) != wanted.get(key)}
        assert not different, f"{where}: " + "; ".join(
            f"{key}: {left.get(key)} instead of {wanted.get(key)}" for key in sorted(different)
        )
