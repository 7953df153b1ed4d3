"""The life of an instance, killed after every single step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aurora_operator.api.messages import InstanceRole
from support.copies import promise
from support.small_machine import SmallInstance
from support.small_volume import SmallPod, SmallVolume

TAIL_BYTES = 50


async def leave_a_tail(volume: SmallVolume, directory: Path) -> None:
    """A writer of term 2 that died with log on three copies, which nobody acknowledged."""
    before = SmallInstance(volume, directory / "before", number=2)
    before.begin()
    await before.become(InstanceRole.REPLICA)
    await before.open()
    volume.dry = {3, 4, 5}
    before.machine.write(TAIL_BYTES)
    volume.pull()
    await before.end()
    volume.dry = set()


def supersede(volume: SmallVolume, pods: list[SmallPod], term: int) -> None:
    """Another candidate gets so many promises."""
    for pod in pods:
        assert pod.store.promise(promise(term, "another"), pod.asks.stop_stream) is None


async def live_through_everything(volume: SmallVolume, one: SmallInstance) -> None:
    """Opens with a tail, ends, cannot restart; opens, ends, restarts; and is superseded."""
    one.begin()
    await one.become(InstanceRole.REPLICA)
    await one.open()
    if not one.process.dead.is_set():
        volume.dry = {0, 1, 2}
        one.machine.write(TAIL_BYTES)
    one.machine.crash()
    await one.become(InstanceRole.STOPPED)
    one.life.wish_restart()
    await one.become(InstanceRole.REPLICA)
    volume.dry = set()
    await one.open()
    one.machine.crash()
    await one.become(InstanceRole.STOPPED)
    await one.open()
    if not one.process.dead.is_set():
        supersede(volume, volume.pods[:3], term=9)
    await one.become(InstanceRole.REPLICA)


async def test_rule_11_a_death_after_any_step_leaves_data_that_the_next_life_judges_right(
    tmp_path: Path, volume_of: Callable[[Path], SmallVolume]
) -> None:
    """The next life never starts on half a directory, nor on log that the volume may not keep."""
    step = 0
    while True:
        step += 1
        directory = tmp_path / f"killed-after-{step}"
        directory.mkdir()
        volume = volume_of(directory)
        await leave_a_tail(volume, directory)
        acknowledged = sorted(pod.scl for pod in volume.pods)[2]
        one = SmallInstance(volume, directory / "one", kill_after=step)
        await live_through_everything(volume, one)
        volume.dry = set()
        finished = not one.process.dead.is_set()
        await one.end()
        again = SmallInstance(volume, directory / "one")
        again.begin()
        await again.open()
        where = f"killed after {one.process.steps}"
        assert not volume.violations, where
        assert again.life.role is InstanceRole.WRITER, where
        assert sum(pod.scl > acknowledged for pod in volume.pods) >= 4, where
        assert again.machine.history.term_of_byte(acknowledged) is not None, where
        await again.end()
        await volume.close()
        if finished:
            break
    assert step > 20, "every step was killed after once"
