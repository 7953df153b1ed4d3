"""Roles: what the master user may do, and what it never may."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg import errors

from aurora_operator.engines.postgresql.log_client import LogClient
from aurora_operator.engines.postgresql.queries import Sql
from aurora_operator.engines.postgresql.roles import (
    ensure_database,
    ensure_master,
)
from aurora_operator.engines.postgresql.wire import ServerError
from component.postgresql.conftest import MakeInstance
from support.postgresql import HOST, Instance, Volume

PASSWORD = "correct horse"
FORBIDDEN = (
    "ALTER ROLE admin SUPERUSER",
    "ALTER ROLE admin REPLICATION",
    "CREATE ROLE x REPLICATION",
    "CREATE ROLE x SUPERUSER",
    "CREATE ROLE x BYPASSRLS",
    "GRANT aurora_acceptor TO admin",
    "GRANT rdsadmin TO admin",
    "SET ROLE rdsadmin",
    "SET ROLE aurora_acceptor",
    "SET SESSION AUTHORIZATION rdsadmin",
    "ALTER ROLE rdsadmin PASSWORD 'x'",
    "ALTER ROLE aurora_acceptor PASSWORD 'x'",
    "DROP ROLE aurora_base",
    "ALTER SYSTEM SET synchronous_standby_names = ''",
    "GRANT pg_write_server_files TO admin",
    "GRANT pg_execute_server_program TO admin",
    "COPY (SELECT 1) TO '/tmp/x'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "CREATE EXTENSION file_fdw",
    "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'x'",
    "SELECT pg_create_physical_replication_slot('s0_test2')",
    "SELECT pg_create_logical_replication_slot('x', 'pgoutput')",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_promote()",
    "SELECT pg_switch_wal()",
    "SELECT * FROM pg_authid",
)

REFUSALS = (
    errors.InsufficientPrivilege,
    errors.FeatureNotSupported,
    errors.ObjectNotInPrerequisiteState,
)

Session = psycopg.AsyncConnection[Any]


async def log_in(writer: Instance, user: str = "admin", **options: Any) -> Session:
    """A client's session over TLS."""
    return await psycopg.AsyncConnection.connect(
        host=HOST,
        port=writer.port,
        autocommit=True,
        **{"user": user, "password": PASSWORD, "dbname": "postgres", **options},
    )


@pytest.fixture
async def writer(volume: Volume, make_instance: MakeInstance) -> Instance:
    """An open writer with a master user and a database."""
    instance = make_instance("shop-instance-1")
    await instance.start_replica()
    await instance.open(2)
    assert await ensure_master(instance.sql, "admin", PASSWORD)
    assert await ensure_database(instance.sql, "shop", "admin")
    return instance


async def test_ensuring_the_master_again_changes_nothing(writer: Instance) -> None:
    assert not await ensure_master(writer.sql, "admin", PASSWORD)
    assert not await ensure_database(writer.sql, "shop", "admin")
    assert await ensure_master(writer.sql, "admin", "another")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await log_in(writer)


async def test_a_master_that_was_tampered_with_is_repaired(writer: Instance) -> None:
    await writer.sql.rows("ALTER ROLE admin NOCREATEDB")
    await writer.sql.rows("ALTER ROLE rds_superuser RENAME TO was_rds_superuser")
    assert await ensure_master(writer.sql, "admin", PASSWORD)
    async with await log_in(writer) as session:
        await session.execute("CREATE DATABASE another")
        await session.execute("SELECT * FROM pg_stat_activity")


async def test_the_master_does_what_it_does_on_rds(writer: Instance) -> None:
    async with await log_in(writer, dbname="shop") as session:
        for statement in (
            "CREATE TABLE t (i int)",
            "CREATE EXTENSION hstore",
            "CREATE EXTENSION vector",
            "CREATE DATABASE more",
            "CREATE ROLE app LOGIN PASSWORD 'x' CREATEDB",
            "GRANT pg_monitor TO app",
            "GRANT rds_superuser TO app",
            "GRANT rds_iam TO app",
            "CHECKPOINT",
            "SELECT * FROM pg_stat_replication",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'",
        ):
            await session.execute(statement)
        available = await session.execute("SELECT name FROM pg_available_extensions")
        names = {name for (name,) in await available.fetchall()}
        assert names >= {"pg_trgm", "uuid-ossp"}
    async with await log_in(writer) as session:
        await session.execute("CREATE TABLE in_postgres (i int)")
        await session.execute("SELECT count(*) FROM pg_stat_statements")
        await session.execute("SELECT pg_stat_statements_reset()")


async def test_the_master_never_may(writer: Instance) -> None:
    refused: set[str] = set()
    async with await log_in(writer) as session:
        for statement in FORBIDDEN:
            try:
                await session.execute(statement)
            except REFUSALS:
                refused.add(statement)
    assert set(FORBIDDEN) - refused == set(), "these were allowed"


async def test_streams_that_the_master_ends_come_back(writer: Instance) -> None:
    """``pg_signal_backend`` covers walsenders too; it is a nuisance, and no more."""
    async with await log_in(writer) as session:
        await session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        await asyncio.wait_for(session.execute("CREATE TABLE t (i int)"), 10)


async def test_nobody_reaches_the_agents_database_or_roles_over_the_network(
    writer: Instance,
) -> None:
    for options in (
        {"dbname": "rdsadmin"},
        {"user": "rdsadmin"},
        {"user": "aurora_acceptor"},
        {"user": "aurora_base"},
    ):
        with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects"):
            await log_in(writer, **options)


async def test_physical_replication_takes_a_certificate_of_the_right_role(
    writer: Instance, volume: Volume
) -> None:
    copy = volume.copies[0]
    async with await LogClient.connect(
        writer.endpoint, tls=copy.tls, user="aurora_acceptor", application_name="x"
    ) as client:
        who = await client.identify_system()
        assert who.system_identifier == volume.system_identifier
    for tls, user in ((writer.tls, "aurora_acceptor"), (copy.tls, "admin")):
        with pytest.raises(ServerError) as refused:
            await LogClient.connect(writer.endpoint, tls=tls, user=user, application_name="x")
        assert refused.value.sqlstate == "28000"


async def test_the_agent_connects_only_as_the_servers_own_user(writer: Instance) -> None:
    """Peer authentication: no password would help."""
    sql = Sql(socket_directory=writer.run, port=writer.port)
    assert (await sql.rows("SELECT current_user"))[0][0] == "rdsadmin"
    await sql.close()
    with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects"):
        await psycopg.AsyncConnection.connect(
            host=str(writer.run), port=writer.port, user="admin", dbname="postgres"
        )
