"""I1: only the copies' own role counts towards the write quorum, whatever a stream calls itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from component.guard.quorum import (
    MEMBER,
    THE_LIST,
    Copy,
    assert_held,
    begin_insert,
    heard,
    set_list,
    start_without_quorum,
    streams,
    wait_waiting,
)
from component.guard.server import AGENT, CLIENT, SUPERUSER, GuardedServer, wait_until

MakeServer = Callable[[], GuardedServer]

SPY = "spy"
PREPARE = f"""
CREATE ROLE {SPY} LOGIN REPLICATION;
CREATE ROLE named LOGIN;
ALTER ROLE named SET application_name = '{MEMBER}';
"""


@pytest.fixture
def held(make_server: MakeServer) -> GuardedServer:
    server = make_server()
    start_without_quorum(server, PREPARE)
    return server


def waiter(server: GuardedServer) -> psycopg.Connection[tuple[object, ...]]:
    session = server.connect(CLIENT, application_name="waiter")
    begin_insert(session, 1)
    wait_waiting(server, "waiter")
    return session


@pytest.mark.parametrize("name", [MEMBER, MEMBER.upper()])
def test_a_listed_name_is_refused_to_everybody_else(held: GuardedServer, name: str) -> None:
    for user, over_tcp in [(CLIENT, True), (SUPERUSER, True), (AGENT, False)]:
        with pytest.raises(psycopg.OperationalError, match="belongs to a copy"):
            held.connect(user, over_tcp=over_tcp, application_name=name)


def test_a_listed_name_is_refused_however_it_is_set(held: GuardedServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="belongs to a copy"):
        held.connect(CLIENT, options=f"-c application_name={MEMBER}")
    with held.connect(CLIENT) as session:
        for statement in (
            f"SET application_name = {MEMBER}",
            f"SET LOCAL application_name = {MEMBER.upper()}",
            f"SELECT set_config('application_name', '{MEMBER}', false)",
            f"UPDATE pg_settings SET setting = '{MEMBER}' WHERE name = 'application_name'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="belongs to a copy"):
                session.execute(statement.encode())
        session.execute("SET application_name = anything_else")
    with held.connect(AGENT, over_tcp=False) as agent:
        for statement in (
            f"ALTER ROLE {CLIENT} SET application_name = {MEMBER}",
            f"ALTER DATABASE postgres SET application_name = {MEMBER}",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="belongs to a copy"):
                agent.execute(statement.encode())


def test_a_name_given_to_a_role_before_it_was_listed_is_not_taken(held: GuardedServer) -> None:
    with held.connect("named", application_name="own") as session:
        assert session.execute("SHOW application_name").fetchone() == ("own",)
    with held.connect("named") as session:
        assert session.execute("SHOW application_name").fetchone() == ("",)


def test_a_session_whose_name_is_listed_later_goes_on(held: GuardedServer) -> None:
    """Its parallel workers take the name over unasked; it counts for nothing as it is."""
    with held.connect(CLIENT, application_name="later") as session:
        session.execute("SET debug_parallel_query = on")
        set_list(held, "synchronous_standby_names = 'ANY 1 (later)'\n")
        held.reload()
        wait_until(
            "the list has changed",
            lambda: session.execute("SHOW synchronous_standby_names").fetchone(),
            lambda seen: seen == ("ANY 1 (later)",),
        )
        plan = session.execute("EXPLAIN SELECT count(*) FROM kept").fetchall()
        assert any("Workers Planned" in str(row) for row in plan), plan
        assert session.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_forged_stream_is_refused(held: GuardedServer, tmp_path: Path) -> None:
    session = waiter(held)
    for name in (MEMBER, MEMBER.upper()):
        with Copy(held, tmp_path / "forged", user=SPY, name=name) as forged:
            assert "belongs to a copy of the volume" in forged.last_words()
    assert_held(held, "waiter", 1)
    with Copy(held, tmp_path / "copy"):
        assert heard(session) == ["COMMAND_OK"]


@pytest.mark.parametrize("line", ["ANY 1 (later)", "1 (later)", "ANY 1 (*)"])
def test_a_stream_whose_name_is_listed_later_does_not_count(
    held: GuardedServer, tmp_path: Path, line: str
) -> None:
    session = waiter(held)
    with Copy(held, tmp_path / "forged", user=SPY, name="later") as forged:
        forged.wait_acknowledging()
        set_list(held, f"synchronous_standby_names = '{line}'\n")
        held.reload()
        with held.connect(AGENT, over_tcp=False) as agent:
            wait_until(
                "the list has changed",
                lambda: agent.execute("SHOW synchronous_standby_names").fetchone(),
                lambda seen: seen == (line,),
            )
        # More log makes the stream acknowledge again, after it too has seen the list.
        begin_insert(held.connect(CLIENT, application_name="another"), 2)
        wait_waiting(held, "another")
        forged.wait_acknowledging()
        assert_held(held, "waiter", 1)
        assert_held(held, "another", 2)
        assert streams(held)["later"] == "async"
        if "later" in line:
            with pytest.raises(psycopg.OperationalError, match="belongs to a copy"):
                held.connect(CLIENT, application_name="later")
        with Copy(held, tmp_path / "copy", name="later2" if "*" in line else "LATER"):
            assert heard(session) == ["COMMAND_OK"]


def test_a_stream_begun_under_any_name_does_not_count(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server()
    start_without_quorum(server, PREPARE)
    set_list(server, "synchronous_standby_names = 'ANY 1 (*)'\n")
    server.stop()
    server.start()
    server.open_door()
    waiter(server)
    with Copy(server, tmp_path / "forged", user=SPY, name="anything") as forged:
        forged.wait_acknowledging()
        assert_held(server, "waiter", 1)
        assert streams(server) == {"anything": "async"}


@pytest.mark.parametrize("line", ["synchronous_standby_names = ''\n", "", "work_mem = '5MB'\n"])
def test_the_list_is_not_emptied_under_waiting_commits(
    held: GuardedServer, tmp_path: Path, line: str
) -> None:
    session = waiter(held)
    set_list(held, line)
    held.reload()
    wait_until(
        "the server has refused",
        lambda: "cannot be emptied while the server runs" in held.log.read_text(),
        lambda seen: seen,
    )
    assert_held(held, "waiter", 1)
    set_list(held, THE_LIST)
    held.reload()
    with Copy(held, tmp_path / "copy"):
        assert heard(session) == ["COMMAND_OK"]
