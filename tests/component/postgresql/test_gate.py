"""Standbys behind gates: what they see, and what they must never see."""

from __future__ import annotations

import asyncio

from aurora_operator.core.copy import Vdl
from aurora_operator.core.lsn import Term
from component.postgresql.conftest import MakeInstance
from support.postgresql import Instance, Volume, eventually


async def sees(instance: Instance, table: str, count: int) -> None:
    """Wait until a session on the instance sees so many rows."""

    async def rows() -> int:
        return await instance.rows_of(table)

    await eventually(f"{instance.name} sees {count} rows", rows, lambda seen: seen == count)


async def test_i2_a_replica_never_applies_beyond_the_vdl(
    volume: Volume, make_instance: MakeInstance
) -> None:
    """The commit is on four copies and acknowledged, but the VDL is not told: not applied."""
    writer, replica = make_instance("shop-instance-1"), make_instance("shop-instance-2")
    await writer.start_replica()
    await replica.start_replica()
    await writer.open(2)
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        await session.execute("INSERT INTO t VALUES (1)")
        await sees(replica, "t", 1)
        volume.hub_is_silent = True
        known = volume.vdl
        assert known is not None
        for number in range(200):
            await session.execute("INSERT INTO t VALUES (%s)", [number])
            assert await replica.replayed() <= known.lsn
        assert await replica.rows_of("t") == 1
        volume.hub_is_silent = False
        volume.beat()
        await sees(replica, "t", 201)


async def test_i2_a_row_on_three_copies_is_shown_nowhere(
    volume: Volume, make_instance: MakeInstance
) -> None:
    writer, replica = make_instance("shop-instance-1"), make_instance("shop-instance-4")
    await writer.start_replica()
    await replica.start_replica()
    await writer.open(2)
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        await sees(replica, "t", 0)
        for copy in volume.copies[:3]:
            await copy.stop_following()
        waiting = asyncio.create_task(session.execute("INSERT INTO t VALUES (1)"))
        await eventually("the commit waits", writer.waiting_commits, lambda n: n == 1)
        flushed = await writer.flushed()

        async def tails() -> list[bool]:
            return [copy.store.scl() >= flushed for copy in volume.copies[3:]]

        await eventually("three copies have the tail", tails, all)
        assert await replica.rows_of("t") == 0
        assert await replica.replayed() <= flushed
        volume.copies[0].follow(volume, writer.endpoint, volume.term)
        await asyncio.wait_for(waiting, 5)
    await sees(replica, "t", 1)


async def test_rule_7_replicas_cross_terms_and_skipped_numbers_without_a_new_base(
    volume: Volume, make_instance: MakeInstance
) -> None:
    """T8, T12: terms 2, 5 and 9; the numbers between were never anybody's."""
    first, second, third = (make_instance(f"shop-instance-{n}") for n in (1, 2, 3))
    for instance in (first, second, third):
        await instance.start_replica()
    facts = await first.open(2)
    assert facts.timeline == 2
    async with await first.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        await session.execute("INSERT INTO t SELECT generate_series(1, 1000)")
    await first.server.kill()
    facts = await second.open(5)
    assert facts.timeline == 5
    async with await second.connect() as session:
        await session.execute("INSERT INTO t SELECT generate_series(1, 1000)")
    await sees(third, "t", 2000)
    await second.server.kill()
    facts = await third.open(9)
    assert facts.timeline == 9
    assert [entry.term for entry in facts.history.entries] == [1, 2, 5, 9]
    assert await third.rows_of("t") == 2000


async def test_rule_3_a_tail_that_was_chosen_is_kept_and_caught_up_uncapped(
    volume: Volume, make_instance: MakeInstance
) -> None:
    """Three copies hold a row that was never acknowledged; the next writer may keep it."""
    writer, heir = make_instance("shop-instance-1"), make_instance("shop-instance-2")
    await writer.start_replica()
    await heir.start_replica()
    await writer.open(2)
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        await sees(heir, "t", 0)
        for copy in volume.copies[:3]:
            await copy.stop_following()
        waiting = asyncio.create_task(session.execute("INSERT INTO t VALUES (1)"))
        await eventually("the commit waits", writer.waiting_commits, lambda n: n == 1)
        flushed = await writer.flushed()

        async def tails() -> list[bool]:
            return [copy.store.scl() >= flushed for copy in volume.copies[3:]]

        await eventually("three copies have the tail", tails, all)
        await writer.server.kill()
        await asyncio.gather(waiting, return_exceptions=True)
    replayed = await heir.replayed()
    facts = await heir.open(3, slots=(0, 1, 2, 3))
    assert facts.timeline == 3
    assert facts.fork_lsn >= replayed
    assert await heir.rows_of("t") == 1


async def test_h14_a_chosen_log_that_ends_inside_a_record_is_opened_behind_it(
    volume: Volume, make_instance: MakeInstance
) -> None:
    """T5: the volume's end is a byte position; the next term forks before the torn record."""
    writer, heir = make_instance("shop-instance-1"), make_instance("shop-instance-2")
    await writer.start_replica()
    await heir.start_replica()
    await writer.open(2)
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        await sees(heir, "t", 0)
        for copy in volume.copies[:4]:
            await copy.stop_following()
        waiting = asyncio.create_task(session.execute("INSERT INTO t VALUES (1)"))
        await eventually("the commit waits", writer.waiting_commits, lambda n: n == 1)
        await writer.server.kill()
        await asyncio.gather(waiting, return_exceptions=True)
    whole = volume.copies[0].store.scl()
    torn = volume.copies[4].store.read(whole, 12)
    for copy in volume.copies[:4]:
        copy.store.append(whole, torn, Term(2))
        copy.store.sync()
    replayed = await heir.replayed()
    facts = await heir.open(3, slots=(0, 1, 2, 3))
    assert facts.timeline == 3
    assert replayed <= facts.fork_lsn == whole
    assert await heir.rows_of("t") == 0
    async with await heir.connect() as session:
        await session.execute("INSERT INTO t VALUES (2)")


async def test_rule_5_a_dead_tail_is_cut_and_the_copy_follows_again(
    volume: Volume, make_instance: MakeInstance
) -> None:
    """Copies 4 and 5 hold a row that nobody else has; they were away when term 3 opened."""
    writer, heir = make_instance("shop-instance-1"), make_instance("shop-instance-2")
    await writer.start_replica()
    await heir.start_replica()
    await writer.open(2)
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        await sees(heir, "t", 0)
        for copy in volume.copies[:4]:
            await copy.stop_following()
        waiting = asyncio.create_task(session.execute("INSERT INTO t VALUES (1)"))
        await eventually("the commit waits", writer.waiting_commits, lambda n: n == 1)
        flushed = await writer.flushed()

        async def tails() -> list[bool]:
            return [copy.store.scl() >= flushed for copy in volume.copies[4:]]

        await eventually("two copies have the tail", tails, all)
        await writer.server.kill()
        await asyncio.gather(waiting, return_exceptions=True)
    before = heir.volume.copies[0].store.record
    facts = await heir.open(3, slots=(0, 1, 2, 3))
    assert before is not None
    volume.promise_again(heir.promise, slots=(4, 5))
    volume.adopt(heir.promise, facts, before.history, heir.endpoint, slots=(4, 5))
    async with await heir.connect() as session:
        await session.execute("INSERT INTO t VALUES (2)")
    wanted = await heir.flushed()

    async def ends() -> list[bool]:
        return [copy.store.scl() >= wanted for copy in volume.copies]

    await eventually("all six follow", ends, all)
    assert await heir.rows_of("t") == 1
    logs = {
        copy.store.read(facts.fork_lsn, 64 * 1024)[: wanted - facts.fork_lsn]
        for copy in volume.copies
    }
    assert len(logs) == 1, "copies differ after the fork"


async def test_a_replica_moves_on_when_its_gate_goes(
    volume: Volume, make_instance: MakeInstance
) -> None:
    writer, replica = make_instance("shop-instance-1"), make_instance("shop-instance-2")
    await writer.start_replica()
    await replica.start_replica()
    await writer.open(2)
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        await sees(replica, "t", 0)
        gate = replica.relay.current_gate
        (served_by,) = (copy for copy in volume.copies if copy.gate_endpoint == gate)
        await served_by.gate.close()
        await session.execute("INSERT INTO t VALUES (1)")
        await sees(replica, "t", 1)
    assert replica.relay.current_gate != gate


async def test_t10_a_standby_ahead_of_its_gate_waits_and_goes_on(
    volume: Volume, make_instance: MakeInstance
) -> None:
    """The only gate it can reach is behind it: it stays connected and applies nothing wrong."""
    writer, replica = make_instance("shop-instance-1"), make_instance("shop-instance-2")
    await writer.start_replica()
    await replica.start_replica()
    await writer.open(2)
    late = volume.copies[5]
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        await sees(replica, "t", 0)

        async def late_vdl() -> Vdl | None:
            record = late.store.record
            return None if record is None else record.known_vdl

        await eventually("it knows term 2", late_vdl, lambda v: v is not None and v.term == 2)
        await late.stop_following()
        await session.execute("INSERT INTO t VALUES (1)")
        await sees(replica, "t", 1)
        for copy in volume.copies[:5]:
            await copy.gate.close()

        async def gate() -> object:
            return replica.relay.current_gate

        await eventually("at the late gate", gate, lambda seen: seen == late.gate_endpoint)
        await session.execute("INSERT INTO t VALUES (2)")
        assert await replica.rows_of("t") == 1
        late.follow(volume, writer.endpoint, Term(2))
        await sees(replica, "t", 2)
