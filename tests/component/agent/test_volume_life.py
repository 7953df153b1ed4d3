"""A whole volume on loopback: real agents, real servers, and a client that never stops writing.

One volume serves all tests of this module, in order; each begins by bringing it to health.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from aurora_operator.api.messages import InstanceRole, OpenAsk, RestartAsk, StreamState
from support.inserts import Inserts
from support.roles import all_stream, bring_to_health, check_rows, replica_of, writer_and_replica
from support.volume import Pod, Volume, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRITER_DEADLINE_SECONDS = 5.0
"""From the kill to the first acknowledged write, on a machine that does much else."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def volume(request: pytest.FixtureRequest) -> AsyncIterator[Volume]:
    async with Volume() as volume:
        await volume.be_born()
        first = volume.add_instance(1)
        await volume.open(first, "creation")
        failed_before = request.session.testsfailed
        yield volume
        if request.session.testsfailed > failed_before or os.environ.get("VOLUME_LOGS"):
            volume.print_logs()


@pytest_asyncio.fixture(loop_scope="module")
async def healthy(volume: Volume) -> Volume:
    """A writer, a replica, and six copies that stream."""
    await bring_to_health(volume)
    return volume


async def test_the_master_user_writes_and_a_replica_reads(healthy: Volume) -> None:
    writer, replica = await writer_and_replica(healthy)
    async with await healthy.connect(writer) as session:
        await session.execute("CREATE TABLE greeting (text text)")
        await session.execute("INSERT INTO greeting VALUES ('hello')")

    async def read() -> bool:
        async with await healthy.connect(replica) as session:
            return await (await session.execute("SELECT text FROM greeting")).fetchone() == (
                "hello",
            )

    await wait_until("the replica shows the row", read, 5)
    status = await healthy.instance_status(writer)
    assert status.vdl is not None
    assert status.term is not None
    assert status.term >= 2


async def test_failover_after_the_writers_server_was_killed(healthy: Volume) -> None:
    writer, replica = await writer_and_replica(healthy)
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(200, 30)
        _kill_postmaster(writer)
        await healthy.wait_role(replica, InstanceRole.WRITER, 10)
        await inserts.wait_acknowledged(50, 20)
    outage_seconds = inserts.longest_outage_seconds()
    steps = [line for line in replica.log() if line.get("event") == "opening step"][-7:]
    told = ", ".join(f"{step['step']} {step['milliseconds']}" for step in steps)
    print(f"write outage {outage_seconds:.3f} s; opening (ms): {told}")
    assert outage_seconds < WRITER_DEADLINE_SECONDS
    await check_rows(inserts, healthy, replica)
    await wait_until("the old writer follows", lambda: replica_of(healthy), 30)
    assert await replica_of(healthy) is writer


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "unasked"])
async def test_an_ended_writer_without_replicas_restarts_in_place(
    healthy: Volume, asked: bool
) -> None:
    writer, replica = await writer_and_replica(healthy)
    healthy.delete_instance(int(replica.name[-1]))
    term = (await healthy.instance_status(writer)).term
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(100, 30)
        _kill_postmaster(writer)
        stopped = await healthy.wait_role(writer, InstanceRole.STOPPED, 5)
        assert stopped.restartable
        if asked:
            answer = await healthy.client.restart(writer.agent, RestartAsk(reason="test"))
            assert answer.accepted, answer.sentence
        status = await healthy.wait_role(writer, InstanceRole.WRITER, 30)
        assert status.term == term
        await inserts.wait_acknowledged(50, 20)
    await check_rows(inserts, healthy, writer)


async def test_writes_go_on_without_two_copies_and_wait_without_three(healthy: Volume) -> None:
    writer, replica = await writer_and_replica(healthy)
    away = healthy.storage[3:]
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(50, 30)
        for pod in away[:2]:
            pod.kill()
        await inserts.wait_acknowledged(200, 30)
        away[2].kill()
        stood_still = await _stands_still(inserts)
        assert stood_still, "writes were acknowledged with three copies only"
        async with await healthy.connect(replica) as session:
            assert await (await session.execute("SELECT count(*) FROM inserts")).fetchone()
        away[2].start()
        await inserts.wait_acknowledged(50, 30)
        for pod in away[:2]:
            pod.start()
        await wait_until("six copies stream", lambda: all_stream(healthy), 30)
        await inserts.wait_acknowledged(50, 30)
    await check_rows(inserts, healthy, writer)
    positions = {copy.scl for copy in (await healthy.instance_status(writer)).copies}
    assert None not in positions


async def test_a_terminated_writer_ends_in_order_and_a_replica_opens(healthy: Volume) -> None:
    writer, replica = await writer_and_replica(healthy)
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(50, 30)
        ended = asyncio.create_task(asyncio.to_thread(writer.terminate, 15))
        await healthy.wait_role(replica, InstanceRole.WRITER, 10)
        assert await ended == 0
        await inserts.wait_acknowledged(50, 20)
    assert inserts.longest_outage_seconds() < WRITER_DEADLINE_SECONDS
    await check_rows(inserts, healthy, replica)
    healthy.delete_instance(int(writer.name[-1]))


async def test_a_writer_whose_container_restarted_follows_its_successor(healthy: Volume) -> None:
    """Same pod, same disk, new process 1: its term is over, so its data goes (rule 11)."""
    writer, replica = await writer_and_replica(healthy)
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(50, 30)
        writer.kill()
        writer.start()
        await healthy.wait_role(replica, InstanceRole.WRITER, 10)
        await inserts.wait_acknowledged(50, 20)
    await check_rows(inserts, healthy, replica)
    await healthy.wait_role(writer, InstanceRole.REPLICA, 30)


async def test_two_frozen_copies_stop_nothing(healthy: Volume) -> None:
    writer, _ = await writer_and_replica(healthy)
    frozen = healthy.storage[4:]
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(50, 30)
        for pod in frozen:
            pod.freeze()
        try:
            # Longer than wal_sender_timeout, so that the writer hangs up on them meanwhile.
            until = time.monotonic() + 7
            while time.monotonic() < until:
                await inserts.wait_acknowledged(20, 10)
        finally:
            for pod in frozen:
                pod.thaw()
        await wait_until("six copies stream", lambda: all_stream(healthy), 30)
    await check_rows(inserts, healthy, writer)


async def test_a_writer_that_is_cut_off_lets_nobody_read(healthy: Volume) -> None:
    """Rule 12: with two members left another writer may be open; with three back it goes on."""
    writer, _ = await writer_and_replica(healthy)
    term = (await healthy.instance_status(writer)).term
    async with await healthy.connect(writer) as session:
        for pod in healthy.storage[2:]:
            pod.freeze()
        try:

            async def ended() -> bool:
                try:
                    await session.execute("SELECT 1")
                except psycopg.OperationalError:
                    return True
                return False

            await wait_until("the session is ended", ended, 10)
            with pytest.raises(psycopg.OperationalError, match="not open"):
                await healthy.connect(writer)
        finally:
            for pod in healthy.storage[2:]:
                pod.thaw()
    status = await healthy.wait_role(writer, InstanceRole.WRITER, 20)
    assert status.term == term


async def test_a_changed_parameter_and_password_are_taken_over(healthy: Volume) -> None:
    writer, replica = await writer_and_replica(healthy)
    healthy.change(parameters={"work_mem": "7MB"}, password="another one")

    async def taken_over() -> bool:
        shown = []
        for pod in (writer, replica):
            async with await healthy.connect(pod) as session:
                shown.append(await (await session.execute("SHOW work_mem")).fetchone())
        return shown == [("7MB",), ("7MB",)]

    await wait_until("both show the new value", taken_over, 20)


async def test_every_storage_pod_restarts_under_the_writer(healthy: Volume) -> None:
    writer, _ = await writer_and_replica(healthy)
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(50, 30)
        for pod in healthy.storage:
            pod.kill()
        for pod in healthy.storage:
            pod.start()
        await inserts.wait_acknowledged(50, 40)
    await wait_until("six copies stream", lambda: all_stream(healthy), 30)
    await check_rows(inserts, healthy, writer)


async def test_everything_is_killed_at_once(healthy: Volume) -> None:
    """A power cut: six copies come back from their disks, a new instance opens."""
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(100, 30)
        for pod in healthy.storage:
            pod.kill()
        for number in list(healthy.instances):
            healthy.delete_instance(number)
        for pod in healthy.storage:
            pod.start()
        fresh = healthy.add_instance(9)
        await healthy.wait_role(fresh, InstanceRole.WRITER, 60)
        await inserts.wait_acknowledged(50, 20)
    await check_rows(inserts, healthy, fresh)


async def test_a_frozen_writer_is_replaced_and_follows_after_the_thaw(healthy: Volume) -> None:
    writer, replica = await writer_and_replica(healthy)
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(50, 30)
        writer.freeze()
        try:
            await healthy.wait_role(replica, InstanceRole.WRITER, 20)
        finally:
            writer.thaw()
        await inserts.wait_acknowledged(50, 30)
    await check_rows(inserts, healthy, replica)
    await healthy.wait_role(writer, InstanceRole.REPLICA, 30)


async def test_a_healthy_writer_is_not_replaced(healthy: Volume) -> None:
    """Pre-vote: the copies hear the writer, so a candidate changes nothing (H11)."""
    writer, replica = await writer_and_replica(healthy)
    term = (await healthy.instance_status(writer)).term
    promised = {(await healthy.storage_status(pod)).promise for pod in healthy.storage}
    answer = await healthy.client.open(replica.agent, OpenAsk(reason="a mistake"))
    assert answer.accepted
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(200, 30)
        await healthy.wait_role(replica, InstanceRole.REPLICA, 20)
    assert (await healthy.instance_status(writer)).term == term
    assert {(await healthy.storage_status(pod)).promise for pod in healthy.storage} == promised
    await check_rows(inserts, healthy, writer)


async def test_all_instances_lost(healthy: Volume) -> None:
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(100, 30)
        for number in list(healthy.instances):
            healthy.delete_instance(number)
        begun = time.monotonic()
        fresh = healthy.add_instance(8)
        await healthy.wait_role(fresh, InstanceRole.WRITER, 60)
        print(f"all instances lost: open again after {time.monotonic() - begun:.2f} s")
        await inserts.wait_acknowledged(50, 20)
    await check_rows(inserts, healthy, fresh)


async def test_one_function_opened_every_time(volume: Volume) -> None:
    lines = [line for pod in volume.instances.values() for line in pod.log()]
    opened = [line for line in lines if line.get("event") == "opening volume"]
    assert any(line["reason"].startswith("failover: ") for line in opened)
    streams = [(await volume.storage_status(pod)).stream for pod in volume.storage]
    assert set(streams) == {StreamState.STREAMING}


def _kill_postmaster(pod: Pod) -> None:
    os.kill(pod.postmaster(), signal.SIGKILL)


async def _stands_still(inserts: Inserts) -> bool:
    """Whether nothing at all is acknowledged for a second."""
    await asyncio.sleep(0.3)  # what was on its way when the copy went
    before = len(inserts.acknowledged)
    with pytest.raises(AssertionError, match="missing"):
        await inserts.wait_acknowledged(1, 1.0)
    return len(inserts.acknowledged) == before


async def test_every_server_starts_shut(healthy: Volume) -> None:
    """I4: a replica that is not consistent yet, or a candidate, lets nobody in."""
    number = max(healthy.instances) + 1
    pod = healthy.add_instance(number)
    opened = False
    while not opened:
        try:
            async with await healthy.connect(pod):
                opened = True
        except psycopg.OperationalError:
            continue
    status = await healthy.instance_status(pod)
    assert status.role is InstanceRole.REPLICA
    assert status.door_open
