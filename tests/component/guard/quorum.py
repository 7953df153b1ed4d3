"""A server whose commits wait for a copy, the copy that ends the wait, and what each side sees.

The list holds one name, which nobody bears until `Copy` streams under it: then the quorum is
there, by PostgreSQL's own hand. So a test can hold a commit in its wait for as long as it looks.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from component.guard.server import AGENT, COPY, DEADLINE_SECONDS, GuardedServer, wait_until
from component.guard.sessions import Session

T = TypeVar("T")

MEMBER = "copy_one"
THE_LIST = f"synchronous_standby_names = 'ANY 1 ({MEMBER})'\n"
STAYS_SECONDS = 0.25

TABLES = """
CREATE TABLE kept (id int);
GRANT SELECT, INSERT ON kept TO PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC;
"""


def start_without_quorum(server: GuardedServer, prepare: str = "", **settings: str) -> None:
    """Start with the tables in place and every commit waiting; the door is open."""
    limits = {"max_prepared_transactions": "10", "max_connections": "200", **settings}
    server.start(**limits)
    with server.connect(AGENT, over_tcp=False) as agent:
        for statement in (TABLES + prepare).split(";\n"):
            if statement.strip():
                agent.execute(statement.encode())
    server.stop()
    set_list(server, THE_LIST)
    server.start(**limits)
    server.open_door()


def set_list(server: GuardedServer, line: str) -> None:
    """Replace the changeable part of the configuration; a running server is to be reloaded."""
    (server.data / "postgresql.auto.conf").write_text(line)


def waiting(server: GuardedServer) -> list[str]:
    """The names of the sessions whose commits wait for the quorum."""
    with server.connect(AGENT, over_tcp=False) as agent:
        rows = agent.execute(
            "SELECT application_name FROM pg_stat_activity WHERE wait_event = 'SyncRep' ORDER BY 1"
        ).fetchall()
    return [row[0] for row in rows]


def wait_waiting(server: GuardedServer, name: str) -> None:
    """Until the commit of the session of this name waits."""
    wait_until(f"{name} waits for its quorum", lambda: waiting(server), lambda seen: name in seen)


def shown(server: GuardedServer, number: int) -> bool:
    """Whether anybody can see the row; asked as a superuser, past the door."""
    with server.connect(AGENT, over_tcp=False) as agent:
        return bool(agent.execute("SELECT FROM kept WHERE id = %s", [number]).fetchall())


def begin_insert(session: Session, number: int) -> None:
    """Send an autocommit INSERT and do not wait for its answer."""
    session.pgconn.send_query(f"INSERT INTO kept VALUES ({number})".encode())


def stays(observe: Callable[[], T], wanted: T) -> None:
    """It is so, and goes on being so for a while."""
    end = time.monotonic() + STAYS_SECONDS
    while time.monotonic() < end:
        seen = observe()
        assert seen == wanted, seen


def assert_held(server: GuardedServer, name: str, number: int) -> None:
    """The commit goes on waiting, and its row is shown to nobody."""
    stays(lambda: (name in waiting(server), shown(server, number)), (True, False))


def heard(session: Session) -> list[str]:
    """All that the server says until the answer is complete: statuses, or SQLSTATEs.

    The end of the connection is heard as a FATAL_ERROR without SQLSTATE.
    """
    words = []
    while result := _next_result(session):
        sqlstate = result.error_field(DiagnosticField.SQLSTATE)
        words.append(sqlstate.decode() if sqlstate else ExecStatus(result.status).name)
    return words


def _next_result(session: Session) -> PGresult | None:
    wait_until("the server answers", lambda: heard_nothing(session), lambda nothing: not nothing)
    return session.pgconn.get_result()


def heard_nothing(session: Session) -> bool:
    """Whether the server has said nothing yet."""
    try:
        session.pgconn.consume_input()
    except psycopg.OperationalError:
        return False  # the connection has ended; the next result says so
    return bool(session.pgconn.is_busy())


def as_superuser(server: GuardedServer, statement: str, pid: int) -> None:
    """Do something to a backend that answers whether it was done."""
    with server.connect(AGENT, over_tcp=False) as agent:
        assert agent.execute(statement.encode(), [pid]).fetchone() == (True,)


def terminate_backend(server: GuardedServer, session: Session) -> None:
    """As an administrator ends a session."""
    as_superuser(server, "SELECT pg_terminate_backend(%s)", session.info.backend_pid)


class Copy:
    """A copy that streams, makes durable and acknowledges, while the block lasts."""

    def __init__(
        self, server: GuardedServer, folder: Path, *, user: str = COPY, name: str = MEMBER
    ) -> None:
        self._server = server
        self._name = name
        folder.mkdir(exist_ok=True)
        self._command = [
            *("pg_receivewal", "--no-loop", "--synchronous", "--directory", str(folder)),
            *("--host", "127.0.0.1", "--port", str(server.port), "--username", user),
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stderr=subprocess.PIPE,
            env={**os.environ, "PGAPPNAME": self._name, "PGSSLMODE": "disable"},
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.communicate(timeout=DEADLINE_SECONDS)
        wait_until("its stream has ended", lambda: streams(self._server), self._is_gone)

    def _is_gone(self, seen: dict[str, str]) -> bool:
        return self._name not in seen

    def wait_acknowledging(self) -> None:
        """Until it has told the server a position."""
        wait_until(
            f"{self._name} acknowledges",
            lambda: acknowledged(self._server),
            lambda seen: self._name in seen,
        )

    def last_words(self) -> str:
        """What it said when the server sent it away."""
        _, words = self._process.communicate(timeout=DEADLINE_SECONDS)
        return words.decode()


def streams(server: GuardedServer) -> dict[str, str]:
    """Each stream's name, and what it counts for."""
    with server.connect(AGENT, over_tcp=False) as agent:
        rows = agent.execute(
            "SELECT application_name, sync_state FROM pg_stat_replication"
        ).fetchall()
    return dict(rows)


def acknowledged(server: GuardedServer) -> list[str]:
    """The streams that acknowledged all log that there is."""
    with server.connect(AGENT, over_tcp=False) as agent:
        rows = agent.execute(
            "SELECT application_name FROM pg_stat_replication"
            " WHERE flush_lsn >= pg_current_wal_flush_lsn()"
        ).fetchall()
    return [row[0] for row in rows]
