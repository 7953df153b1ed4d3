"""Commits and copies: a real writer, six acceptors."""

from __future__ import annotations

import asyncio
import time

import pytest

from aurora_operator.core.copy import StreamState
from aurora_operator.engines.postgresql.log_client import LogClient
from aurora_operator.engines.postgresql.wire import OBJECT_IN_USE, ServerError
from aurora_operator.volume.copy_store import CopyStore
from component.postgresql.conftest import MakeInstance
from support.postgresql import Volume, eventually


async def test_rule_1_a_commit_returns_with_four_copies_and_waits_with_three(
    volume: Volume, make_instance: MakeInstance
) -> None:
    writer = make_instance("shop-instance-1")
    await writer.start_replica()
    await writer.open(2)
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        for copy in volume.copies[:2]:
            await copy.stop_following()
        await asyncio.wait_for(session.execute("INSERT INTO t VALUES (1)"), 5)
        await volume.copies[2].stop_following()
        waiting = asyncio.create_task(session.execute("INSERT INTO t VALUES (2)"))
        await eventually("the commit waits for a copy", writer.waiting_commits, lambda n: n == 1)
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done, "a commit returned on three copies"
        volume.copies[2].follow(volume, writer.endpoint, volume.term)
        await asyncio.wait_for(waiting, 5)
    lsn = await writer.flushed()
    held = [copy for copy in volume.copies if copy.store.scl() >= lsn]
    assert len(held) >= 4


async def test_i1_what_was_acknowledged_is_durable_on_four_copies(
    volume: Volume, make_instance: MakeInstance
) -> None:
    writer = make_instance("shop-instance-1")
    await writer.start_replica()
    await writer.open(2)
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        for number in range(10):
            async with session.transaction():
                await session.execute("INSERT INTO t VALUES (%s)", [number])
                before = await writer.inserted()
            on_disk = [CopyStore.open(c.disk, c.identity, c.slot) for c in volume.copies]
            ends = sorted((store.scl() for store in on_disk), reverse=True)
            for store in on_disk:
                store.close()
            assert ends[3] > before, f"commit {number} begins at {before}; copies end at {ends}"


async def test_h2_a_slot_has_one_stream_so_a_copy_counts_once(
    volume: Volume, make_instance: MakeInstance
) -> None:
    writer = make_instance("shop-instance-1")
    await writer.start_replica()
    await writer.open(2)
    copy = volume.copies[0]
    async with await LogClient.connect(
        writer.endpoint, tls=copy.tls, user="aurora_acceptor", application_name=copy.identity
    ) as second:
        with pytest.raises(ServerError) as refused:
            await second.start_replication(copy.store.scl(), volume.term, slot=copy.identity)
    assert refused.value.sqlstate == OBJECT_IN_USE


async def test_an_idle_writer_is_heard_and_a_dead_one_missed_at_once(
    volume: Volume, make_instance: MakeInstance
) -> None:
    """H24: pings keep an idle stream alive; the end of the process is seen in milliseconds."""
    writer = make_instance("shop-instance-1")
    await writer.start_replica()
    await writer.open(2)
    acceptors = [copy.acceptor for copy in volume.copies if copy.acceptor is not None]
    quiet_until = time.monotonic() + 1.5
    while time.monotonic() < quiet_until:
        assert {a.stream_state() for a in acceptors} == {StreamState.STREAMING}
        await asyncio.sleep(0.05)
    await writer.server.kill()

    async def states() -> list[StreamState]:
        return [a.stream_state() for a in acceptors]

    killed = time.monotonic()
    await eventually("six copies know", states, lambda seen: set(seen) == {StreamState.CLOSED})
    assert time.monotonic() - killed < 1.0


async def test_a_frozen_writer_is_silent(volume: Volume, make_instance: MakeInstance) -> None:
    writer = make_instance("shop-instance-1")
    await writer.start_replica()
    await writer.open(2)
    acceptors = [copy.acceptor for copy in volume.copies if copy.acceptor is not None]

    async def states() -> list[StreamState]:
        return [a.stream_state() for a in acceptors]

    with writer.frozen():
        await eventually("silent", states, lambda seen: set(seen) == {StreamState.SILENT})
    await eventually("heard again", states, lambda seen: set(seen) == {StreamState.STREAMING})


async def test_rule_2_nothing_is_reported_after_a_promise(
    volume: Volume, make_instance: MakeInstance
) -> None:
    """Three promises stop the old writer's commits for good, whatever it still sends."""
    writer = make_instance("shop-instance-1")
    await writer.start_replica()
    await writer.open(2)
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        volume.promise(volume.next_term(), slots=(0, 1, 2))
        promised = [volume.copies[slot].store.scl() for slot in (0, 1, 2)]
        waiting = asyncio.create_task(session.execute("INSERT INTO t VALUES (1)"))
        await eventually("the commit waits", writer.waiting_commits, lambda n: n == 1)
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done, "a superseded writer acknowledged a commit"
        assert [volume.copies[slot].store.scl() for slot in (0, 1, 2)] == promised
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await writer.server.kill()
