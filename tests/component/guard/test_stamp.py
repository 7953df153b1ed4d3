"""Rule 12: statements of a writer whose copies do not answer wait, in every way they may come."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg.pq import DiagnosticField

from component.guard.quorum import Copy, heard, heard_nothing, set_list, start_without_quorum, stays
from component.guard.server import (
    AGENT,
    CLIENT,
    COPY,
    DEADLINE_SECONDS,
    GuardedServer,
    wait_until,
)
from component.guard.sessions import Session
from component.guard.test_door import waits
from component.guard.wire import FLUSH, SYNC, Wire, bind, call, execute, parse

MakeServer = Callable[[], GuardedServer]

FRESH_FOR_A_MINUTE = -60.0
STALE_SECONDS = 0.5
LOST_SECONDS = 1.5
ENDS_SECONDS = (0.8, 4.0)
"""The second after which a session ends, less the 200 ms before; and what a busy machine adds."""
VERSION_FUNCTION = 89
EVENT = "AuroraGuardStamp"
TOGETHER = 30
TABLES = """
CREATE TABLE kept AS SELECT generate_series(1, 3) AS id;
GRANT ALL ON kept TO PUBLIC;
CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE reads_for_ever() LANGUAGE plpgsql AS
  $$ BEGIN LOOP PERFORM count(*) FROM kept; PERFORM pg_sleep(0.01); END LOOP; END $$
"""


@pytest.fixture
def server(make_server: MakeServer) -> GuardedServer:
    """A writer: open, its stamp fresh."""
    made = make_server()
    made.start()
    with made.connect(AGENT, over_tcp=False) as agent:
        for statement in TABLES.split(";\n"):
            agent.execute(statement.encode())
    made.write_stamp(FRESH_FOR_A_MINUTE)
    made.open_door()
    return made


def wait_held(server: GuardedServer, statements: int = 1) -> None:
    """Until so many were held since the server was made; a look at the page, so it is quick."""
    wait_until("it is held", lambda: server.held()[0], lambda count: count >= statements)


def keep_stale(server: GuardedServer) -> None:
    """Old enough to hold, and too young to end anything soon."""
    server.write_stamp(STALE_SECONDS)


def begin(server: GuardedServer, session: Session, statement: str) -> None:
    """Send it to a writer whose stamp is too old."""
    keep_stale(server)
    session.pgconn.send_query(statement.encode())
    wait_held(server)


def client(server: GuardedServer, options: str = "") -> Session:
    return server.connect(CLIENT, application_name="client", options=options)


STATEMENTS = {
    "select": "SELECT count(*) FROM kept",
    "without-a-table": "SELECT 1",
    "insert": "INSERT INTO kept VALUES (4)",
    "insert-returning": "INSERT INTO kept VALUES (4) RETURNING id",
    "locking-read": "SELECT id FROM kept FOR UPDATE",
    "explain-analyze": "EXPLAIN ANALYZE SELECT count(*) FROM kept",
    "copy-table": "COPY kept TO STDOUT",
    "copy-query": "COPY (SELECT count(*) FROM kept) TO STDOUT",
    "create": "CREATE TEMPORARY TABLE other AS SELECT * FROM kept",
    "call": "CALL nothing()",
    "do": "DO $$ BEGIN PERFORM 1; END $$",
    "show": "SHOW work_mem",
    "begin": "BEGIN",
    "several": "BEGIN; SELECT count(*) FROM kept; COMMIT",
}


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_rule_12_a_new_statement_waits_for_a_fresh_stamp(
    server: GuardedServer, statement: str
) -> None:
    session = client(server)
    begin(server, session, statement)
    assert heard_nothing(session)
    server.write_stamp(FRESH_FOR_A_MINUTE)
    words = heard(session) if not statement.startswith("COPY") else []
    assert not any(word in ("57P01", "FATAL_ERROR") for word in words), words


IN_TRANSACTION = {
    "commit": ("INSERT INTO kept VALUES (4)", "COMMIT"),
    "rollback": ("INSERT INTO kept VALUES (4)", "ROLLBACK"),
    "rollback-after-an-error": ("SELECT 1/0", "ROLLBACK"),
    "fetch": ("DECLARE rows CURSOR FOR SELECT * FROM kept", "FETCH rows"),
    "execute": ("PREPARE counted AS SELECT count(*) FROM kept", "EXECUTE counted"),
}


@pytest.mark.parametrize(("first", "then"), IN_TRANSACTION.values(), ids=IN_TRANSACTION)
def test_rule_12_so_does_the_next_of_a_transaction(
    server: GuardedServer, first: str, then: str
) -> None:
    session = client(server)
    for statement in ("BEGIN", first):
        session.pgconn.exec_(statement.encode())
    begin(server, session, then)
    server.write_stamp(FRESH_FOR_A_MINUTE)
    assert all(word in ("COMMAND_OK", "TUPLES_OK") for word in heard(session))


def test_rule_12_so_does_a_statement_that_was_prepared_before(server: GuardedServer) -> None:
    session = client(server)
    session.pgconn.prepare(b"counted", b"SELECT count(*) FROM kept WHERE id > $1")
    keep_stale(server)
    session.pgconn.send_query_prepared(b"counted", [b"0"])
    wait_held(server)
    server.write_stamp(FRESH_FOR_A_MINUTE)
    assert heard(session) == ["TUPLES_OK"]


def test_rule_12_so_does_each_execute_of_a_portal_that_was_bound_before(
    server: GuardedServer,
) -> None:
    with Wire(server, "client") as wire:
        wire.send((b"Q", b"BEGIN\0"))
        wire.read_until(b"Z")
        wire.send(parse("SELECT id FROM kept"), bind("rows"), execute("rows"), (FLUSH, b""))
        assert [kind for kind, _ in wire.read_until(b"s")][-2:] == [b"D", b"s"]
        keep_stale(server)
        wire.send(execute("rows"), (SYNC, b""))
        wait_held(server)
        server.write_stamp(FRESH_FOR_A_MINUTE)
        assert [kind for kind, _ in wire.read_until(b"Z")] == [b"D", b"s", b"Z"]


def test_rule_12_so_does_a_call_by_the_fast_path(server: GuardedServer) -> None:
    with Wire(server, "client") as wire:
        keep_stale(server)
        wire.send(call(VERSION_FUNCTION))
        wait_held(server)
        server.write_stamp(FRESH_FOR_A_MINUTE)
        kinds = wire.read_until(b"Z")
        assert [kind for kind, _ in kinds] == [b"V", b"Z"]
        assert b"PostgreSQL 17" in kinds[0][1]


def test_rule_12_a_running_procedure_waits_where_it_reads_next(server: GuardedServer) -> None:
    session = client(server)
    session.pgconn.send_query(b"CALL reads_for_ever()")
    assert server.held() == (0, 0.0)
    keep_stale(server)
    wait_held(server)
    server.write_stamp(FRESH_FOR_A_MINUTE)
    wait_until("it goes on", lambda: waits(server, EVENT), lambda count: count == 0)
    session.cancel()
    assert heard(session) == ["57014"]


def test_rule_12_nobody_waits_while_the_stamp_is_fresh(server: GuardedServer) -> None:
    """Two hundred milliseconds; a busy machine may need a few tries to be that quick."""
    session = client(server)

    def passes() -> bool:
        before = server.held()
        server.write_stamp(0.1)
        session.execute("SELECT count(*) FROM kept")
        return server.held() == before

    wait_until("a statement passes", passes, bool)


def test_rule_12_a_server_without_a_stamp_holds_nobody(server: GuardedServer) -> None:
    """A replica; and a writer that became one."""
    server.write_stamp_ns(0)
    assert client(server).execute("SELECT count(*) FROM kept").fetchone() == (3,)
    assert server.held() == (0, 0.0)


def test_rule_12_a_stamp_of_long_ago_holds(server: GuardedServer) -> None:
    """What a writer has that nobody answered yet."""
    session = client(server)
    server.write_stamp_ns(1)
    session.pgconn.send_query(b"SELECT 1")
    wait_held(server)
    server.write_stamp(FRESH_FOR_A_MINUTE)
    assert heard(session) == ["TUPLES_OK"]


def test_rule_12_the_agent_and_the_copies_are_not_held(
    server: GuardedServer, tmp_path: Path
) -> None:
    server.write_stamp(LOST_SECONDS)
    with server.connect(AGENT, over_tcp=False) as agent:
        assert agent.execute("SELECT count(*) FROM kept").fetchone() == (3,)
    assert server.knock(COPY, replication="true").welcome
    stream = ["pg_receivewal", "--no-loop", "--directory", str(tmp_path), "--username", COPY]
    stream += ["--host", "127.0.0.1", "--port", str(server.port), "--create-slot", "--slot", "one"]
    subprocess.run(stream, check=True, timeout=DEADLINE_SECONDS, capture_output=True)
    assert server.held() == (0, 0.0)


def test_rule_12_a_held_session_ends_by_itself(server: GuardedServer) -> None:
    """However old the stamp is by then: nobody else is left to end it."""
    session = client(server)
    begun = time.monotonic()
    begin(server, session, "SELECT count(*) FROM kept")
    assert heard(session)[0] == "57P01"
    took_seconds = time.monotonic() - begun
    print(f"a held session ended after {took_seconds:.2f} s")
    assert ENDS_SECONDS[0] <= took_seconds < ENDS_SECONDS[1]
    assert server.held()[0] == 1
    assert server.held()[1] >= ENDS_SECONDS[0]


def test_rule_12_what_it_is_told(server: GuardedServer) -> None:
    session = client(server)
    begin(server, session, "SELECT count(*) FROM kept")
    result = session.pgconn.get_result()
    assert result is not None
    assert result.error_field(DiagnosticField.SEVERITY_NONLOCALIZED) == b"FATAL"
    words = result.error_message.decode()
    assert "cut off from its volume" in words
    assert "could be out of date" in words
    assert "Connect again" in words


def test_rule_12_after_a_second_nobody_new_comes_in(server: GuardedServer) -> None:
    server.write_stamp(LOST_SECONDS)
    for user, over_tcp in ((CLIENT, True), (CLIENT, False), (AGENT, True)):
        assert server.knock(user, over_tcp=over_tcp).sqlstate == "57P03"
    assert server.knock(AGENT, over_tcp=False).welcome
    server.write_stamp(FRESH_FOR_A_MINUTE)
    assert server.knock(CLIENT).welcome


def test_rule_12_before_that_they_do(server: GuardedServer) -> None:
    """They wait with their first statement."""

    def gets_in() -> bool:
        server.write_stamp(STALE_SECONDS)
        return server.knock(CLIENT).welcome

    wait_until("somebody gets in", gets_in, bool)


ENDINGS: dict[str, tuple[Callable[[GuardedServer, Session], None], str]] = {
    "cancel": (lambda _, session: session.cancel(), "57014"),
    "door": (lambda server, _: server.shut_door(), "57P01"),
    "terminate": (lambda _, s: os.kill(s.info.backend_pid, signal.SIGTERM), "57P01"),
}


@pytest.mark.parametrize(("end", "sqlstate"), ENDINGS.values(), ids=ENDINGS)
def test_rule_12_the_wait_can_be_ended(
    server: GuardedServer, end: Callable[[GuardedServer, Session], None], sqlstate: str
) -> None:
    session = client(server)
    begin(server, session, "SELECT count(*) FROM kept")
    begun = time.monotonic()
    end(server, session)
    assert heard(session)[0] == sqlstate
    assert time.monotonic() - begun < ENDS_SECONDS[0], "it ended by itself"


def test_rule_12_a_timeout_ends_the_wait(server: GuardedServer) -> None:
    session = client(server, options="-c statement_timeout=300ms")
    keep_stale(server)
    session.pgconn.send_query(b"SELECT 1")
    assert heard(session) == ["57014"]


def test_rule_12_a_held_commit_has_not_begun(server: GuardedServer) -> None:
    session = client(server)
    session.pgconn.exec_(b"BEGIN")
    session.pgconn.exec_(b"INSERT INTO kept VALUES (4)")
    begin(server, session, "COMMIT")
    session.cancel()
    assert heard(session) == ["57014"]
    server.write_stamp(FRESH_FOR_A_MINUTE)
    session.pgconn.exec_(b"ROLLBACK")
    assert session.execute("SELECT count(*) FROM kept").fetchone() == (3,)


def test_rule_12_a_held_commit_prepared_can_be_cancelled(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """The hold comes before the commit's own, which drops cancels."""
    server = make_server()
    start_without_quorum(server)
    session = client(server)
    with Copy(server, tmp_path / "copy"):
        for statement in ("BEGIN", "INSERT INTO kept VALUES (1)", "PREPARE TRANSACTION 'one'"):
            session.pgconn.exec_(statement.encode())
    begin(server, session, "COMMIT PREPARED 'one'")
    session.cancel()
    assert heard(session) == ["57014"]
    set_list(server, "")


def test_rule_12_the_wait_is_seen_in_pg_stat_activity(server: GuardedServer) -> None:
    session = client(server)
    with server.connect(AGENT, over_tcp=False) as agent:
        begin(server, session, "SELECT count(*) FROM kept")
        row = agent.execute(
            "SELECT wait_event_type, wait_event FROM pg_stat_activity WHERE pid = %s",
            [session.info.backend_pid],
        ).fetchone()
    assert row == ("Extension", EVENT)


def test_rule_12_a_thawed_server_answers_nothing_that_was_queued(server: GuardedServer) -> None:
    """It slept with a statement in its socket; its agent has not looked at the members yet."""
    session = client(server)
    server.freeze()
    session.pgconn.send_query(b"SELECT count(*) FROM kept")
    server.write_stamp(LOST_SECONDS)
    server.thaw()
    wait_held(server)
    server.write_stamp(FRESH_FOR_A_MINUTE)
    assert heard(session) == ["TUPLES_OK"]


def test_rule_12_time_asleep_does_not_end_a_held_session(server: GuardedServer) -> None:
    """After a pause of the whole machine the agent gets its chance."""
    session = client(server)
    begin(server, session, "SELECT count(*) FROM kept")
    server.freeze()
    time.sleep(LOST_SECONDS)  # the pause itself
    server.thaw()
    wait_until("it woke", lambda: server.held()[1], lambda seconds: seconds > LOST_SECONDS)
    woken = server.held()[1]
    wait_until("it waits on", lambda: server.held()[1], lambda seconds: seconds > woken)
    server.write_stamp(FRESH_FOR_A_MINUTE)
    assert heard(session) == ["TUPLES_OK"]


def test_rule_12_held_sessions_go_on_together(make_server: MakeServer) -> None:
    server = make_server()
    server.start(max_connections="200")
    server.open_door()
    server.write_stamp(FRESH_FOR_A_MINUTE)
    sessions = [client(server) for _ in range(TOGETHER)]
    keep_stale(server)
    for session in sessions:
        session.pgconn.send_query(b"SELECT 1")
    wait_held(server, len(sessions))
    begun = time.monotonic()
    server.write_stamp(FRESH_FOR_A_MINUTE)
    ends = [heard(session) for session in sessions]
    took_seconds = time.monotonic() - begun
    print(f"{TOGETHER} held sessions answered {took_seconds * 1000:.0f} ms after the stamp")
    assert ends == [["TUPLES_OK"]] * TOGETHER


def test_a_fresh_stamp_costs_next_to_nothing(server: GuardedServer) -> None:
    """Nested statements, so that little else is measured; the figures are for docs."""
    session = client(server)
    loop = "DO $$ BEGIN FOR i IN 1..300000 LOOP PERFORM FROM pg_am LIMIT 0; END LOOP; END $$"

    def nanoseconds(age: float | None) -> float:
        server.write_stamp_ns(0) if age is None else server.write_stamp(age)
        begun = time.monotonic()
        session.execute(loop.encode())
        return (time.monotonic() - begun) / 300_000 * 1e9

    rounds = [(nanoseconds(None), nanoseconds(FRESH_FOR_A_MINUTE)) for _ in range(3)]
    without, with_stamp = min(r[0] for r in rounds), min(r[1] for r in rounds)
    print(f"a nested statement: {without:.0f} ns without a stamp, {with_stamp:.0f} ns with one")
    assert with_stamp < 2 * without
    stays(lambda: server.held()[0], 0)
