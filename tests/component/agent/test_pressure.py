"""Copies whose disks fill or are slow: real agents and servers, on small disks that really fill.

The disks are memory file systems of 384 MiB (``images/imagekit/component.py``), so a refused write
is the kernel's own. One volume serves all tests of this module, in order; each begins and ends
with a healthy one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import psycopg
import pytest
import pytest_asyncio

from aurora_operator.agent.instance.machine import preferred_slots
from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.labels import PORT_PAGE_STORE
from aurora_operator.api.messages import InstanceRole, Pressure, StorageStatus
from aurora_operator.core.lsn import SEGMENT_BYTES
from support.inserts import Inserts
from support.roles import check_rows
from support.volume import BOOT, Pod, Volume, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

DISKS = [Path(f"/run/small/{number}") for number in range(6)]
MESSAGE_BYTES = 512 * 1024
SLOW_SYNC_SECONDS = 0.4
SLOW_BOOT = f"""
import os, time
from aurora_operator.volume.files import Files
sync = Files.sync
def slow(self, descriptor):
    if os.path.exists(os.environ["SLOW_WHEN"]):
        time.sleep({SLOW_SYNC_SECONDS})
    sync(self, descriptor)
Files.sync = slow
{BOOT}
"""
SLOW_SLOT = 4


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def volume(request: pytest.FixtureRequest) -> AsyncIterator[Volume]:
    made = Volume(disks=DISKS)
    made.storage[SLOW_SLOT].boot = SLOW_BOOT
    os.environ["SLOW_WHEN"] = str(made.root / "slow")
    async with made as volume:
        for pod in volume.storage:
            await wait_until(f"{pod.name} answers", partial(volume.storage_status, pod), 120)
        await volume.be_born()
        await volume.open(volume.add_instance(1), "creation")
        await volume.wait_role(volume.add_instance(2), InstanceRole.REPLICA, 60)
        failed_before = request.session.testsfailed
        yield volume
        if request.session.testsfailed > failed_before or os.environ.get("VOLUME_LOGS"):
            volume.print_logs()


@contextmanager
def filled(pods: Iterable[Pod]) -> Iterator[None]:
    """Fill the disks to the last byte; afterwards there is room again."""
    ballasts = [pod.disk / "ballast" for pod in pods]
    try:
        for ballast in ballasts:
            _fill(ballast)
        yield
    finally:
        for ballast in ballasts:
            ballast.unlink(missing_ok=True)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for piece in (1024 * 1024, 4096):
            while _fits(file, piece):
                pass


def _fits(file: IO[bytes], length_bytes: int) -> bool:
    try:
        file.write(bytes(length_bytes))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return False
        raise
    return True


async def pressure_of(volume: Volume, pod: Pod, state: Pressure) -> StorageStatus | None:
    status = await volume.storage_status(pod)
    return status if status.pressure.state is state else None


async def streaming(volume: Volume, writer: Pod) -> int:
    return sum(copy.streaming for copy in (await volume.instance_status(writer)).copies)


async def no_pressure(volume: Volume, writer: Pod) -> bool:
    """Six copies take log, have room, run their pages and are up to date."""
    statuses = [await volume.storage_status(pod) for pod in volume.storage]
    return await streaming(volume, writer) == 6 and all(
        status.pressure.state is Pressure.NONE
        and status.pressure.behind_bytes == 0
        and status.page_store.running
        for status in statuses
    )


async def count_rows(volume: Volume, pod: Pod) -> int:
    async with await volume.connect(pod) as session:
        row = await (await session.execute("SELECT count(*) FROM inserts")).fetchone()
        assert row is not None
        return int(row[0])


async def test_a_full_disk_stops_one_copy_only_and_it_comes_back(volume: Volume) -> None:
    writer, pod = volume.instances[1], volume.storage[3]
    term = (await volume.instance_status(writer)).term
    async with Inserts(volume) as inserts:
        await inserts.wait_acknowledged(50, 30)
        with filled([pod]):
            status = await wait_until(
                "no room is told", lambda: pressure_of(volume, pod, Pressure.NO_ROOM), 30
            )
            assert "No space left" in status.pressure.sentence
            assert status.pressure.sentence in status.sentence
            await inserts.wait_acknowledged(200, 30)
            assert await streaming(volume, writer) == 5
            held = await wait_until("pages are held", lambda: _held(volume, pod), 30)
            assert not held.page_store.running
            assert held.scl is not None
            assert held.pressure.behind_bytes > 0
        await wait_until("it came back by itself", lambda: no_pressure(volume, writer), 60)
        await inserts.wait_acknowledged(50, 30)
    await check_rows(inserts, volume, writer)
    assert (await volume.instance_status(writer)).term == term, "a full disk is no failover"


async def _held(volume: Volume, pod: Pod) -> StorageStatus | None:
    status = await volume.storage_status(pod)
    return status if status.page_store.held else None


async def test_with_three_full_disks_commits_wait_reads_go_on_and_it_is_said(
    volume: Volume,
) -> None:
    writer, replica = volume.instances[1], volume.instances[2]
    term = (await volume.instance_status(writer)).term
    async with Inserts(volume) as inserts:
        await inserts.wait_acknowledged(50, 30)
        with filled(volume.storage[:3]):
            # What was written ahead of the log still takes some; it is used up first.
            more = asyncio.create_task(_write_log(volume, 4 * SEGMENT_BYTES // 16))
            said = await wait_until(
                "the writer says that commits wait",
                lambda: _says(volume, writer, "commits wait"),
                30,
            )
            assert "3 of 6 copies take log" in said
            await wait_until("commits stand still", lambda: _stand_still(inserts), 30)
            before = len(inserts.acknowledged)
            assert await count_rows(volume, replica) >= before
            assert await count_rows(volume, writer) >= before
        await more
        await inserts.wait_acknowledged(50, 30)
    await wait_until("all six came back", lambda: no_pressure(volume, writer), 60)
    await check_rows(inserts, volume, writer)
    assert not await _says(volume, writer, "commits wait")
    assert (await volume.instance_status(writer)).term == term


async def _stand_still(inserts: Inserts) -> bool:
    """A disk that refused a large piece may take small ones for a moment; then nothing fits."""
    before = len(inserts.acknowledged)
    await asyncio.sleep(1.0)
    return len(inserts.acknowledged) == before


async def _says(volume: Volume, pod: Pod, words: str) -> str | None:
    sentence = (await volume.instance_status(pod)).sentence
    return sentence if words in sentence else None


async def test_a_slow_copy_is_told_and_not_waited_for(volume: Volume) -> None:
    writer, pod = volume.instances[1], volume.storage[SLOW_SLOT]
    async with Inserts(volume) as inserts:
        await inserts.wait_acknowledged(50, 30)
        slow = volume.root / "slow"
        slow.touch()
        try:
            status = await wait_until(
                "slow is told", lambda: pressure_of(volume, pod, Pressure.SLOW), 30
            )
            assert "s over an fsync" in status.pressure.sentence
            began = time.monotonic()
            await inserts.wait_acknowledged(100, 30)
            took_seconds = time.monotonic() - began
            print(f"100 commits beside fsyncs of {SLOW_SYNC_SECONDS} s: {took_seconds:.2f} s")
            copy = (await volume.instance_status(writer)).copies[SLOW_SLOT]
            here = (await volume.storage_status(pod)).scl
            assert here is not None
            assert copy.scl is not None
            assert copy.scl <= here, "the writer counts more than the copy holds"
        finally:
            slow.unlink()
        await wait_until("it caught up", lambda: no_pressure(volume, writer), 60)
    await check_rows(inserts, volume, writer)


async def test_a_replica_leaves_a_gate_that_stays_behind(volume: Volume) -> None:
    """Its copy has no room and serves, correctly and for ever, what it has."""
    writer, replica = volume.instances[1], volume.instances[2]
    tier = StorageTier(volume.config, volume.client)
    pod = volume.storage[preferred_slots(replica.name, tier)[0]]
    replica.kill()
    replica.start()  # on its first gate again
    await volume.wait_role(replica, InstanceRole.REPLICA, 60)
    async with Inserts(volume) as inserts:
        await inserts.wait_acknowledged(50, 30)
        with filled([pod]):
            await wait_until("it stays behind", lambda: _stays_behind(volume, pod), 60)
            await inserts.wait_acknowledged(50, 30)
            wanted = len(inserts.acknowledged)

            async def shows() -> bool:
                return await count_rows(volume, replica) >= wanted

            began = time.monotonic()
            await wait_until("the replica shows what was written meanwhile", shows, 20)
            print(f"the replica was behind for at most {time.monotonic() - began:.1f} s more")
            identity = volume.birth.identities[volume.storage.index(pod)]
            assert _left_a_gate(replica, identity), "it never read at the gate that stayed behind"
    await wait_until("it came back", lambda: no_pressure(volume, writer), 60)


async def _stays_behind(volume: Volume, pod: Pod) -> bool:
    """It takes nothing more; what the held page store left was room for a while."""
    pressure = (await volume.storage_status(pod)).pressure
    return pressure.state is Pressure.NO_ROOM and pressure.behind_seconds > 1.0


def _left_a_gate(replica: Pod, identity: str) -> bool:
    """Its server was told why, by the gate that it left."""
    return any(f"{identity} has been behind other gates" in str(line) for line in replica.log())


async def test_rule_14_log_goes_beyond_the_bound_and_the_laggard_is_refilled(
    volume: Volume,
) -> None:
    """A member is away while the others write more than they keep; its writer is gone as well."""
    away, others = volume.storage[5], volume.storage[:5]
    ended_at = (await volume.storage_status(away)).scl
    assert ended_at is not None
    away.kill()

    async def forgot() -> bool:
        await _write_log(volume, 2 * SEGMENT_BYTES)
        for pod in others:
            await _checkpoint(pod)
        starts = [(await volume.storage_status(pod)).log_start for pod in others]
        return all(start is not None and start > ended_at for start in starts)

    await wait_until("five copies removed what the sixth needs", forgot, 120)
    for pod in others:
        status = await volume.storage_status(pod)
        assert status.page_store.running, "pages outlive the removal"
        assert status.page_store.redo_lsn is not None
        assert status.log_start is not None
        assert status.page_store.redo_lsn >= status.log_start
    third = volume.add_instance(3)
    await volume.wait_role(third, InstanceRole.REPLICA, 90)
    volume.delete_instance(1)
    volume.delete_instance(2)
    await volume.open(third, "an instance that never had the old log")
    before = (await volume.storage_status(others[0])).members
    async with Inserts(volume) as inserts:
        await inserts.wait_acknowledged(50, 30)
        away.start()

        async def six_again() -> bool:
            away.start_again_if_ended()
            members = (await volume.storage_status(others[0])).members
            changed = members is not None and before is not None and members != before
            return changed and await streaming(volume, third) == 6

        await wait_until("it is filled anew, and follows", six_again, 120)
        await inserts.wait_acknowledged(50, 30)
    await check_rows(inserts, volume, third)
    steps = [line for line in third.log() if line.get("event") == "replacement step"]
    assert any("was left behind" in line["sentence"] for line in steps), steps
    members = (await volume.storage_status(others[0])).members
    assert before is not None
    assert members is not None
    assert len(members.identities) == 6
    assert members.identities[:5] == before.identities[:5]
    assert members.identities[5] != before.identities[5]


async def _write_log(volume: Volume, length_bytes: int) -> None:
    statuses = {n: await volume.instance_status(pod) for n, pod in volume.instances.items()}
    number = next(n for n, status in statuses.items() if status.role is InstanceRole.WRITER)
    async with await volume.connect(volume.instances[number]) as session:
        for number in range(1, length_bytes // MESSAGE_BYTES + 1):
            await session.execute(
                "SELECT pg_logical_emit_message(true, 'test', repeat('x', %s))", [MESSAGE_BYTES]
            )
            if number % (SEGMENT_BYTES // MESSAGE_BYTES) == 0:
                await session.execute("CHECKPOINT")


async def _checkpoint(pod: Pod) -> None:
    """Have a page store write its pages out, so that it needs less log."""
    async with await psycopg.AsyncConnection.connect(
        host=str(pod.home / "run"),
        port=PORT_PAGE_STORE,
        user="rdsadmin",
        dbname="rdsadmin",
        autocommit=True,
    ) as session:
        await session.execute("CHECKPOINT")
