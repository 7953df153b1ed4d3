"""Controlling a real server: its end, its leftovers, its settings and its log."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from aurora_operator.core.names import Identity
from aurora_operator.engines.postgresql.birth import Birth
from aurora_operator.engines.postgresql.leftovers import users_of
from aurora_operator.engines.postgresql.queries import QuestionFailed
from aurora_operator.engines.postgresql.roles import ensure_master
from aurora_operator.engines.postgresql.server import ServerEnded
from aurora_operator.engines.postgresql.settings import (
    MAIN_FILE,
    MEMBERS_FILE,
    members_conf,
    sync_names,
)
from component.postgresql.conftest import MakeInstance
from support.postgresql import HOST, eventually


async def test_the_birth_leaves_a_log_without_a_gap(birth: Birth) -> None:
    log = list(birth.log())
    position = log[0][0]
    assert str(position) == "0/1000000"
    for start, data in log:
        assert start == position
        position = start.advanced(len(data))
    assert position == birth.log_end
    assert birth.log_end % 8 == 0


async def test_the_end_of_a_server_is_told_with_its_last_words(make_instance: MakeInstance) -> None:
    instance = make_instance("shop-instance-1")
    await instance.start_replica()
    ended = asyncio.create_task(instance.server.wait_exit())
    postmaster = int(_pid_file(instance.server.data)[0])
    os.kill(postmaster, signal.SIGKILL)
    assert await asyncio.wait_for(ended, 5) == -signal.SIGKILL
    assert not instance.server.running
    assert "signal 9" in await instance.server.ended_sentence()


async def test_t13_a_server_starts_again_right_after_its_postmaster_was_killed(
    make_instance: MakeInstance,
) -> None:
    """Backends that outlived the postmaster are gone before the directory is used again."""
    instance = make_instance("shop-instance-1")
    await instance.start_replica()
    async with await instance.connect() as session:
        busy = asyncio.create_task(session.execute("SELECT pg_sleep(600)"))
        orphans = users_of(instance.server.data)
        os.kill(int(_pid_file(instance.server.data)[0]), signal.SIGKILL)
        await instance.server.wait_exit()
        await instance.server.start()
        assert not set(orphans) & set(users_of(instance.server.data))
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(busy, 5)
    assert await instance.sql.in_recovery()


async def test_a_server_that_cannot_start_says_why(make_instance: MakeInstance) -> None:
    instance = make_instance("shop-instance-1")
    await instance.start_replica()
    await instance.server.stop()
    text = (instance.server.data / MAIN_FILE).read_text()
    instance.server.write_files({MAIN_FILE: text + "max_connections = 10\n"})
    with pytest.raises(ServerEnded, match="insufficient parameter settings"):
        await instance.server.start()


async def test_a_reload_that_took_no_effect_is_noticed(make_instance: MakeInstance) -> None:
    """One bad line, and PostgreSQL applies nothing: the list would silently be the old one."""
    instance = make_instance("shop-instance-1")
    await instance.start_replica()
    members = [Identity("s0_x"), Identity("s1_x"), Identity("s2_x"), Identity("s3_x")]
    wanted = sync_names(members)
    instance.server.write_files({MEMBERS_FILE: members_conf(members) + "no_such_setting = 1\n"})
    instance.server.reload()
    with pytest.raises(QuestionFailed, match="no_such_setting"):
        await instance.sql.wait_setting("synchronous_standby_names", wanted, timeout_seconds=0.5)
    instance.server.write_files({MEMBERS_FILE: members_conf(members)})
    instance.server.reload()
    await instance.sql.wait_setting("synchronous_standby_names", wanted)


async def test_a_frozen_server_delays_a_question_only_until_its_deadline(
    make_instance: MakeInstance,
) -> None:
    instance = make_instance("shop-instance-1")
    await instance.start_replica()
    await instance.sql.rows("SELECT 1")
    with instance.frozen():
        begun = time.monotonic()
        with pytest.raises(QuestionFailed):
            await instance.sql.rows("SELECT 1", timeout_seconds=0.3)
        assert time.monotonic() - begun < 2
    assert await instance.sql.rows("SELECT 1") == [(1,)]


async def test_slots_are_exactly_the_members(make_instance: MakeInstance) -> None:
    """On a standby, before promotion (H2)."""
    instance = make_instance("shop-instance-1")
    await instance.start_replica()
    for names in (["s0_a", "s1_a"], ["s1_a", "s2_a"]):
        await instance.sql.ensure_slots([Identity(name) for name in names])
        rows = await instance.sql.rows(
            "SELECT slot_name, restart_lsn IS NOT NULL FROM pg_replication_slots ORDER BY 1"
        )
        assert rows == [(name, True) for name in names]


async def test_log_lines_become_records(make_instance: MakeInstance) -> None:
    instance = make_instance("shop-instance-1")
    await instance.start_replica()
    async with await instance.connect(application_name="probe|x") as session:
        with pytest.raises(psycopg.Error):
            await session.execute("SELECT 'two\nlines' + 1")

    async def failures() -> list[dict[str, str]]:
        return [r for r in instance.records if r["severity"] == "ERROR"]

    (record,) = await eventually("the record", failures, lambda seen: len(seen) == 1)
    assert record["sqlstate"] == "22P02"
    assert record["application"] == "probe|x"
    assert record["user"] == "rdsadmin"
    assert "two\nlines" in record["statement"]


async def test_i4_clients_are_let_in_by_the_door_only(make_instance: MakeInstance) -> None:
    """A server starts shut whatever the byte says, and its clients end when it is shut."""
    writer = make_instance("shop-instance-1", guard=True)
    await writer.start_replica()
    await writer.open(2)
    assert writer.door is not None
    await ensure_master(writer.sql, "admin", "secret")

    async def knock() -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            host=HOST, port=writer.port, user="admin", password="secret", dbname="postgres"
        )

    with pytest.raises(psycopg.OperationalError, match="not open for clients"):
        await knock()
    writer.door.open()
    async with await knock() as session:
        assert await writer.sql.client_sessions() == 1
        writer.door.shut()
        writer.server.reload()
        await eventually("nobody is in", writer.sql.client_sessions, lambda count: count == 0)
        with pytest.raises(psycopg.errors.AdminShutdown):
            await session.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="not open for clients"):
        await knock()
    writer.door.open()
    await writer.server.stop()
    await writer.server.start()
    with pytest.raises(psycopg.OperationalError, match="not open for clients"):
        await knock()


def _pid_file(data: Path) -> list[str]:
    return (data / "postmaster.pid").read_text().splitlines()
