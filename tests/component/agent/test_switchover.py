"""Switchovers on loopback: the writer helps, a client writes throughout.

One volume serves all tests of this module, in order; each begins by bringing it to health.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from aurora_operator.api.messages import HandOverAsk, InstanceAnswer, InstanceRole
from support.inserts import Inserts
from support.roles import bring_to_health, check_rows, writer_and_replica
from support.volume import Pod, Volume, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUNDS = 6
OUTAGE_SECONDS_MAX = 5.0
"""Generous: the machine does much else."""
ADMIN_SHUTDOWN = "57P01"
CANNOT_CONNECT_NOW = "57P03"


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


async def hand_over(volume: Volume, writer: Pod, to: Pod, request: str = "") -> InstanceAnswer:
    ask = HandOverAsk(
        request=request or f"test {time.monotonic_ns()}", to=to.name, host=to.ip, reason="test"
    )
    return await volume.client.hand_over(writer.agent, ask)


async def ended_with(session: psycopg.AsyncConnection) -> str | None:
    """The SQLSTATE that a session was ended with."""
    with pytest.raises(psycopg.OperationalError) as told:
        await session.execute("SELECT 1")
    return told.value.sqlstate


def steps_of(pod: Pod, event: str, key: str) -> str:
    """The last steps that a pod told, with milliseconds."""
    lines = [line for line in pod.log() if line.get("event") == event][-8:]
    return ", ".join(f"{line[key]} {line['milliseconds']}" for line in lines)


async def test_planned_switchovers_lose_nothing_and_are_short(healthy: Volume) -> None:
    outages = []
    for _ in range(ROUNDS):
        await bring_to_health(healthy)
        writer, replica = await writer_and_replica(healthy)
        async with Inserts(healthy) as inserts, await healthy.connect(writer) as idle:
            await inserts.wait_acknowledged(100, 30)
            answer = await hand_over(healthy, writer, replica)
            assert answer.accepted, answer.sentence
            await healthy.wait_role(replica, InstanceRole.WRITER, 10)
            await inserts.wait_acknowledged(100, 20)
            assert await ended_with(idle) == ADMIN_SHUTDOWN
        outages.append(inserts.longest_outage_seconds())
        await check_rows(inserts, healthy, replica)
        print(f"outage {outages[-1]:.3f} s")
        print(f"  writer: {steps_of(writer, 'switchover step', 'state')}")
        print(f"  target: {steps_of(replica, 'opening step', 'step')}")
        await healthy.wait_role(writer, InstanceRole.REPLICA, 30)
    told = ", ".join(f"{outage:.3f}" for outage in outages)
    print(f"switchover outage, s: p50 {statistics.median(outages):.3f} of {told}")
    assert max(outages) < OUTAGE_SECONDS_MAX


async def test_a_running_transaction_may_finish(healthy: Volume) -> None:
    """Nobody new comes in meanwhile (57P03), and its commit is kept."""
    writer, replica = await writer_and_replica(healthy)
    async with await healthy.connect(writer) as session:
        await session.execute("CREATE TABLE IF NOT EXISTS finished (id int)")
        async with session.transaction():
            await session.execute("INSERT INTO finished VALUES (1)")
            answer = await hand_over(healthy, writer, replica)
            assert answer.accepted, answer.sentence
            await wait_until("new sessions are refused", lambda: is_refused(healthy, writer), 5)
            await session.execute("INSERT INTO finished VALUES (2)")
    await healthy.wait_role(replica, InstanceRole.WRITER, 10)
    async with await healthy.connect(replica) as session:
        rows = await (await session.execute("SELECT id FROM finished ORDER BY id")).fetchall()
        assert rows == [(1,), (2,)]
        await session.execute("DROP TABLE finished")
    await healthy.wait_role(writer, InstanceRole.REPLICA, 30)


async def is_refused(volume: Volume, pod: Pod) -> bool:
    try:
        async with await volume.connect(pod):
            return False
    except psycopg.OperationalError as error:
        return "the database is not open for clients" in str(error)


async def test_a_transaction_that_does_not_finish_is_ended(healthy: Volume) -> None:
    writer, replica = await writer_and_replica(healthy)
    async with Inserts(healthy) as inserts, await healthy.connect(writer) as session:
        await inserts.wait_acknowledged(50, 30)
        await session.execute("BEGIN")
        await session.execute("CREATE TABLE never (id int)")
        answer = await hand_over(healthy, writer, replica)
        assert answer.accepted, answer.sentence
        await healthy.wait_role(replica, InstanceRole.WRITER, 10)
        assert await ended_with(session) == ADMIN_SHUTDOWN
        await inserts.wait_acknowledged(50, 20)
    await check_rows(inserts, healthy, replica)
    async with await healthy.connect(replica) as session:
        found = await session.execute("SELECT to_regclass('never')")
        assert await found.fetchone() == (None,)
    await healthy.wait_role(writer, InstanceRole.REPLICA, 30)


async def test_a_terminated_writer_hands_over_before_it_ends(healthy: Volume) -> None:
    """As on a deletion, an eviction or a drain: SIGTERM, and nobody else says a word."""
    writer, replica = await writer_and_replica(healthy)
    async with Inserts(healthy) as inserts, await healthy.connect(writer) as idle:
        await inserts.wait_acknowledged(50, 30)
        began = time.monotonic()
        assert await asyncio.to_thread(writer.terminate, 25) == 0
        ended_seconds = time.monotonic() - began
        await healthy.wait_role(replica, InstanceRole.WRITER, 10)
        assert await ended_with(idle) == ADMIN_SHUTDOWN
        await inserts.wait_acknowledged(50, 20)
    print(f"outage {inserts.longest_outage_seconds():.3f} s, pod ended in {ended_seconds:.2f} s")
    assert inserts.longest_outage_seconds() < OUTAGE_SECONDS_MAX
    await check_rows(inserts, healthy, replica)
    healthy.delete_instance(int(writer.name[-1]))


async def test_a_terminated_lone_writer_does_not_wait(healthy: Volume) -> None:
    writer, replica = await writer_and_replica(healthy)
    healthy.delete_instance(int(replica.name[-1]))
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(50, 30)
        began = time.monotonic()
        assert await asyncio.to_thread(writer.terminate, 25) == 0
        print(f"a lone writer's pod ended in {time.monotonic() - began:.2f} s")
        healthy.delete_instance(int(writer.name[-1]))
        fresh = healthy.add_instance(int(writer.name[-1]))
        await healthy.open(fresh, "the only instance was deleted")
        await inserts.wait_acknowledged(50, 20)
    await check_rows(inserts, healthy, fresh)


async def begin_and_hold(
    volume: Volume, writer: Pod, replica: Pod
) -> psycopg.AsyncConnection[tuple[object, ...]]:
    """A switchover that waits for a transaction, so that a test can break something in it."""
    session = await volume.connect(writer)
    await session.execute("BEGIN")
    await session.execute("SELECT txid_current()")
    answer = await hand_over(volume, writer, replica)
    assert answer.accepted, answer.sentence
    await wait_until("it has begun", lambda: is_shut(volume, writer), 5)
    return session


async def is_shut(volume: Volume, pod: Pod) -> bool:
    return not (await volume.instance_status(pod)).door_open


async def test_a_target_that_dies_in_the_middle_lets_the_writer_go_on(healthy: Volume) -> None:
    writer, replica = await writer_and_replica(healthy)
    term = (await healthy.instance_status(writer)).term
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(50, 30)
        held = await begin_and_hold(healthy, writer, replica)
        healthy.delete_instance(int(replica.name[-1]))
        await inserts.wait_acknowledged(50, 20)
        await held.close()
    status = await healthy.wait_role(writer, InstanceRole.WRITER, 5)
    assert status.term == term
    assert status.hand_over is not None
    assert not status.hand_over.running
    print(f"outage {inserts.longest_outage_seconds():.3f} s; {status.hand_over.sentence}")
    # It is seen either by asking the target, or by its not opening in time.
    assert "the target" in status.hand_over.sentence
    await check_rows(inserts, healthy, writer)


async def test_a_target_that_dies_after_the_promises(healthy: Volume) -> None:
    """The old writer is superseded and follows; another replica opens, and nothing is lost."""
    await bring_to_health(healthy, instances=3)
    writer, replica = await writer_and_replica(healthy)
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(50, 30)
        before = promises_of(replica)
        answer = await hand_over(healthy, writer, replica)
        assert answer.accepted, answer.sentence
        await wait_until("promises", lambda: has_promises(replica, before + 1), 10)
        healthy.delete_instance(int(replica.name[-1]))
        third = next(pod for pod in healthy.instances.values() if pod is not writer)
        await healthy.open(third, "the target of a switchover died")
        await inserts.wait_acknowledged(50, 20)
    await check_rows(inserts, healthy, third)
    await healthy.wait_role(writer, InstanceRole.REPLICA, 30)


def promises_of(pod: Pod) -> int:
    """How many attempts of this pod held four promises."""
    return sum(line.get("step") == "promises" for line in pod.log())


async def has_promises(pod: Pod, count: int) -> bool:
    return promises_of(pod) >= count


async def test_a_writer_that_dies_in_the_middle(healthy: Volume) -> None:
    writer, replica = await writer_and_replica(healthy)
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(50, 30)
        held = await begin_and_hold(healthy, writer, replica)
        healthy.delete_instance(int(writer.name[-1]))
        await healthy.open(replica, "the writer died in a switchover")
        await inserts.wait_acknowledged(50, 20)
        await held.close()
    await check_rows(inserts, healthy, replica)


async def test_a_switchover_without_a_quorum_is_not_begun(healthy: Volume) -> None:
    """Three copies: nobody could open. Clients keep their sessions, commits wait as before."""
    writer, replica = await writer_and_replica(healthy)
    async with await healthy.connect(writer) as session:
        for pod in healthy.storage[:3]:
            pod.freeze()
        try:

            async def three_are_silent() -> bool:
                copies = (await healthy.instance_status(writer)).copies
                return sum(not copy.reachable for copy in copies) == 3

            async def not_begun() -> bool:
                told = (await healthy.instance_status(writer)).hand_over
                return told is not None and not told.running and "3 copies" in told.sentence

            await wait_until("three copies are silent", three_are_silent, 20)
            answer = await hand_over(healthy, writer, replica)
            assert answer.accepted, answer.sentence
            await wait_until("it is not begun", not_begun, 10)
            assert await (await session.execute("SELECT 1")).fetchone() == (1,)
        finally:
            for pod in healthy.storage[:3]:
                pod.thaw()
