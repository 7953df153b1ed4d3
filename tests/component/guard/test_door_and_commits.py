"""A door that shuts on waiting commits: clients are told at once, rows stay hidden."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg.pq import ExecStatus

from component.guard.quorum import (
    Copy,
    assert_held,
    begin_insert,
    heard,
    shown,
    start_without_quorum,
    terminate_backend,
    wait_waiting,
    waiting,
)
from component.guard.server import AGENT, CLIENT, GuardedServer, wait_until
from component.guard.sessions import Session
from support.authority import Authority

MakeServer = Callable[[], GuardedServer]

TOLD_WITHIN_SECONDS = 1.0
STOPPED_WITHIN_SECONDS = 5.0


@pytest.fixture
def server(make_server: MakeServer) -> GuardedServer:
    made = make_server()
    start_without_quorum(made)
    return made


def shut_on_waiter(server: GuardedServer, session: Session) -> list[str]:
    """Shut the door and read all that the client is told; it must not take long."""
    begun = time.monotonic()
    server.shut_door()
    words = heard(session)
    took_seconds = time.monotonic() - begun
    print(f"a waiting client heard {words} after {took_seconds * 1000:.1f} ms")
    assert took_seconds < TOLD_WITHIN_SECONDS
    return words


def test_a_waiting_client_is_told_and_its_row_stays_hidden(
    server: GuardedServer, tmp_path: Path
) -> None:
    session = server.connect(CLIENT, application_name="waiter")
    begin_insert(session, 1)
    wait_waiting(server, "waiter")

    words = shut_on_waiter(server, session)

    assert words[0] == "57P01"
    assert "COMMAND_OK" not in words
    assert_held(server, "waiter", 1)
    server.open_door()
    assert_held(server, "waiter", 1)
    with server.connect(CLIENT) as other:
        assert other.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    with Copy(server, tmp_path / "copy"):
        wait_until("the row is shown", lambda: shown(server, 1), lambda seen: seen)
    wait_until("none waits", lambda: waiting(server), lambda seen: not seen)


def test_what_it_is_told(server: GuardedServer) -> None:
    session = server.connect(CLIENT, application_name="waiter")
    begin_insert(session, 1)
    wait_waiting(server, "waiter")
    server.shut_door()
    result = session.pgconn.get_result()
    assert result is not None
    words = result.error_message.decode()
    assert "the server stands down while this commit waits" in words
    assert "not decided yet" in words
    assert "look for the transaction's effect" in words


def test_under_tls_it_sees_the_connection_end(
    make_server: MakeServer, authority: Authority, tmp_path: Path
) -> None:
    server = make_server()
    keys = authority.issue(tmp_path / "keys", "shop", "shop", ip="127.0.0.1")
    start_without_quorum(
        server,
        ssl="on",
        ssl_cert_file=str(keys / "tls.crt"),
        ssl_key_file=str(keys / "tls.key"),
    )
    session = server.connect(CLIENT, application_name="waiter", sslmode="require")
    assert session.pgconn.ssl_in_use
    begin_insert(session, 1)
    wait_waiting(server, "waiter")
    server.shut_door()
    result = session.pgconn.get_result()
    assert result is not None
    assert result.status == ExecStatus.FATAL_ERROR
    # A message in the clear would be taken for a broken record.
    assert "unexpected eof" in result.error_message.decode().lower(), result.error_message
    assert_held(server, "waiter", 1)


def test_with_words_half_on_their_way_it_sees_the_connection_end(server: GuardedServer) -> None:
    """In the extended protocol the answer's first half is ready before the commit waits."""
    session = server.connect(CLIENT, application_name="waiter")
    session.pgconn.send_query_params(b"INSERT INTO kept VALUES ($1)", [b"1"])
    wait_waiting(server, "waiter")
    assert shut_on_waiter(server, session) == ["FATAL_ERROR"]
    assert_held(server, "waiter", 1)


def test_two_phase_commits_are_told_and_held_too(server: GuardedServer, tmp_path: Path) -> None:
    session = server.connect(CLIENT, application_name="first")
    with Copy(server, tmp_path / "copy"):
        session.execute("BEGIN")
        session.execute("INSERT INTO kept VALUES (1)")
        session.execute("PREPARE TRANSACTION 'one'")
    session.execute("SET application_name = waiter")
    session.pgconn.send_query(b"COMMIT PREPARED 'one'")
    wait_waiting(server, "waiter")
    assert shut_on_waiter(server, session)[0] == "57P01"
    assert_held(server, "waiter", 1)


def test_a_door_that_shuts_again_and_again_says_it_once(server: GuardedServer) -> None:
    session = server.connect(CLIENT, application_name="waiter")
    begin_insert(session, 1)
    wait_waiting(server, "waiter")
    terminate_backend(server, session)
    for _ in range(3):
        server.shut_door()
        server.open_door()
    server.shut_door()
    words = heard(session)
    assert words.count("57P01") == 1, words
    assert_held(server, "waiter", 1)


def test_many_waiting_clients_are_told(server: GuardedServer, tmp_path: Path) -> None:
    sessions = [server.connect(CLIENT, application_name=f"waiter {n}") for n in range(50)]
    for number, session in enumerate(sessions):
        begin_insert(session, number)
    wait_until("all wait", lambda: len(waiting(server)), lambda count: count == len(sessions))
    begun = time.monotonic()
    server.shut_door()
    for session in sessions:
        assert heard(session)[0] == "57P01"
    took_seconds = time.monotonic() - begun
    print(f"{len(sessions)} waiting clients told in {took_seconds * 1000:.0f} ms")
    assert took_seconds < TOLD_WITHIN_SECONDS
    assert len(waiting(server)) == len(sessions)
    assert not shown(server, 0)


def test_a_fast_shutdown_works_behind_the_shut_door(server: GuardedServer) -> None:
    """The agent's order of things: door shut, then the server ended."""
    session = server.connect(CLIENT, application_name="waiter")
    begin_insert(session, 1)
    wait_waiting(server, "waiter")
    assert shut_on_waiter(server, session)[0] == "57P01"
    took_seconds = server.shut_down_fast()
    print(f"fast shutdown behind the door: {took_seconds * 1000:.0f} ms")
    assert took_seconds < STOPPED_WITHIN_SECONDS


def test_a_commit_that_needs_no_quorum_is_ended_in_the_ordinary_way(
    server: GuardedServer,
) -> None:
    """Sessions that do nothing but commit nothing: the door finds some of them at just that."""
    sessions = [server.connect(CLIENT) for _ in range(30)]
    for session in sessions:
        session.pgconn.send_query(b"DO $$ BEGIN LOOP COMMIT; END LOOP; END $$")
    wait_until("all are at it", lambda: readers(server), lambda count: count == len(sessions))
    server.shut_door()
    for session in sessions:
        assert heard(session)[0] == "57P01"


def readers(server: GuardedServer) -> int:
    with server.connect(AGENT, over_tcp=False) as agent:
        return len(
            agent.execute(
                "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %%'"
            ).fetchall()
        )
