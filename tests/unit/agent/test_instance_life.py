"""The life of an instance, killed after every single step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from aurora_operator.agent.instance import opening, replica, restart
from aurora_operator.agent.instance.machine import Machine
from aurora_operator.api.messages import InstanceRole
from support.small_machine import TAIL_BYTES, SmallInstance, leave_a_tail, supersede, until
from support.small_volume import SmallVolume


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
        supersede(volume.pods[:3], term=9)
    await one.become(InstanceRole.REPLICA)


async def die_and_live_again(volume: SmallVolume, directory: Path, kill_after: int) -> list[str]:
    """Die after that many steps; the next life opens, with all that was acknowledged."""
    await leave_a_tail(volume, directory)
    acknowledged = sorted(pod.scl for pod in volume.pods)[2]
    one = SmallInstance(volume, directory / "one", kill_after=kill_after)
    await live_through_everything(volume, one)
    await one.end()
    volume.dry = set()
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
    return one.process.steps


async def test_rule_11_a_death_after_any_step_leaves_data_that_the_next_life_judges_right(
    tmp_path: Path, volume_of: Callable[[Path], SmallVolume]
) -> None:
    """The next life never starts on half a directory, nor on log that the volume may not keep.

    Of six promises or adoptions in a row, the first, the fourth and the last are enough.
    """
    never = tmp_path / "never-killed"
    never.mkdir()
    steps = await die_and_live_again(volume_of(never), never, kill_after=1000)
    cuts = [n for n, step in enumerate(steps, 1) if not step.endswith(("-1", "-2", "-4"))]
    assert len(cuts) > 20, steps
    for cut in cuts:
        directory = tmp_path / f"killed-after-{cut}"
        directory.mkdir()
        await die_and_live_again(volume_of(directory), directory, cut)


async def test_rule_11_the_mark_goes_after_the_data(volume: SmallVolume, tmp_path: Path) -> None:
    """While anything is left of the data, a mark beside it says that it is worth nothing."""
    one = SmallInstance(volume, tmp_path / "one")
    one.begin()
    await one.become(InstanceRole.REPLICA)
    await one.open()
    supersede(volume.pods[:3], term=9)
    await one.become(InstanceRole.REPLICA)
    steps = one.process.steps
    ended = [step for step in steps if step in ("mark", "half wiped", "wiped", "mark removed")]
    assert ended == ["mark", "mark", "half wiped", "wiped", "mark removed"]
    await one.end()


async def test_rule_11_a_restart_opens_when_four_hold_all_that_it_recovered(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart, "_OPEN_SECONDS", 3600.0)
    one = SmallInstance(volume, tmp_path / "one")
    one.begin()
    await one.become(InstanceRole.REPLICA)
    await one.open()
    one.machine.write(TAIL_BYTES)
    one.machine.crash()
    await one.become(InstanceRole.STOPPED)
    volume.dry = {0, 1, 2}
    one.life.wish_restart()
    recovered = one.machine.end
    await until(
        "three hold it",
        lambda: sum(scl == recovered for scl in volume.pull()) == 3,
        lambda: [pod.scl for pod in volume.pods],
    )
    await until("heard of by the writer", lambda: one.process.steps.count("adopt shop-storage-5"))
    assert not one.machine.is_open, "three are not four"
    assert one.life.role is InstanceRole.STOPPED
    volume.dry = set()
    await until("open", lambda: volume.pull() and one.life.role is InstanceRole.WRITER)
    assert one.machine.is_open
    await one.end()


async def test_the_door_of_an_ended_writer_stays_shut_while_its_copies_are_left(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = SmallInstance(volume, tmp_path / "one")
    one.begin()
    await one.become(InstanceRole.REPLICA)
    await one.open()
    assert one.life.opened is not None
    leaving = asyncio.Event()
    stop = one.life.opened.following.stop

    async def stop_slowly() -> None:
        await leaving.wait()
        await stop()

    monkeypatch.setattr(one.life.opened.following, "stop", stop_slowly)
    one.machine.crash()
    await one.become(InstanceRole.STOPPED)
    await until("nobody guards the door", lambda: "guard the door" not in running())
    assert not one.machine.is_open
    leaving.set()
    await one.end()


async def test_an_attempt_ends_with_its_server_before_anything_is_waited_for(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it could still open, and nobody would know of its attendants."""
    monkeypatch.setattr(opening, "_OPEN_SECONDS", 3600.0)
    volume.dry = set(range(6))
    one = SmallInstance(volume, tmp_path / "one")
    said = asyncio.Event()

    async def last_words() -> str:
        await said.wait()
        return "it ended"

    monkeypatch.setattr(one.machine, "ended_sentence", last_words)
    one.begin()
    await one.become(InstanceRole.REPLICA)
    one.life.wish_open("a test")
    await until("it waits", lambda: "adopt shop-storage-5" in one.process.steps)
    assert [name for name in running() if name.startswith("attend ")]
    one.machine.crash()
    await until(
        "no attendant is left",
        lambda: not [name for name in running() if name.startswith("attend ")],
        running,
    )
    said.set()
    await one.end()


async def test_a_slow_answer_costs_a_replica_nothing(volume: SmallVolume, tmp_path: Path) -> None:
    one = SmallInstance(volume, tmp_path / "one")
    one.begin()
    await one.become(InstanceRole.REPLICA)
    await until("it streams", lambda: one.life.replica.streaming)
    one.machine.questions_to_fail = 3
    await until("it does not answer", lambda: one.life.replica.facts is None)
    await until("it answers again", lambda: one.life.replica.streaming)
    assert one.process.steps.count("replica starts") == 1
    await one.end()


async def test_silence_is_not_counted_as_a_lost_stream(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the server is silent: full copies answer, and it is not thrown away."""
    monkeypatch.setattr(replica, "_LOST_SECONDS", 0.02)
    one = SmallInstance(volume, tmp_path / "one")
    one.begin()
    await one.become(InstanceRole.REPLICA)
    one.machine.questions_to_fail = 50
    await until("silent for long", lambda: one.machine.questions_to_fail == 0)
    await until("it answers again", lambda: one.life.replica.streaming)
    assert one.process.steps.count("replica starts") == 1
    await one.end()


async def test_a_new_life_reads_no_more_than_everybody(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A candidate's way past the durable position ends before its next server starts."""
    order: list[str] = []
    machine = Machine(SmallInstance(volume, tmp_path / "one").place, volume.config, volume.tier)
    machine.data.mkdir()
    monkeypatch.setattr(machine.relay, "set_capped", lambda: order.append("capped"))

    async def start(**_given: object) -> None:
        order.append("started")

    monkeypatch.setattr(machine.server, "start", start)
    await machine.start_replica()
    assert order == ["capped", "started"]
    assert not machine.door.is_open


async def test_rule_12_a_writer_that_is_cut_off_shuts_its_door(
    volume: SmallVolume, tmp_path: Path
) -> None:
    """And opens it again when three members answer, and none of them promised higher."""
    one = SmallInstance(volume, tmp_path / "one")
    one.begin()
    await one.become(InstanceRole.REPLICA)
    await one.open()
    assert one.life.opened is not None
    for pod in volume.pods[:4]:
        pod.cut_off()
    await until("shut", lambda: not one.machine.is_open, one.life.opened.following.describe)
    assert one.life.role is InstanceRole.WRITER
    for pod in volume.pods[:4]:
        pod.away = False
    await until("open again", lambda: one.machine.is_open)
    await one.end()


def running() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks()]
