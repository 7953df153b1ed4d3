"""I7: a commit that waits for its quorum is not ended by anything but the quorum or a shutdown.

PostgreSQL ends the wait for a cancel with success, for a termination without; both times the row
is there for everybody to see. With the guard the row stays hidden and the client without answer.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from component.guard.quorum import (
    Copy,
    as_superuser,
    assert_held,
    begin_insert,
    heard,
    heard_nothing,
    shown,
    start_without_quorum,
    terminate_backend,
    wait_waiting,
    waiting,
)
from component.guard.server import AGENT, CLIENT, SUPERUSER, GuardedServer, wait_until
from component.guard.sessions import Session

MakeServer = Callable[[], GuardedServer]

TIMEOUT_MS = 200
STOPPED_WITHIN_SECONDS = 5.0
SIGNALS = [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGTERM)]

PREPARE = """
CREATE TABLE indexed (id int);
ALTER TABLE indexed OWNER TO app;
CREATE PROCEDURE insert_and_commit(n int) LANGUAGE plpgsql AS
 'BEGIN INSERT INTO kept VALUES (n); COMMIT; PERFORM pg_sleep(0); END';
CREATE FUNCTION pg_cancel() RETURNS trigger LANGUAGE plpgsql AS
 'BEGIN RETURN CASE WHEN pg_cancel_backend(pg_backend_pid()) THEN NEW ELSE NEW END; END';
CREATE FUNCTION pg_terminate() RETURNS trigger LANGUAGE plpgsql AS
 'BEGIN RETURN CASE WHEN pg_terminate_backend(pg_backend_pid()) THEN NEW ELSE NEW END; END';
CREATE TABLE cancelled (id int);
CREATE TABLE terminated (id int);
GRANT SELECT, INSERT ON cancelled, terminated TO PUBLIC;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON cancelled DEFERRABLE INITIALLY DEFERRED
 FOR EACH ROW EXECUTE FUNCTION pg_cancel();
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON terminated DEFERRABLE INITIALLY DEFERRED
 FOR EACH ROW EXECUTE FUNCTION pg_terminate();
"""


@pytest.fixture(scope="module")
def held(module_server: GuardedServer) -> GuardedServer:
    start_without_quorum(module_server, PREPARE)
    return module_server


def cancel_request(server: GuardedServer, session: Session) -> None:
    session.pgconn.get_cancel().cancel()


def cancel_backend(server: GuardedServer, session: Session) -> None:
    as_superuser(server, "SELECT pg_cancel_backend(%s)", session.info.backend_pid)


def cancel_three_times(server: GuardedServer, session: Session) -> None:
    for _ in range(3):
        cancel_backend(server, session)


def signal_terminate(server: GuardedServer, session: Session) -> None:
    os.kill(session.info.backend_pid, signal.SIGTERM)


def cancel_and_terminate(server: GuardedServer, session: Session) -> None:
    os.kill(session.info.backend_pid, signal.SIGTERM)
    os.kill(session.info.backend_pid, signal.SIGINT)


def nothing(server: GuardedServer, session: Session) -> None:
    """The timeouts in the session's options have long run out, see `past_timeouts`."""


def past_timeouts(server: GuardedServer, session: Session) -> None:
    """Until every timeout of the session has had its time twice over."""
    with server.connect(AGENT, over_tcp=False) as agent:
        wait_until(
            "the timeouts have run out",
            lambda: agent.execute(
                "SELECT extract(epoch FROM clock_timestamp() - query_start) * 1000"
                " FROM pg_stat_activity WHERE pid = %s",
                [session.info.backend_pid],
            ).fetchone(),
            lambda seen: seen is not None and seen[0] > 2 * TIMEOUT_MS,
        )


@dataclass(frozen=True)
class Disturbance:
    """What happens to a commit that waits, and what its client hears once the quorum is there."""

    disturb: Callable[[GuardedServer, Session], None]
    heard: tuple[str, ...] = ("COMMAND_OK",)
    options: str = ""
    statement: str = "INSERT INTO kept VALUES (%d)"


ENDED = ("COMMAND_OK", "57P01")
OK = ("COMMAND_OK",)


def timeout(name: str) -> str:
    return f"-c {name}={TIMEOUT_MS}"


DISTURBANCES = {
    "cancel-request": Disturbance(cancel_request),
    "pg-cancel-backend": Disturbance(cancel_backend),
    "cancelled-three-times": Disturbance(cancel_three_times),
    "pg-terminate-backend": Disturbance(terminate_backend, ENDED),
    "sigterm": Disturbance(signal_terminate, ENDED),
    "cancelled-and-terminated": Disturbance(cancel_and_terminate, ENDED),
    "statement-timeout": Disturbance(past_timeouts, OK, timeout("statement_timeout")),
    "statement-timeout-in-procedure": Disturbance(
        past_timeouts, OK, timeout("statement_timeout"), "CALL insert_and_commit(%d)"
    ),
    "lock-timeout": Disturbance(past_timeouts, OK, timeout("lock_timeout")),
    "transaction-timeout": Disturbance(past_timeouts, OK, timeout("transaction_timeout")),
    "idle-in-transaction-timeout": Disturbance(
        past_timeouts, OK, timeout("idle_in_transaction_session_timeout")
    ),
    "idle-session-timeout": Disturbance(past_timeouts, OK, timeout("idle_session_timeout")),
    "client-connection-check": Disturbance(
        past_timeouts, OK, timeout("client_connection_check_interval")
    ),
}
NUMBERS = {name: number for number, name in enumerate(DISTURBANCES, start=100)}


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_waiting_commit_is_not_ended(held: GuardedServer, name: str, tmp_path: Path) -> None:
    tried = DISTURBANCES[name]
    number = NUMBERS[name]
    session = held.connect(CLIENT, application_name=name, options=tried.options)
    session.pgconn.send_query((tried.statement % number).encode())
    wait_waiting(held, name)

    tried.disturb(held, session)

    assert_held(held, name, number)
    assert heard_nothing(session)
    with Copy(held, tmp_path / "copy"):
        words = heard(session)
        wait_until("the row is shown", lambda: shown(held, number), lambda seen: seen)
    # A session that was ended may be gone before its last word is asked for.
    assert tuple(words[:1]) == tried.heard[:1]
    if tried.heard == ENDED:
        wait_until("it is gone", lambda: names_inside(held), lambda seen: name not in seen)
    elif "idle" not in name:
        assert session.execute("SELECT 1").fetchone() == (1,), "its session goes on"
    session.close()


def names_inside(server: GuardedServer) -> list[str]:
    with server.connect(AGENT, over_tcp=False) as agent:
        rows = agent.execute("SELECT application_name FROM pg_stat_activity").fetchall()
    return [row[0] for row in rows]


def test_a_client_that_goes_away_does_not_end_its_commit(
    held: GuardedServer, tmp_path: Path
) -> None:
    session = held.connect(CLIENT, application_name="gone")
    begin_insert(session, 50)
    wait_waiting(held, "gone")
    session.close()
    assert_held(held, "gone", 50)
    with Copy(held, tmp_path / "copy"):
        wait_until("the row is shown", lambda: shown(held, 50), lambda seen: seen)


def test_a_dropped_cancel_is_not_kept_for_the_next_statement(
    held: GuardedServer, tmp_path: Path
) -> None:
    session = held.connect(CLIENT, application_name="next")
    begin_insert(session, 51)
    wait_waiting(held, "next")
    cancel_backend(held, session)
    with Copy(held, tmp_path / "copy"):
        assert heard(session) == ["COMMAND_OK"]
    assert session.execute("SELECT count(*) FROM generate_series(1, 100000)").fetchone()
    session.close()


def test_a_cancel_outside_a_commit_works_as_ever(held: GuardedServer) -> None:
    session = held.connect(CLIENT, application_name="sleeper")
    session.pgconn.send_query(b"BEGIN; INSERT INTO kept VALUES (52); SELECT pg_sleep(600)")
    wait_until(
        "it sleeps",
        lambda: sleeping(held),
        lambda seen: "sleeper" in seen,
    )
    cancel_backend(held, session)
    assert heard(session)[-1] == "57014"
    session.execute("ROLLBACK")
    session.pgconn.send_query(b"SELECT pg_sleep(600)")
    wait_until("it sleeps", lambda: sleeping(held), lambda seen: "sleeper" in seen)
    terminate_backend(held, session)
    assert "57P01" in heard(session)
    assert not shown(held, 52)


def test_a_commit_that_fails_late_leaves_the_session_as_it_was(
    held: GuardedServer, tmp_path: Path
) -> None:
    """A serialization failure comes after the guard's hold began; the hold ends with it."""
    with Copy(held, tmp_path / "copy"):
        first, second = (held.connect(CLIENT, application_name="late") for _ in range(2))
        for session, number in ((first, 70), (second, 71)):
            session.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
            session.execute("SELECT count(*) FROM indexed")
            session.execute(f"INSERT INTO indexed VALUES ({number})".encode())
        first.execute("COMMIT")
        with pytest.raises(psycopg.errors.SerializationFailure):
            second.execute("COMMIT")
    second.pgconn.send_query(b"SELECT pg_sleep(600)")
    wait_until("it sleeps", lambda: sleeping(held), lambda seen: "late" in seen)
    cancel_backend(held, second)
    assert heard(second) == ["57014"]


def sleeping(server: GuardedServer) -> list[str]:
    with server.connect(AGENT, over_tcp=False) as agent:
        rows = agent.execute(
            "SELECT application_name FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        ).fetchall()
    return [row[0] for row in rows]


OTHER_COMMITS = {
    "prepare-transaction": (
        "BEGIN; INSERT INTO kept VALUES (60); PREPARE TRANSACTION 'one'",
        False,
    ),
    "commit-prepared": ("COMMIT PREPARED 'one'", True),
    "prepare-another": ("BEGIN; INSERT INTO kept VALUES (60); PREPARE TRANSACTION 'two'", False),
    "rollback-prepared": ("ROLLBACK PREPARED 'two'", False),
    "create-index-concurrently": ("CREATE INDEX CONCURRENTLY ON indexed (id)", False),
}


def test_two_phase_commits_and_concurrent_indexes_are_not_ended_either(
    held: GuardedServer, tmp_path: Path
) -> None:
    """In order, since each builds on the one before."""
    for name, (statement, shows_row) in OTHER_COMMITS.items():
        session = held.connect(CLIENT, application_name=name)
        session.pgconn.send_query(statement.encode())
        wait_waiting(held, name)
        cancel_and_terminate(held, session)
        assert_held(held, name, 60)
        assert heard_nothing(session), name
        with Copy(held, tmp_path / name):
            wait_until("it is gone", lambda: names_inside(held), lambda seen: name not in seen)  # noqa: B023
        assert shown(held, 60) == shows_row, name
        if shows_row:
            with Copy(held, tmp_path / "cleaning"), held.connect(AGENT, over_tcp=False) as agent:
                agent.execute("DELETE FROM kept WHERE id = 60")


@pytest.mark.parametrize(("table", "word"), [("cancelled", "57014"), ("terminated", "57P01")])
def test_a_signal_just_before_the_commit_aborts_it_cleanly(
    held: GuardedServer, table: str, word: str
) -> None:
    """A deferred trigger sends it in its last act; PostgreSQL itself looks only in the wait."""
    session = held.connect(CLIENT, application_name=table)
    session.pgconn.send_query(f"INSERT INTO {table} VALUES (1)".encode())
    assert heard(session)[0] == word
    with held.connect(AGENT, over_tcp=False) as agent:
        assert agent.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,)


def test_signals_at_any_moment_of_a_commit(held: GuardedServer, tmp_path: Path) -> None:
    race(held, tmp_path, rounds=60, window_seconds=0.0015)


def test_signals_between_the_last_look_and_the_wait(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """The moment is short, so commit_delay makes it long: PostgreSQL looks at no signal there."""
    server = make_server()
    start_without_quorum(server, fsync="on", commit_delay="100000", commit_siblings="0")
    race(server, tmp_path, rounds=15, window_seconds=0.09)


def race(server: GuardedServer, place: Path, *, rounds: int, window_seconds: float) -> None:
    """Never a success, never a row to see: aborted cleanly, or held until the quorum is there."""
    seed = int.from_bytes(os.urandom(4))
    chance = random.Random(seed)
    raced: dict[int, Session] = {}
    for number in range(1000, 1000 + rounds):
        raced[number] = server.connect(CLIENT, application_name=f"race {number}")
        pid = raced[number].info.backend_pid
        signals = chance.choice(SIGNALS)
        at = time.monotonic() + chance.uniform(0, window_seconds)
        begin_insert(raced[number], number)
        while time.monotonic() < at:
            pass
        for each in signals:
            os.kill(pid, each)

    def undecided() -> list[int]:
        names = waiting(server)
        return [n for n, s in raced.items() if f"race {n}" not in names and heard_nothing(s)]

    wait_until("each is aborted or waits", undecided, lambda seen: not seen)
    waiters = {number for number in raced if f"race {number}" in waiting(server)}
    print(f"seed {seed}: {len(waiters)} held, {rounds - len(waiters)} aborted")
    for number, session in raced.items():
        assert not shown(server, number), (seed, number)
        if number not in waiters:
            assert "COMMAND_OK" not in heard(session), (seed, number)
    with Copy(server, place / "copy"):
        wait_until("none waits", lambda: waiting(server), lambda seen: not seen)
    for number in raced:
        assert shown(server, number) == (number in waiters), (seed, number)


@pytest.mark.parametrize("disturb", [nothing, cancel_backend, terminate_backend])
def test_a_fast_shutdown_still_works(
    make_server: MakeServer, disturb: Callable[[GuardedServer, Session], None]
) -> None:
    server = make_server()
    start_without_quorum(server)
    session = server.connect(CLIENT, application_name="waiter")
    begin_insert(session, 1)
    wait_waiting(server, "waiter")
    disturb(server, session)
    assert_held(server, "waiter", 1)

    took_seconds = server.shut_down_fast()

    print(f"fast shutdown with a waiting commit: {took_seconds * 1000:.0f} ms")
    assert took_seconds < STOPPED_WITHIN_SECONDS
    assert "COMMAND_OK" not in heard(session)


def test_after_a_stop_the_row_is_there_so_the_door_is_shut(make_server: MakeServer) -> None:
    """What was committed here only is in this server's log, and no start can tell it apart."""
    server = make_server()
    start_without_quorum(server)
    session = server.connect(CLIENT, application_name="waiter")
    begin_insert(session, 1)
    wait_waiting(server, "waiter")
    server.stop()
    server.start()
    assert shown(server, 1)
    for user in (CLIENT, SUPERUSER):
        assert server.knock(user).sqlstate == "57P03"
