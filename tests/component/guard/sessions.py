"""Clients caught in every position in which a shutting door may find them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn

from component.guard.server import CLIENT, GuardedServer

Session = Connection[tuple[Any, ...]]


def _send(query: str) -> Callable[[Session], None]:
    """Send a query and do not wait for its end."""
    return lambda session: session.pgconn.send_query(query.encode())


def _run(*statements: str) -> Callable[[Session], None]:
    """Run statements one after the other, whatever each answers."""

    def run(session: Session) -> None:
        for statement in statements:
            session.pgconn.exec_(statement.encode())

    return run


POSITIONS: dict[str, Callable[[Session], None]] = {
    "idle": _run("SELECT 1"),
    "in-transaction": _run("BEGIN", "SELECT 1"),
    "in-failed-transaction": _run("BEGIN", "SELECT 1/0"),
    "in-savepoint": _run("BEGIN", "SAVEPOINT one", "CREATE TEMPORARY TABLE kept (id int)"),
    "sleeping": _send("SELECT pg_sleep(600)"),
    "busy-in-sql": _send("SELECT count(*) FROM generate_series(1, 1000000000000)"),
    "busy-in-plpgsql": _send("DO $$ BEGIN LOOP END LOOP; END $$"),
    "sleeping-in-transaction": _send("BEGIN; SELECT pg_sleep(600)"),
    "waiting-for-a-lock": _send("BEGIN; SELECT pg_advisory_lock(1); SELECT pg_sleep(600)"),
    "copying-in": _send("COPY inbox FROM STDIN"),
}


def open_sessions(server: GuardedServer, of_each: int) -> list[tuple[str, Session]]:
    """So many client sessions in each position, all of them seen by the server."""
    sessions = []
    for position, take in POSITIONS.items():
        for number in range(of_each):
            session = server.connect(CLIENT, application_name=f"{position} {number}")
            take(session)
            sessions.append((position, session))
    return sessions


def last_words(session: Session) -> str | None:
    """The SQLSTATE with which the server ended the session; None when it just went silent.

    Call it only when the server has no such session any more: everything it said is then here.
    """
    heard: list[str | None] = []
    session.add_notice_handler(lambda words: heard.append(words.sqlstate))
    connection = session.pgconn
    if connection.transaction_status != TransactionStatus.ACTIVE:
        _read_while_idle(connection)
    while result := connection.get_result():
        if result.status == ExecStatus.COPY_IN:
            connection.put_copy_end()
        elif sqlstate := result.error_field(DiagnosticField.SQLSTATE):
            heard.append(sqlstate.decode())
    return heard[-1] if heard else None


def _read_while_idle(connection: PGconn) -> None:
    """Let libpq take in what came unasked; it hands it on as a notice, then finds the end."""
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            connection.consume_input()
            connection.is_busy()
