"""Bases: page stores give them, gates give the log that belongs to them."""

from __future__ import annotations

import pytest

from aurora_operator.core.lsn import SEGMENT_BYTES, Lsn, Term
from aurora_operator.core.names import Slot
from aurora_operator.engines.postgresql.endpoint import TcpEndpoint, TlsFiles
from aurora_operator.engines.postgresql.log_fetch import fetch_log
from aurora_operator.engines.postgresql.programs import (
    DEBIAN_BINARIES,
    ProgramFailed,
    base_backup,
    run_program,
)
from aurora_operator.engines.postgresql.relay import FILL_PARAMETER
from aurora_operator.engines.postgresql.settings import LOG_SOCKET_PORT
from aurora_operator.engines.postgresql.wire import ServerError
from aurora_operator.volume.copy_store import CopyStore
from component.postgresql.conftest import MakeInstance, MakePageStore
from component.postgresql.test_gate import sees
from support.postgresql import Instance, Volume, eventually


async def take_base(instance: Instance, page_store: Instance) -> None:
    """What an instance's agent does before it first starts."""
    await base_backup(
        DEBIAN_BINARIES,
        instance.server.data,
        source=page_store.endpoint,
        tls=instance.tls,
        application_name=instance.name,
        sync=False,
        timeout_seconds=60,
    )


async def test_t9_a_new_instance_starts_from_a_page_stores_base_and_a_gates_log(
    volume: Volume, make_instance: MakeInstance, make_page_store: MakePageStore
) -> None:
    writer, late = make_instance("shop-instance-1"), make_instance("shop-instance-2")
    page_store = make_page_store(0)
    await writer.start_replica()
    await page_store.start()
    await writer.open(2)
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        await session.execute("INSERT INTO t SELECT generate_series(1, 1000)")
        await sees(page_store, "t", 1000)
        await take_base(late, page_store)
        await late.start_replica(copy_birth=False)
        await session.execute("INSERT INTO t VALUES (1)")
        await sees(late, "t", 1001)
    control = await late.server.control_data()
    assert control.system_identifier == volume.system_identifier


async def test_t11_a_page_store_that_was_killed_goes_on_where_it_was(
    volume: Volume, make_instance: MakeInstance, make_page_store: MakePageStore
) -> None:
    writer, page_store = make_instance("shop-instance-1"), make_page_store(0)
    await writer.start_replica()
    await page_store.start()
    await writer.open(2)
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        await session.execute("INSERT INTO t VALUES (1)")
        await sees(page_store, "t", 1)
        await page_store.server.kill()
        await session.execute("INSERT INTO t VALUES (2)")
        await page_store.server.start()
        await sees(page_store, "t", 2)


async def test_stock_pg_receivewal_takes_log_from_a_gate(volume: Volume) -> None:
    target = volume.directory / "received"
    target.mkdir()
    await run_program(
        [
            DEBIAN_BINARIES / "pg_receivewal",
            f"--directory={target}",
            f"--host={volume.copies[0].run}",
            f"--port={LOG_SOCKET_PORT}",
            f"--endpos={Lsn(volume.birth.log_end - 1)}",
            "--no-loop",
        ],
        timeout_seconds=20,
    )
    (file,) = target.iterdir()
    length = volume.birth.log_end % SEGMENT_BYTES
    log = b"".join(data for _, data in volume.birth.log())
    assert file.read_bytes()[:length] == log[-length:]


async def test_only_a_certificate_of_the_cluster_gets_a_base(
    volume: Volume, make_instance: MakeInstance, make_page_store: MakePageStore
) -> None:
    page_store = make_page_store(0)
    await page_store.start()
    stranger = make_instance("shop-instance-3")
    role = volume.authority.issue(volume.directory / "operator-tls", "operator", "operator")
    stranger.tls = TlsFiles(role)
    with pytest.raises(ProgramFailed, match="certificate authentication failed"):
        await take_base(stranger, page_store)


async def test_the_name_of_a_page_store_is_verified(
    make_instance: MakeInstance, make_page_store: MakePageStore
) -> None:
    page_store, instance = make_page_store(0), make_instance("shop-instance-3")
    await page_store.start()
    page_store.name = "shop-storage-1"
    with pytest.raises(ProgramFailed, match='does not match host name "shop-storage-1"'):
        await take_base(instance, page_store)


async def test_t12_a_copy_gets_from_a_peer_what_the_writer_does_not_have(
    volume: Volume, make_instance: MakeInstance, make_page_store: MakePageStore
) -> None:
    """The new writer's base is younger than the copy's log: 58P01, then a peer's gate."""
    writer, heir = make_instance("shop-instance-1"), make_instance("shop-instance-2")
    page_store = make_page_store(0)
    await writer.start_replica()
    await page_store.start()
    away = volume.copies[5]
    await writer.open(2, slots=range(5))
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        for _ in range(3):
            await session.execute("INSERT INTO t SELECT generate_series(1, 1000)")
            await session.execute("SELECT pg_switch_wal()")
        await session.execute("CHECKPOINT")
        await sees(page_store, "t", 3000)
        async with await page_store.connect() as standby:
            await standby.execute("CHECKPOINT")
    assert volume.vdl is not None
    assert volume.vdl.lsn - away.store.scl() > SEGMENT_BYTES
    await take_base(heir, page_store)
    await heir.start_replica(copy_birth=False)
    await sees(heir, "t", 3000)
    first_segment = heir.server.data / "pg_wal" / "000000010000000000000001"
    assert not first_segment.exists(), "the new writer must lack what the copy lacks"
    await writer.server.kill()
    await heir.open(3)
    wanted = await heir.flushed()

    async def end() -> int:
        return away.store.scl()

    await eventually("the copy is complete", end, lambda scl: scl >= wanted)
    assert away.store.view().log_term == 3


async def test_rule_13_a_blank_copy_is_filled_from_a_gate_only_at_birth(volume: Volume) -> None:
    source = volume.copies[0]
    (volume.directory / "blank").mkdir()
    filled = CopyStore.open(volume.directory / "blank", volume.copies[1].identity, Slot(1))
    filled.begin_fill()

    async def fill() -> int:
        return await fetch_log(
            source.gate_endpoint,
            copy=filled,
            system_identifier=volume.system_identifier,
            tls=volume.copies[1].tls,
            application_name=volume.copies[1].identity,
            parameters={FILL_PARAMETER: volume.copies[1].identity},
        )

    assert await fill() == volume.birth.log_end
    volume.promise(Term(2), slots=[0])
    filled.begin_fill()
    with pytest.raises(ServerError, match="the birth is over"):
        await fill()
    filled.close()


async def test_another_clusters_gate_is_refused(volume: Volume) -> None:
    source = volume.copies[0]
    wrong = TcpEndpoint(source.gate_endpoint.host, source.gate_endpoint.port, "shop-storage-9")
    with pytest.raises(OSError, match="Hostname mismatch"):
        await fetch_log(
            wrong,
            copy=volume.copies[1].store,
            system_identifier=volume.system_identifier,
            tls=volume.copies[1].tls,
            application_name="x",
        )
