"""Copies whose disk is lost, on real agents and servers: replaced while clients write (rule 9).

One volume serves all tests of this module, in order; each begins by bringing it to health.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
import pytest_asyncio

from aurora_operator.api.messages import CopyState, InstanceRole, OpenAsk
from aurora_operator.core.names import Identity
from support.inserts import Inserts
from support.volume import Pod, Volume, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPAIR_SECONDS = 240.0
"""Generous: on a busy machine the start of a pod alone takes half a minute."""
GAP_SECONDS = 5.0
"""The longest time between two acknowledgements that a lost copy may cost, on a busy machine."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def volume(request: pytest.FixtureRequest) -> AsyncIterator[Volume]:
    async with Volume() as volume:
        await volume.be_born()
        await volume.open(volume.add_instance(1), "creation")
        failed_before = request.session.testsfailed
        yield volume
        if request.session.testsfailed > failed_before or os.environ.get("VOLUME_LOGS"):
            volume.print_logs()


@pytest_asyncio.fixture(loop_scope="module")
async def healthy(volume: Volume) -> Volume:
    """A writer, a replica, and six copies that stream."""
    while len(volume.instances) < 2:
        volume.add_instance(max(volume.instances, default=0) + 1)
    await writer_of(volume)
    await wait_until("a replica follows", lambda: replica_of(volume), 60)
    await wait_until("six copies stream", lambda: six_members_stream(volume), REPAIR_SECONDS)
    return volume


async def with_role(volume: Volume, role: InstanceRole) -> Pod | None:
    for pod in volume.instances.values():
        if pod.process is not None:
            status = await volume.instance_status(pod)
            if status.role is role and status.healthy:
                return pod
    return None


async def replica_of(volume: Volume) -> Pod | None:
    return await with_role(volume, InstanceRole.REPLICA)


async def writer_of(volume: Volume) -> Pod:
    pod: Pod = await wait_until(
        "a writer is open", lambda: with_role(volume, InstanceRole.WRITER), 60
    )
    return pod


async def six_members_stream(volume: Volume) -> bool:
    """All six pods stream, and each copy's own list names all six."""
    statuses = [await volume.storage_status(pod) for pod in volume.storage]
    identities = {status.identity for status in statuses}
    streams = [
        copy.streaming for copy in (await volume.instance_status(await _open(volume))).copies
    ]
    lists = [set(s.members.identities) for s in statuses if s.members is not None]
    return all(streams) and len(lists) == 6 and all(told == identities for told in lists)


async def _open(volume: Volume) -> Pod:
    pod = await with_role(volume, InstanceRole.WRITER)
    if pod is None:
        raise TimeoutError("no writer is open")
    return pod


def lose_disk(pod: Pod) -> None:
    """The pod comes back with an empty disk."""
    pod.kill()
    shutil.rmtree(pod.home / "disk")
    (pod.home / "disk").mkdir()
    pod.start()


async def in_force(volume: Volume, writer: Pod) -> str:
    async with await volume.connect(writer) as session:
        rows = await (await session.execute("SHOW synchronous_standby_names")).fetchall()
    return str(rows[0][0])


@asynccontextmanager
async def checked_inserts(volume: Volume) -> AsyncIterator[Inserts]:
    """A client that writes all along; in the end nothing acknowledged is missing."""
    async with Inserts(volume) as inserts:
        await inserts.wait_acknowledged(50, 60)
        yield inserts
        await inserts.wait_acknowledged(50, 60)
    async with await volume.connect(await writer_of(volume)) as session:
        await inserts.check(session)
        await session.execute("TRUNCATE inserts")


async def test_rule_9_a_lost_disk_is_filled_while_clients_write(healthy: Volume) -> None:
    writer, lost = await writer_of(healthy), healthy.storage[2]
    before = (await healthy.storage_status(lost)).identity
    async with checked_inserts(healthy) as inserts:
        lose_disk(lost)
        status = await healthy.wait_copy(lost, CopyState.FULL, REPAIR_SECONDS)
        assert status.identity != before
        await wait_until("six members", lambda: six_members_stream(healthy), REPAIR_SECONDS)
        names = await in_force(healthy, writer)
        assert status.identity in names
        assert before not in names
        gap_seconds = inserts.longest_outage_seconds()
    print(f"longest time without an acknowledgement: {gap_seconds:.3f} s")
    assert gap_seconds < GAP_SECONDS
    assert await writer_of(healthy) is writer, "nothing failed over"
    assert (await healthy.storage_status(lost)).page_store.running


async def test_rule_9_another_disk_is_lost_during_the_repair(healthy: Volume) -> None:
    async with checked_inserts(healthy):
        lose_disk(healthy.storage[0])
        await healthy.wait_copy(healthy.storage[0], CopyState.FILLING, REPAIR_SECONDS)
        lose_disk(healthy.storage[4])
        await wait_until("six members", lambda: six_members_stream(healthy), 2 * REPAIR_SECONDS)


async def test_rule_9_what_was_acknowledged_survives_the_loss_of_older_copies(
    healthy: Volume,
) -> None:
    """A filled copy carries its share: three copies that never lost a disk go, and it stays."""
    async with checked_inserts(healthy) as inserts:
        for number in (0, 1, 2):
            lose_disk(healthy.storage[number])
            await wait_until("six members", lambda: six_members_stream(healthy), REPAIR_SECONDS)
        await inserts.wait_acknowledged(50, 60)
        for pod in healthy.storage[3:5]:
            lose_disk(pod)
        await wait_until("six members", lambda: six_members_stream(healthy), 2 * REPAIR_SECONDS)


PHASES = ("TakeOut", "StoreList", "FillCopy", "TakeIn", "PutIn")


@pytest.mark.parametrize("phase", PHASES)
async def test_rule_8_the_writer_dies_and_the_next_one_goes_on(healthy: Volume, phase: str) -> None:
    writer = await writer_of(healthy)
    lost = healthy.storage[5]
    seen_before = len(writer.log())
    async with checked_inserts(healthy):
        lose_disk(lost)

        async def reached() -> bool:
            steps = [line.get("step") for line in itertools.islice(writer.log(), seen_before, None)]
            return phase in steps

        await wait_until(f"the writer took the step {phase}", reached, REPAIR_SECONDS)
        healthy.delete_instance(int(writer.name.rpartition("-")[2]))
        await writer_of(healthy)  # the copies miss the writer: a replica opens by itself
        await wait_until("six members", lambda: six_members_stream(healthy), REPAIR_SECONDS)


async def test_a_pod_that_is_merely_away_is_not_replaced(healthy: Volume) -> None:
    away = healthy.storage[3]
    before = (await healthy.storage_status(away)).identity
    async with checked_inserts(healthy) as inserts:
        away.kill()
        await inserts.wait_acknowledged(500, 60)
        away.start()
        await wait_until("six members", lambda: six_members_stream(healthy), REPAIR_SECONDS)
    assert (await healthy.storage_status(away)).identity == before
    with pytest.raises(psycopg.OperationalError):
        await asyncio.wait_for(healthy.connect(away), 5)


async def lose_three_and_the_writer(volume: Volume) -> tuple[Pod, tuple[Identity, ...]]:
    """Three disks are gone, and then the writer; a replica is left."""
    replica: Pod = await wait_until("a replica follows", lambda: replica_of(volume), 30)
    writer = await writer_of(volume)
    gone = volume.storage[1:4]
    identities = tuple([(await volume.storage_status(pod)).identity for pod in gone])
    for pod in gone:
        lose_disk(pod)
    for pod in gone:
        await volume.wait_copy(pod, CopyState.BLANK, REPAIR_SECONDS)
    volume.delete_instance(int(writer.name.rpartition("-")[2]))
    return replica, identities


async def count_rows(volume: Volume, pod: Pod) -> int:
    async with await volume.connect(pod) as session:
        rows = await (await session.execute("SELECT count(*) FROM inserts")).fetchall()
    return int(rows[0][0])


async def refusals_of(volume: Volume, pod: Pod, ask: OpenAsk) -> list[str]:
    """Ask to open, and wait until that was refused; why."""
    before = len(pod.log())
    assert (await volume.client.open(pod.agent, ask)).accepted

    async def refused() -> list[str]:
        lines = pod.log()[before:]
        return [line["reason"] for line in lines if "opening refused" in line["event"]]

    found: list[str] = await wait_until("the opening is refused", refused, 60)
    return found


async def test_rule_10_three_left_open_after_the_record_only(healthy: Volume) -> None:
    async with Inserts(healthy) as inserts:
        await inserts.wait_acknowledged(200, 60)
    replica, lost = await lose_three_and_the_writer(healthy)
    seen = await count_rows(healthy, replica)
    assert await refusals_of(healthy, replica, OpenAsk(reason="a failover"))
    assert await count_rows(healthy, replica) >= seen, "reads go on"
    await healthy.client.open(replica.agent, OpenAsk(reason="recorded as lost", lost=lost))
    await healthy.wait_role(replica, InstanceRole.WRITER, REPAIR_SECONDS)
    async with await healthy.connect(replica) as session:
        await inserts.check(session)
        await session.execute("TRUNCATE inserts")
    async with checked_inserts(healthy):
        await wait_until("six members", lambda: six_members_stream(healthy), 2 * REPAIR_SECONDS)


async def test_rule_10_four_lost_is_refused(healthy: Volume) -> None:
    """The last one: this volume is lost."""
    replica, lost = await lose_three_and_the_writer(healthy)
    lose_disk(healthy.storage[5])
    await healthy.wait_copy(healthy.storage[5], CopyState.BLANK, REPAIR_SECONDS)
    assert await refusals_of(healthy, replica, OpenAsk(reason="recorded as lost", lost=lost))
    status = await healthy.instance_status(replica)
    assert status.role is not InstanceRole.WRITER
