"""Rule 12 on a whole volume: what clients of a frozen or cut off writer are told, and how late.

Each test freezes or cuts a part of the writer while others go on writing, and counts the reads that
missed what somebody had been told before they were sent. `pytest -s` shows the figures.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
import pytest_asyncio

from aurora_operator.api.messages import InstanceRole
from support.inserts import Inserts
from support.roles import all_stream, check_rows, replica_of, writer_of
from support.stale_reads import StaleReads
from support.volume import Pod, Volume, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

READERS = 10
HELD_AFTER_SECONDS = 0.2
ENDED_AFTER_SECONDS = 1.0
BUSY_SECONDS = 2.0
"""What a machine that does much else may add to a figure."""
STALE_SECONDS_MAX = 1.2
"""About a second, as the documentation says."""
STALL_SECONDS = 0.3
INSERT_SECONDS = 2.0
"""The writing client's patience with a server that does not answer."""
HELD = "aurora_statements_held_total"
HELD_SECONDS = "aurora_statements_held_seconds_total"
CUT_OFF = 'aurora_writer_stand_downs_total{reason="cut_off"}'


class CutVolume(Volume):
    """A volume whose first instance can be cut off from it."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = self.cut_around(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def volume() -> AsyncIterator[CutVolume]:
    """A writer that can be cut off, and a replica that cannot."""
    async with CutVolume() as volume, volume.cut:
        await volume.be_born()
        await volume.open(volume.add_instance(1, behind_cut=True), "creation")
        volume.add_instance(2)
        yield volume


@pytest_asyncio.fixture(loop_scope="module")
async def writer(volume: CutVolume) -> Pod:
    """The first instance, as the writer; the second follows."""
    first, second = volume.instances[1], volume.instances[2]
    await wait_until("a writer", lambda: writer_of(volume), 30)
    await wait_until("a replica", lambda: replica_of(volume), 30)
    if await writer_of(volume) is second:
        await fail_over(volume, second, first)
        await wait_until("the second follows", lambda: replica_of(volume), 30)
    await wait_until("six copies stream", lambda: all_stream(volume), 30)
    return first


async def fail_over(volume: Volume, old: Pod, new: Pod) -> None:
    """As the operator does when it was told that the old writer is gone."""
    old.freeze()
    try:
        await volume.open(new, "a test")
    finally:
        old.thaw()
    await wait_until("both are well", lambda: both_well(volume), 30)


async def both_well(volume: Volume) -> bool:
    return await writer_of(volume) is not None and await replica_of(volume) is not None


async def read_once(volume: Volume, pod: Pod) -> bool:
    async with await volume.connect(pod) as session:
        return await (await session.execute("SELECT 1")).fetchone() == (1,)


async def test_rule_12_a_frozen_agents_writer_answers_nobody(
    volume: CutVolume, writer: Pod
) -> None:
    """Nobody shuts its door: the guard holds, ends and refuses by itself."""
    term = (await volume.instance_status(writer)).term
    async with Inserts(volume, INSERT_SECONDS) as inserts:
        await inserts.wait_acknowledged(20, 30)
        async with StaleReads(inserts, volume, writer, READERS) as reads:
            await wait_until("all read", lambda: _reaches(reads, 5 * READERS), 10)
            writer.freeze_agent()
            frozen_at = time.monotonic()
            try:
                await wait_until("all are ended", lambda: _ended(reads), 10)
                took_seconds = time.monotonic() - frozen_at
                with pytest.raises(psycopg.OperationalError, match="not open"):
                    await volume.connect(writer)
            finally:
                writer.thaw()
        last = max(read.answered_at for read in reads.answered) - frozen_at
        print(
            f"agent frozen: last answer {last * 1000:.0f} ms after,"
            f" sessions ended after {took_seconds * 1000:.0f} ms; {reads.describe()}"
        )
        assert set(reads.sqlstates) == {"57P01"}
        assert last < HELD_AFTER_SECONDS + BUSY_SECONDS
        assert took_seconds < ENDED_AFTER_SECONDS + BUSY_SECONDS
        assert reads.stale_seconds() == []
        await wait_until("it serves again", lambda: read_once(volume, writer), 10)
        await wait_until("the holds are counted", lambda: _metric(writer, HELD), 10)
        await wait_until("and timed", lambda: _metric(writer, HELD_SECONDS), 10)
        await inserts.wait_acknowledged(20, 30)
    assert (await volume.instance_status(writer)).term == term
    await check_rows(inserts, volume, writer)


async def test_rule_12_a_stall_of_the_agent_only_delays(volume: CutVolume, writer: Pod) -> None:
    async with Inserts(volume, INSERT_SECONDS) as inserts:
        await inserts.wait_acknowledged(20, 30)
        async with StaleReads(inserts, volume, writer, READERS) as reads:
            for _ in range(5):
                seen = len(reads.answered)
                await wait_until("all read", lambda: _reaches(reads, seen + 20 * READERS), 10)  # noqa: B023
                writer.freeze_agent()
                try:
                    await asyncio.sleep(STALL_SECONDS)  # the stall itself
                finally:
                    writer.thaw()
            seen = len(reads.answered)
            await wait_until("all read on", lambda: _reaches(reads, seen + 20 * READERS), 10)
        slowest = max(read.answered_at - read.sent_at for read in reads.answered)
        print(f"five stalls of {STALL_SECONDS} s: slowest read {slowest * 1000:.0f} ms")
        assert reads.sqlstates == []
    await check_rows(inserts, volume, writer)


Freeze = Callable[[Pod], None]


@pytest.mark.parametrize("freeze", [Pod.freeze_server, Pod.freeze], ids=["server", "all"])
async def test_rule_12_a_thawed_writer_answers_nothing_out_of_date(
    volume: CutVolume, writer: Pod, freeze: Freeze
) -> None:
    """Reads that were sent after the new writer's commits lie in its sockets when it wakes."""
    other = volume.instances[2]
    async with Inserts(volume, INSERT_SECONDS) as inserts:
        await inserts.wait_acknowledged(20, 30)
        async with (
            StaleReads(inserts, volume, writer, READERS) as reads,
            StaleReads(inserts, volume, writer, READERS, queued=True) as queued,
        ):
            await wait_until("all read", lambda: _reaches(reads, 5 * READERS), 10)
            await wait_until("all are connected", lambda: _connected(queued), 10)
            freeze(writer)
            try:
                await volume.open(other, "the writer is silent")
                await inserts.wait_acknowledged(50, 30)
                queued.send_now()
                await wait_until("all are sent", lambda: _sent(queued), 10)
            finally:
                writer.thaw()
            await wait_until("all are ended", lambda: _ended(reads, queued), 20)
        print(f"{freeze.__name__}: {reads.describe()}; queued: {queued.describe()}")
        assert queued.answered == [], "what was queued was answered"
        assert max([0.0, *reads.stale_seconds()]) < STALE_SECONDS_MAX
        await inserts.wait_acknowledged(20, 30)
    await check_rows(inserts, volume, other)
    await volume.wait_role(writer, InstanceRole.REPLICA, 30)


async def test_rule_12_a_writer_cut_off_from_storage_alone(volume: CutVolume, writer: Pod) -> None:
    """Its clients still reach it. It lets them wait, then sends them away; and its writes fail."""
    other = volume.instances[2]
    async with Inserts(volume, INSERT_SECONDS) as inserts:
        await inserts.wait_acknowledged(20, 30)
        async with StaleReads(inserts, volume, writer, READERS) as reads:
            await wait_until("all read", lambda: _reaches(reads, 5 * READERS), 10)
            volume.cut.cut()
            cut_at = time.monotonic()
            try:
                opening = asyncio.create_task(volume.open(other, "the writer is cut off"))
                await wait_until("all are ended", lambda: _ended(reads), 20)
                ended_seconds = time.monotonic() - cut_at
                with pytest.raises(psycopg.OperationalError, match="not open"):
                    await volume.connect(writer)
                await opening
                await inserts.wait_acknowledged(50, 30)
            finally:
                volume.cut.heal()
        opened_seconds = next(at for _, at in inserts.acknowledged if at > cut_at + 0.1) - cut_at
        last = max(read.answered_at for read in reads.answered) - cut_at
        print(
            f"storage cut: last answer {last * 1000:.0f} ms after, sessions ended after"
            f" {ended_seconds * 1000:.0f} ms, new writer's first commit after"
            f" {opened_seconds * 1000:.0f} ms; {reads.describe()}"
        )
        assert set(reads.sqlstates) == {"57P01"}
        assert last < HELD_AFTER_SECONDS + BUSY_SECONDS
        assert ended_seconds < ENDED_AFTER_SECONDS + BUSY_SECONDS
        assert max([0.0, *reads.stale_seconds()]) < STALE_SECONDS_MAX
        assert await _metric(writer, CUT_OFF) >= 1
    await check_rows(inserts, volume, other)
    await volume.wait_role(writer, InstanceRole.REPLICA, 30)


async def _metric(pod: Pod, name: str) -> float:
    """What Prometheus would read of it."""
    body = await asyncio.to_thread(_fetch, f"http://{pod.ip}:9187/metrics")
    values = [line.split()[-1] for line in body.splitlines() if line.startswith(name + " ")]
    assert len(values) == 1, (name, values)
    return float(values[0])


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read(), "utf-8")


async def _reaches(reads: StaleReads, count: int) -> bool:
    return len(reads.answered) >= count


async def _ended(*all_reads: StaleReads) -> bool:
    return all(len(reads.sqlstates) == READERS for reads in all_reads)


async def _connected(reads: StaleReads) -> bool:
    return reads.connected == READERS


async def _sent(reads: StaleReads) -> bool:
    return reads.sent == READERS
