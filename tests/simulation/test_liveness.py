"""What must go on: a healthy writer that somebody wants to replace, and copies left stranded (H11).

Nothing breaks here but what each test breaks.
"""

from __future__ import annotations

import pytest

from support.simulation.instance import Instance, Role
from support.simulation.world import World


def open_world(seed: int) -> tuple[World, Instance]:
    """A volume with a writer that is well."""
    world = World(seed)
    world.make_fair()
    for _ in range(5000):
        world.step()
        writer = world.writer()
        if writer is not None and writer.acknowledged > writer.must_hold:
            return world, writer
    raise AssertionError("nobody opened the volume")


@pytest.mark.parametrize("seed", range(8))
def test_h11_a_lone_candidate_stops_no_healthy_writer(seed: int) -> None:
    """It cannot reach the writer's copies now and then, and the operator errs all the time."""
    world, writer = open_world(seed)
    term = writer.server and writer.server.term
    others = [one for one in world.instances if one is not writer]
    for round_ in range(40):
        others[round_ % 2].on_wish("open")
        if round_ % 10 == 0:
            world.network.heal()
            world.network.cut_apart({others[0].host, round_ // 10})
        for _ in range(60):
            world.step()
    told = len(world.ledger.line)
    world.network.heal()
    for _ in range(400):
        world.step()
    assert writer.role is Role.WRITER
    assert writer.server is not None
    assert writer.server.term == term
    assert len(world.ledger.line) > told


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stranded", [1, 2, 3, 4])
def test_h11_stranded_copies_are_taken_in(seed: int, stranded: int) -> None:
    """An attempt took promises above the writer's term, and died with its instance."""
    world, writer = open_world(seed)
    lone = next(one for one in world.instances if one is not writer)
    term = writer.server.term + 3 if writer.server else 0
    for pod in world.pods[:stranded]:
        pod.strand(term)
    lone.begin_life()
    for _ in range(4000):
        world.step()
        now = world.writer()
        if now is not None and now.server is not None and now.server.term > term:
            break
    if stranded >= 3:
        assert world.is_well(len(world.ledger.line)) or now is not None
        assert now is not None
        assert now.server is not None
        assert now.server.term > term
    else:
        assert now is writer, "two copies less stop nobody"
