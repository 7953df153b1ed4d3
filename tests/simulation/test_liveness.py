"""What must go on: a healthy writer that somebody wants to replace, and copies left stranded (H11).

Nothing breaks here but what each test breaks.
"""

from __future__ import annotations

import pytest

from support.simulation.attempt import Role
from support.simulation.instance import Instance
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


def strand(world: World, writer: Instance, copies: int, above: int) -> int:
    """An attempt took promises of so many copies, ``above`` the writer's term, and died."""
    assert writer.server is not None
    term = writer.server.term + above
    for pod in world.pods[:copies]:
        pod.strand(term)
    next(one for one in world.instances if one is not writer).begin_life()
    return term


def wait_for_a_term_above(world: World, term: int) -> None:
    for _ in range(8000):
        world.step()
        now = world.writer()
        if now is not None and now.server is not None and now.server.term > term:
            return
    raise AssertionError(f"nobody took the stranded copies in\n{world.story()}")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stranded", [3, 4])
def test_h11_three_stranded_must_recover(seed: int, stranded: int) -> None:
    world, writer = open_world(seed)
    wait_for_a_term_above(world, strand(world, writer, stranded, above=3))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stranded", [1, 2])
def test_h11_fewer_stranded_stop_nobody(seed: int, stranded: int) -> None:
    world, writer = open_world(seed)
    strand(world, writer, stranded, above=3)
    told = len(world.ledger.line)
    for _ in range(2000):
        world.step()
    assert writer.role is Role.WRITER
    assert len(world.ledger.line) > told


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("stranded", "lost"), [(2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("above", [0, 3])
def test_h11_stranded_and_lost_copies_together_must_recover(
    seed: int, stranded: int, lost: int, above: int
) -> None:
    """Fewer than three promised higher, and yet this writer never commits again.

    ``above`` 0: they promised to another attempt of the writer's own term.
    """
    world, writer = open_world(seed)
    for pod in world.pods[6 - lost :]:
        pod.wipe()
    wait_for_a_term_above(world, strand(world, writer, stranded, above))
