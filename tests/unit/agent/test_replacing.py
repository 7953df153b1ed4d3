"""The open writer replaces lost copies, and whoever writes next goes on with it (rules 8 and 9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from aurora_operator.api.messages import InstanceRole
from aurora_operator.core.copy import CopyState
from support.copies import IDENTITIES
from support.small_machine import SmallInstance, until
from support.small_volume import SmallVolume


async def a_writer(volume: SmallVolume, directory: Path, number: int = 1) -> SmallInstance:
    instance = SmallInstance(volume, directory / f"instance-{number}", number=number)
    instance.begin()
    await instance.become(InstanceRole.REPLICA)
    await instance.open()
    return instance


def whole(volume: SmallVolume, writer: SmallInstance) -> bool:
    """Six members, kept by all six copies, which all follow and are waited for."""
    volume.pull()
    following = writer.life.opened and writer.life.opened.following
    if not following or following.members.empty_slots:
        return False
    records = [pod.store.record for pod in volume.pods]
    return (
        all(record is not None and record.members == following.members for record in records)
        and following.members.identities == writer.machine.in_force
        and all(following.counts(pod.store.view().identity) for pod in volume.pods)
        and all(pod.scl == writer.machine.end for pod in volume.pods)
    )


def told(volume: SmallVolume, writer: SmallInstance) -> str:
    return "; ".join(
        f"{p.store.view().identity} {p.store.state} {p.birth.sentence}" for p in volume.pods
    ) + str(writer.machine.in_force)


async def test_rule_9_a_lost_copy_is_filled_listed_and_counted(
    volume: SmallVolume, tmp_path: Path
) -> None:
    writer = await a_writer(volume, tmp_path)
    writer.machine.write(70)
    volume.pull()
    volume.pods[2].lose_disk()
    writer.machine.write(30)
    await until("six again", lambda: whole(volume, writer), lambda: told(volume, writer))
    identity = volume.pods[2].store.view().identity
    assert identity not in IDENTITIES
    assert volume.fills == [identity]
    await writer.end()


async def test_rule_9_one_after_the_other(volume: SmallVolume, tmp_path: Path) -> None:
    writer = await a_writer(volume, tmp_path)
    for slot in (0, 5):
        volume.pods[slot].lose_disk()
    await until("six again", lambda: whole(volume, writer), lambda: told(volume, writer))
    assert len(volume.fills) == 2
    await writer.end()


async def test_rule_8_nothing_changes_with_three_others(
    volume: SmallVolume, tmp_path: Path
) -> None:
    writer = await a_writer(volume, tmp_path)
    for slot in (0, 1, 2):
        volume.pods[slot].lose_disk()
    steps = len(writer.process.steps)
    opened = writer.life.opened
    assert opened is not None
    await until("it looked", lambda: opened.following.members_heard(0.05) == 3)
    for _ in range(50):
        volume.pull()
        await until("a moment", lambda: True)
    assert "taken out" not in writer.process.steps[steps:]
    assert opened.following.members.identities == IDENTITIES
    await writer.end()


async def test_rule_9_a_pod_that_is_away_keeps_its_place(
    volume: SmallVolume, tmp_path: Path
) -> None:
    writer = await a_writer(volume, tmp_path)
    volume.pods[4].cut_off()
    volume.pods[2].lose_disk()
    opened = writer.life.opened
    assert opened is not None
    await until(
        "the blank one is replaced",
        lambda: volume.pods[2].store.view().identity in opened.following.members and volume.pull(),
        lambda: told(volume, writer),
    )
    assert IDENTITIES[4] in opened.following.members
    await writer.end()


async def test_i5_a_copy_that_is_filled_counts_for_nothing(
    volume: SmallVolume, tmp_path: Path
) -> None:
    volume.fills_wait = True
    writer = await a_writer(volume, tmp_path)
    volume.pods[2].lose_disk()
    await until("it is filled", lambda: volume.fills, lambda: told(volume, writer))
    opened = writer.life.opened
    assert opened is not None
    assert volume.pods[2].store.state is CopyState.FILLING
    assert not opened.following.counts(volume.pods[2].store.view().identity)
    assert len(writer.machine.in_force) == 5
    volume.fills_wait = False
    await until("six again", lambda: whole(volume, writer), lambda: told(volume, writer))
    await writer.end()


async def test_rule_9_a_fill_goes_on_for_the_next_writer(
    volume: SmallVolume, tmp_path: Path
) -> None:
    volume.fills_wait = True
    writer = await a_writer(volume, tmp_path)
    writer.machine.write(40)
    volume.pods[2].lose_disk()
    await until("it is filled", lambda: volume.fills, lambda: told(volume, writer))
    await writer.end()
    second = await a_writer(volume, tmp_path, 2)
    volume.fills_wait = False
    await until("six again", lambda: whole(volume, second), lambda: told(volume, second))
    assert len(volume.fills) == 1, "it was not begun anew"
    await second.end()


async def steps_of_a_replacement(volume: SmallVolume, directory: Path) -> int:
    writer = await a_writer(volume, directory)
    opened = len(writer.process.steps)
    volume.pods[2].lose_disk()
    await until("six again", lambda: whole(volume, writer), lambda: told(volume, writer))
    steps = len(writer.process.steps) - opened
    await writer.end()
    return steps


KILLS = range(1, 18)


@pytest.mark.parametrize("kill_after", KILLS)
async def test_rule_8_a_writer_that_dies_after_any_step_is_followed_by_one_that_finishes(
    volume: SmallVolume, tmp_path: Path, kill_after: int
) -> None:
    writer = await a_writer(volume, tmp_path)
    writer.process.kill_after(kill_after)
    volume.pods[2].lose_disk()
    await until(
        "dead or whole",
        lambda: writer.process.dead.is_set() or whole(volume, writer),
        lambda: told(volume, writer),
    )
    was_killed = writer.process.dead.is_set()
    await writer.end()
    assert was_killed or kill_after > 8, "the replacement has more steps than that"
    second = await a_writer(volume, tmp_path, 2)
    second.machine.write(20)
    await until("six again", lambda: whole(volume, second), lambda: told(volume, second))
    await second.end()


async def test_h17_a_copy_that_returns_with_less_is_replaced(
    volume: SmallVolume, tmp_path: Path
) -> None:
    writer = await a_writer(volume, tmp_path)
    writer.machine.write(60)
    volume.pull()
    opened = writer.life.opened
    assert opened is not None
    lost = volume.pods[3]
    await until("its position was heard", lambda: opened.following.vdl == writer.machine.end)
    lost.roll_back(writer.machine.end.advanced(-20))
    await until(
        "it is wiped",
        lambda: lost.store.state is CopyState.BLANK,
        lambda: told(volume, writer),
    )
    lost.lose_disk()  # its process begins anew, on what it wiped
    await until("six again", lambda: whole(volume, writer), lambda: told(volume, writer))
    assert IDENTITIES[3] not in opened.following.members
    await writer.end()
