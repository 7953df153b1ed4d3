"""Faults drawn by seed on a real volume, and foreign checkers over what its clients saw."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from histories.faults import Fault, Kind, Role, Round, draw
from histories.loopback import Loopback
from histories.run import Result, run_seed
from support.volume import Volume

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIRST = int(os.environ.get("HISTORY_FIRST", "1"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("HISTORY_SEEDS", "1")))
ROUNDS = int(os.environ.get("HISTORY_ROUNDS", "2"))
HOLD_SECONDS = (0.5, 4.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground() -> AsyncIterator[Loopback]:
    async with Volume() as volume:
        await volume.be_born()
        await volume.open(volume.add_instance(1), "creation")
        async with Loopback(volume) as loopback:
            yield loopback


async def run(ground: Loopback, seed: int, rounds: tuple[Round, ...], folder: Path) -> Result:
    result = await run_seed(ground, seed, rounds, folder)
    print(result.line())
    assert not result.verdict.violations, result.line()
    return result


async def test_a_killed_writer(ground: Loopback, tmp_path: Path) -> None:
    """The plainest fault."""
    kill = Round((Fault(Kind.KILL_SERVER, 0, 0.5, Role.WRITER),))
    await run(ground, 0, (kill,), tmp_path / "history")


@pytest.mark.parametrize("seed", SEEDS)
async def test_faults_drawn_by_seed(ground: Loopback, tmp_path: Path, seed: int) -> None:
    """HISTORY_FIRST, HISTORY_SEEDS and HISTORY_ROUNDS make it others, more, or longer ones."""
    rounds = draw(seed, ground.kinds, rounds=ROUNDS, hold_seconds=HOLD_SECONDS)
    await run(ground, seed, rounds, tmp_path / "history")
