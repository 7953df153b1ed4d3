"""The continuous client: it writes, or reads, while a test lasts, and logs what it saw.

One process is one client with one connection. A writer commits one row with a new id after the
other and never sends an id twice; every attempt has a `begin` line before anything is sent and an
`end` line with its outcome: `acked`, `failed` (certainly not committed) or `unknown` (it may be).
A reader logs every id it sees. Times are of the monotonic clock, which all processes of one
machine share. What the log proves is decided elsewhere (`support.checker`), never here.

It needs psycopg only and no other file of ours, so that it runs on the client node as well as in a
pod of any cluster. A statement that gets no answer is not cancelled (a cancelled commit would be
visible but not safe): the socket is closed under it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import psycopg

CONNECT_TIMEOUT_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 0.02
PROBES_MAX: Final = 25
"""Attempts of a probe that are under way at once."""
TABLE: Final = "continuous"
CREATE: Final = f"""
    CREATE TABLE IF NOT EXISTS {TABLE} (
        client text NOT NULL, id bigint NOT NULL, written_at timestamptz DEFAULT clock_timestamp())
"""
INDEX: Final = f"CREATE INDEX IF NOT EXISTS {TABLE}_id ON {TABLE} (id)"
INSERT: Final = f"""
    INSERT INTO {TABLE} (client, id) VALUES (%s, %s)
    RETURNING coalesce(host(inet_server_addr()), 'socket')
"""
SELECT: Final = f"""
    SELECT id, coalesce(host(inet_server_addr()), 'socket'), pg_is_in_recovery()
    FROM {TABLE} WHERE client = %s AND id > %s ORDER BY id
"""
READ_AGAIN_IDS: Final = 200
"""A reader asks again for this many ids below the highest one it saw: a row that vanishes shows."""

# After these SQLSTATE classes nobody knows what became of a commit: connection exceptions,
# "statement completion unknown", operator intervention (a server that ends), internal errors.
UNKNOWN_CLASSES: Final = ("08", "40003", "57", "58", "XX")


@dataclass(frozen=True)
class Options:
    """What the command line said."""

    mode: str
    host: str
    port: int
    user: str
    dbname: str
    client: str
    interval_seconds: float
    statement_timeout_seconds: float
    out: str
    password_file: str | None


class Log:
    """A JSON-lines file; each line is on its way to the disk before the next step is taken."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, kind: str, **fields: Any) -> None:
        """One line; `at` is the monotonic time of writing it."""
        line = {"kind": kind, "at": round(time.monotonic(), 6), **fields}
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()


class Session:
    """The one connection, made anew whenever it is needed and not there."""

    def __init__(self, options: Options) -> None:
        self._options = options
        file = options.password_file
        self._password = Path(file).read_text().strip() if file else None
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None

    async def connected(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        """The connection; within a second, or an error."""
        if self._connection is None or self._connection.closed:
            self._connection = await asyncio.wait_for(
                psycopg.AsyncConnection.connect(
                    host=self._options.host,
                    port=self._options.port,
                    user=self._options.user,
                    dbname=self._options.dbname,
                    application_name=f"continuous-{self._options.client}",
                    password=self._password,
                    sslmode="require",
                    autocommit=True,
                ),
                CONNECT_TIMEOUT_SECONDS,
            )
        return self._connection

    async def ask(
        self, query: str, values: tuple[Any, ...] = (), timeout_seconds: float | None = None
    ) -> list[tuple[Any, ...]]:
        """Rows of one statement, committed; no answer in time closes the socket under it."""
        if timeout_seconds is None:
            timeout_seconds = self._options.statement_timeout_seconds
        connection = await self.connected()
        asking = asyncio.create_task(self._execute(connection, query, values))
        done, _ = await asyncio.wait({asking}, timeout=timeout_seconds)
        if not done:
            shut_socket(connection)
        return await asking

    @staticmethod
    async def _execute(
        connection: psycopg.AsyncConnection[tuple[Any, ...]], query: str, values: tuple[Any, ...]
    ) -> list[tuple[Any, ...]]:
        cursor = await connection.execute(query, values or None)
        return await cursor.fetchall() if cursor.description else []

    async def forget(self) -> None:
        """Close what is left of a connection that failed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def shut_socket(connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
    """End a connection under a statement without cancelling it."""
    with socket.socket(fileno=os.dup(connection.fileno())) as doubled:
        try:
            doubled.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side was quicker; the statement fails by itself


def outcome_of(error: BaseException) -> str:
    """Whether an attempt that was sent and then failed may have been committed."""
    state = getattr(error, "sqlstate", None)
    if not isinstance(state, str) or state.startswith(UNKNOWN_CLASSES):
        return "unknown"
    return "failed"


def reason(error: BaseException) -> str:
    """One line for the log."""
    state = getattr(error, "sqlstate", None)
    first_line = (str(error).splitlines() or [""])[0]
    return " ".join(filter(None, (type(error).__name__, state, first_line[:160])))


async def write(options: Options, log: Log, stop: asyncio.Event) -> None:
    """Commit one row after the other until told to stop."""
    session = Session(options)
    number = 0
    while not stop.is_set():
        try:
            await session.connected()
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.write("connect", outcome="failed", why=reason(error))
            await session.forget()
            await _pause(stop, RETRY_SECONDS)
            continue
        number += 1
        log.write("begin", id=number)
        try:
            rows = await session.ask(INSERT, (options.client, number))
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.write("end", id=number, outcome=outcome_of(error), why=reason(error))
            await session.forget()
            continue
        log.write("end", id=number, outcome="acked", server=rows[0][0])
        await _pause(stop, options.interval_seconds)
    await session.forget()


async def probe(options: Options, log: Log, stop: asyncio.Event) -> None:
    """Begin a write every so often, each on a connection of its own, until told to stop.

    An attempt without an answer by its deadline is given up; others go on beside it. So the log
    shows when the endpoint takes writes, not how long one session waits.
    """
    going: set[asyncio.Task[None]] = set()
    number = 0
    while not stop.is_set():
        due = time.monotonic() + options.interval_seconds
        if len(going) < PROBES_MAX:
            number += 1
            attempt = asyncio.create_task(_probe_once(options, log, number))
            going.add(attempt)
            attempt.add_done_callback(going.discard)
        await _pause(stop, max(0.0, due - time.monotonic()))
    await asyncio.gather(*going)


async def _probe_once(options: Options, log: Log, number: int) -> None:
    deadline = time.monotonic() + options.statement_timeout_seconds
    session = Session(options)
    sent = False
    log.write("begin", id=number)
    try:
        async with asyncio.timeout(_left(deadline)):
            await session.connected()
        sent = True
        rows = await session.ask(INSERT, (options.client, number), _left(deadline))
        log.write("end", id=number, outcome="acked", server=rows[0][0])
    except (psycopg.Error, OSError, TimeoutError) as error:
        outcome = outcome_of(error) if sent else "failed"
        log.write("end", id=number, outcome=outcome, why=reason(error))
    finally:
        await session.forget()


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


async def read(options: Options, log: Log, stop: asyncio.Event) -> None:
    """Read the client's rows again and again, by a new connection each time, until told to stop.

    New connections, because a Service spreads connections and not statements.
    """
    highest = 0
    known: set[int] = set()
    session = Session(options)
    while not stop.is_set():
        below = max(0, highest - READ_AGAIN_IDS)
        try:
            rows = await session.ask(SELECT, (options.client, below))
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.write("read", outcome="failed", why=reason(error))
            await session.forget()
            await _pause(stop, RETRY_SECONDS)
            continue
        seen = [int(row[0]) for row in rows]
        server = rows[0][1] if rows else None
        log.write("read", outcome="ok", server=server, above=below, ids=sorted(set(seen) - known))
        known.update(seen)
        highest = max(highest, *seen) if seen else highest
        await session.forget()
        await _pause(stop, options.interval_seconds)


async def prepare(options: Options, log: Log, _stop: asyncio.Event) -> None:
    """Make the table, once, before the clients start."""
    session = Session(options)
    for statement in (CREATE, INDEX):
        await session.ask(statement)
    await session.forget()
    log.write("prepared")


async def dump(options: Options, log: Log, _stop: asyncio.Event) -> None:
    """All ids of the client that are in the table now, each as often as it is there."""
    session = Session(options)
    rows = await session.ask(SELECT, (options.client, 0))
    log.write("dump", ids=[int(row[0]) for row in rows])
    await session.forget()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Pace: at most this long, less when told to stop."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


MODES: Final = {"write": write, "probe": probe, "read": read, "prepare": prepare, "dump": dump}


def _options(argv: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="client", description=__doc__)
    parser.add_argument("mode", choices=sorted(MODES))
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, default=5432)
    parser.add_argument("--user", default="postgres")
    parser.add_argument("--dbname", default="postgres")
    parser.add_argument("--client", default="c1", help="whose rows")
    parser.add_argument("--interval-seconds", type=float, default=0.01)
    parser.add_argument("--statement-timeout-seconds", type=float, default=3.0)
    parser.add_argument("--out", default="-", help="file of JSON lines; - is standard output")
    parser.add_argument("--password-file", help="the password comes from PGPASSWORD without it")
    return Options(**vars(parser.parse_args(argv)))


async def _run(options: Options, stream: IO[str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watching = asyncio.create_task(stop_with_parent(stop))
    try:
        await MODES[options.mode](options, Log(stream), stop)
    finally:
        watching.cancel()


async def stop_with_parent(stop: asyncio.Event) -> None:
    """A test that was killed must not leave its clients behind."""
    parent = os.getppid()
    while os.getppid() == parent and not stop.is_set():
        await _pause(stop, 1)
    stop.set()


def main() -> int:
    """Run one client."""
    options = _options(sys.argv[1:])
    if options.out == "-":
        asyncio.run(_run(options, sys.stdout))
        return 0
    with Path(options.out).open("a") as stream:
        asyncio.run(_run(options, stream))
    return 0


if __name__ == "__main__":
    sys.exit(main())
