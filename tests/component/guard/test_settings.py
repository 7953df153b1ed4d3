"""The settings that the guard registers, as drivers and people meet them."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from component.guard.server import AGENT, CLIENT, COPY, GuardedServer, wait_until

MakeServer = Callable[[], GuardedServer]


def setting(server: GuardedServer, name: str) -> tuple[object, ...] | None:
    query = "SELECT setting, context, vartype FROM pg_settings WHERE name = %s"
    with server.connect(AGENT, over_tcp=False) as agent:
        return agent.execute(query, [name]).fetchone()


def test_drivers_recognise_aurora_by_rds_extensions(server: GuardedServer) -> None:
    server.open_door()
    with server.connect(CLIENT) as session:
        question = (
            "SELECT (setting LIKE '%aurora_stat_utils%') AS aurora_stat_utils"
            " FROM pg_catalog.pg_settings WHERE name = 'rds.extensions'"
        )
        assert session.execute(question).fetchone() == (True,)


def test_rds_extensions_lists_what_the_server_has(server: GuardedServer) -> None:
    with server.connect(AGENT, over_tcp=False) as agent:
        rows = agent.execute("SELECT name FROM pg_available_extensions").fetchall()
    found = setting(server, "rds.extensions")
    assert found is not None
    value, context, _ = found
    assert context == "internal"
    assert set(str(value).split(",")) == {row[0] for row in rows} | {"aurora_stat_utils"}
    assert {"vector", "pg_stat_statements", "pgcrypto", "plpgsql"} <= set(str(value).split(","))


def test_registered_settings(server: GuardedServer) -> None:
    assert setting(server, "rds.force_ssl") == ("off", "sighup", "bool")
    assert setting(server, "rds.logical_replication") == ("off", "postmaster", "bool")
    assert setting(server, "aurora_guard.door_file") == (str(server.door), "postmaster", "string")


@pytest.mark.parametrize("name", ["rds.no_such_setting", "aurora_guard.no_such_setting"])
def test_both_prefixes_are_reserved(server: GuardedServer, name: str) -> None:
    with (
        server.connect(AGENT, over_tcp=False) as agent,
        pytest.raises(psycopg.errors.InvalidName),
    ):
        agent.execute(f"SET {name} = 'x'")


def test_force_ssl_refuses_plain_network_sessions_only(server: GuardedServer) -> None:
    server.open_door()
    with (server.data / "postgresql.auto.conf").open("a") as configuration:
        configuration.write("rds.force_ssl = on\n")
    server.reload()
    wait_until("plain is refused", lambda: server.knock(CLIENT).sqlstate, lambda s: s == "28000")
    assert server.knock(CLIENT, over_tcp=False).welcome


def test_logical_replication_cannot_be_turned_on(make_server: MakeServer) -> None:
    server = make_server()
    server.start(rds__logical_replication="on")
    assert setting(server, "rds.logical_replication") == ("off", "postmaster", "bool")
    assert "rds.logical_replication cannot be turned on yet" in server.log.read_text()


def test_logical_replication_is_refused_to_everybody(server: GuardedServer) -> None:
    server.open_door()
    for user, over_tcp in [(COPY, True), (AGENT, True), (AGENT, False)]:
        answer = server.knock(user, over_tcp=over_tcp, replication="database")
        assert answer.sqlstate == "0A000", answer
        assert "logical replication is not available" in answer.fields["M"]
    with (
        server.connect(AGENT, over_tcp=False) as agent,
        pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="wal_level"),
    ):
        agent.execute("SELECT pg_create_logical_replication_slot('tap', 'pgoutput')")
    with (
        server.connect(COPY, replication="true") as walsender,
        pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="wal_level"),
    ):
        walsender.execute("CREATE_REPLICATION_SLOT tap LOGICAL pgoutput")
