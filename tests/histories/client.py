"""The clients of a history: sessions on both endpoints, every attempt logged as it happens.

    python -m histories.client run --writer HOST,… --reader HOST,… --out FILE
    python -m histories.client prepare|dump --writer HOST

One process, so that its log has one order. A session that fails takes another connection at once,
under a new process number. A statement without an answer is not cancelled: its socket is closed
under it, and what became of it stays unknown. Lists are rows of text, `1,5,7`; registers are
numbers. What the log proves is decided elsewhere (`histories.judge`), never here.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import psycopg

from histories.generate import REGISTERS, Generator
from histories.records import Act, Endpoint, Step, Workload
from support.checker import Outcome
from support.client import outcome_of, reason, shut_socket, stop_with_parent

CONNECT_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = (1.0, 6.0)
"""How long sessions wait for an answer, in turn. The hasty ones are with the next writer while the
patient ones still hold on to the last one: only so can a stale read be seen."""
RETRY_SECONDS: Final = 0.05
PACE_SECONDS: Final = {Endpoint.WRITER: 0.01, Endpoint.READER: 0.02}

PREPARE: Final = (
    "DROP TABLE IF EXISTS lists, registers",
    "CREATE TABLE lists (k text PRIMARY KEY, v text NOT NULL)",
    "CREATE TABLE registers (k text PRIMARY KEY, v bigint)",
    f"INSERT INTO registers (k) SELECT unnest('{{{','.join(REGISTERS)}}}'::text[])",
)
WHO: Final = """
    SELECT host(inet_server_addr()), CASE WHEN pg_is_in_recovery() THEN NULL ELSE
        ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END
"""
"""The server, and its term if it is a writer: a writer's timeline is its term."""
READ_LIST: Final = "SELECT v FROM lists WHERE k = %s"
APPEND: Final = """
    INSERT INTO lists (k, v) VALUES (%s, %s)
    ON CONFLICT (k) DO UPDATE SET v = lists.v || ',' || excluded.v
"""
READ_REGISTER: Final = "SELECT v FROM registers WHERE k = %s"
LOCK_REGISTER: Final = "SELECT v FROM registers WHERE k = %s FOR UPDATE"
WRITE_REGISTER: Final = "UPDATE registers SET v = %s WHERE k = %s"
POSITION: Final = """
    SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                 ELSE pg_current_wal_insert_lsn() END - '0/0')::bigint
"""

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
ERRORS: Final = (psycopg.Error, OSError, TimeoutError)


@dataclass(frozen=True)
class Options:
    """What the command line said."""

    mode: str
    writer: list[str]
    reader: list[str]
    port: int
    user: str
    dbname: str
    password_file: Path
    out: str
    seed: int
    list_sessions: int
    register_sessions: int
    reader_sessions: int
    seconds_max: float


class Log:
    """JSON lines; each is with the system before the next step is taken."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, kind: str, **fields: Any) -> None:
        self._stream.write(
            json.dumps({"kind": kind, "at_ns": time.monotonic_ns(), **fields}) + "\n"
        )
        self._stream.flush()


@dataclass(frozen=True)
class Link:
    """One connection, and who is at its other end."""

    connection: Connection
    process: int
    server: str
    term: int | None


class Dialler:
    """Makes connections: to the first host of an endpoint that answers in its role."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._password = options.password_file.read_text().strip()
        self._processes = itertools.count(1)
        self._last: dict[Endpoint, str] = {}

    async def dial(self, endpoint: Endpoint) -> Link:
        """A connection, or the last host's error."""
        hosts = list(self._options.writer if endpoint is Endpoint.WRITER else self._options.reader)
        if (last := self._last.get(endpoint)) in hosts:
            hosts.remove(last)
            hosts.insert(0, last)
        for host in hosts[:-1]:
            try:
                return await self._dial_host(endpoint, host)
            except ERRORS:
                continue
        return await self._dial_host(endpoint, hosts[-1])

    async def _dial_host(self, endpoint: Endpoint, host: str) -> Link:
        many = endpoint is Endpoint.READER and len(self._options.reader) > 1
        wanted = "standby" if many else "any" if endpoint is Endpoint.READER else "read-write"
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await psycopg.AsyncConnection.connect(
                host=host,
                port=self._options.port,
                user=self._options.user,
                dbname=self._options.dbname,
                password=self._password,
                sslmode="require",
                target_session_attrs=wanted,
                application_name="history",
                autocommit=True,
            )
            try:
                rows = await ask(connection, WHO)
            except BaseException:
                await connection.close()
                raise
        self._last[endpoint] = host
        server, term = rows[0]
        return Link(connection, next(self._processes), server or host, term)


async def ask(connection: Connection, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
    """The rows of one statement."""
    cursor = await connection.execute(query, values or None)
    return await cursor.fetchall() if cursor.description else []


class Uncommitted(Exception):
    """An error before COMMIT was sent: the operation certainly did not happen."""


async def perform(link: Link, steps: tuple[Step, ...], endpoint: Endpoint) -> tuple[Step, ...]:
    """Carry out one operation; the steps with their answers, once it is committed."""
    if len(steps) == 1:
        return (await _step(link.connection, steps[0]),)
    try:
        await ask(link.connection, _begin(steps, endpoint))
        answered = [await _step(link.connection, step) for step in steps]
    except ERRORS as error:
        raise Uncommitted(reason(error)) from error
    done = await link.connection.execute("COMMIT")
    if done.statusmessage != "COMMIT":
        raise Uncommitted(f"COMMIT was answered with {done.statusmessage}")
    return tuple(answered)


def _begin(steps: tuple[Step, ...], endpoint: Endpoint) -> str:
    if any(step.act is Act.LOCK for step in steps):
        return "BEGIN ISOLATION LEVEL READ COMMITTED"
    only = " READ ONLY" if endpoint is Endpoint.READER else ""
    return f"BEGIN ISOLATION LEVEL REPEATABLE READ{only}"


async def _step(connection: Connection, step: Step) -> Step:
    register = step.key in REGISTERS
    match step.act:
        case Act.APPEND:
            await ask(connection, APPEND, (step.key, str(step.value)))
            return step
        case Act.WRITE:
            await ask(connection, WRITE_REGISTER, (step.value, step.key))
            return step
        case Act.LOCK:
            rows = await ask(connection, LOCK_REGISTER, (step.key,))
        case Act.READ:
            rows = await ask(connection, READ_REGISTER if register else READ_LIST, (step.key,))
    if register:
        return step._replace(value=rows[0][0])
    return step._replace(value=parse_list(rows[0][0] if rows else ""))


def parse_list(text: str) -> list[int]:
    """The numbers of a row of the table of lists."""
    return [int(word) for word in text.split(",") if word]


class Client:
    """All sessions of one run."""

    def __init__(self, options: Options, log: Log, stop: asyncio.Event) -> None:
        self._options = options
        self._log = log
        self._stop = stop
        self._dialler = Dialler(options)
        self._generator = Generator(options.seed)
        self._operations = itertools.count(1)

    async def run(self) -> None:
        """Until told to stop; each session finishes what it is at."""
        options = self._options
        sessions = [
            *[(Workload.LISTS, Endpoint.WRITER)] * options.list_sessions,
            *[(Workload.REGISTERS, Endpoint.WRITER)] * options.register_sessions,
            *[(Workload.LISTS, Endpoint.READER)] * options.reader_sessions,
        ]
        async with asyncio.TaskGroup() as tasks:
            for number, (workload, endpoint) in enumerate(sessions):
                patience_seconds = PATIENCE_SECONDS[number % len(PATIENCE_SECONDS)]
                tasks.create_task(self._session(workload, endpoint, patience_seconds))

    async def _session(
        self, workload: Workload, endpoint: Endpoint, patience_seconds: float
    ) -> None:
        while not self._stop.is_set():
            try:
                link = await self._dialler.dial(endpoint)
            except ERRORS as error:
                self._log.write("refused", endpoint=endpoint, why=reason(error))
                await self._pause(RETRY_SECONDS)
                continue
            try:
                usable = True
                while usable and not self._stop.is_set():
                    steps = self._generator.steps(workload, endpoint)
                    usable = await self._operation(
                        link, workload, endpoint, steps, patience_seconds
                    )
                    await self._pause(PACE_SECONDS[endpoint])
            finally:
                await link.connection.close()

    async def _operation(
        self,
        link: Link,
        workload: Workload,
        endpoint: Endpoint,
        steps: tuple[Step, ...],
        patience_seconds: float,
    ) -> bool:
        """One attempt; whether the connection can be used again."""
        number = next(self._operations)
        self._log.write(
            "call",
            op=number,
            process=link.process,
            workload=workload,
            endpoint=endpoint,
            server=link.server,
            term=link.term,
            steps=steps,
        )
        doing = asyncio.create_task(perform(link, steps, endpoint))
        done, _ = await asyncio.wait({doing}, timeout=patience_seconds)
        if not done:
            shut_socket(link.connection)
        try:
            answered = await doing
        except Uncommitted as error:
            outcome, why = Outcome.FAILED, str(error)
        except ERRORS as error:
            harmless = all(step.act is Act.READ for step in steps)
            outcome, why = Outcome.FAILED if harmless else Outcome(outcome_of(error)), reason(error)
        else:
            self._log.write("return", op=number, outcome=Outcome.ACKED, steps=answered)
            return True
        self._log.write("return", op=number, outcome=outcome, why=why)
        return outcome is Outcome.FAILED and await _usable(link.connection)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return


async def _usable(connection: Connection) -> bool:
    """After an error: back to no transaction, or give the connection up."""
    if connection.closed:
        return False
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await ask(connection, "ROLLBACK")
    except ERRORS:
        return False
    return True


async def _run(options: Options, log: Log, stop: asyncio.Event) -> None:
    client = asyncio.create_task(Client(options, log, stop).run())
    watching = asyncio.create_task(stop_with_parent(stop))
    await asyncio.wait({client}, timeout=options.seconds_max)
    stop.set()
    await client
    watching.cancel()


async def _prepare(options: Options, log: Log, _stop: asyncio.Event) -> None:
    link = await Dialler(options).dial(Endpoint.WRITER)
    for statement in PREPARE:
        await ask(link.connection, statement)
    await link.connection.close()
    log.write("prepared", server=link.server)


async def _dump(options: Options, log: Log, _stop: asyncio.Event) -> None:
    """Everything that the host named as reader shows: the end of the history."""
    link = await Dialler(options).dial(Endpoint.READER)
    connection = link.connection
    await ask(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    lists = {key: parse_list(text) for key, text in await ask(connection, "SELECT k, v FROM lists")}
    registers = dict(await ask(connection, "SELECT k, v FROM registers"))
    position = (await ask(connection, POSITION))[0][0]
    await connection.close()
    log.write(
        "dump",
        server=link.server,
        term=link.term,
        position=position,
        lists=lists,
        registers=registers,
    )


MODES: Final[dict[str, Callable[[Options, Log, asyncio.Event], Coroutine[Any, Any, None]]]] = {
    "run": _run,
    "prepare": _prepare,
    "dump": _dump,
}


def _options(argv: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="histories.client", description=__doc__)
    parser.add_argument("mode", choices=sorted(MODES))
    for name in ("--writer", "--reader"):
        parser.add_argument(name, type=lambda words: words.split(","), default=[])
    parser.add_argument("--port", type=int, default=5432)
    parser.add_argument("--user", default="postgres")
    parser.add_argument("--dbname", default="app")
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--out", default="-", help="file of JSON lines; - is standard output")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list-sessions", type=int, default=4)
    parser.add_argument("--register-sessions", type=int, default=4)
    parser.add_argument("--reader-sessions", type=int, default=2)
    parser.add_argument("--seconds-max", type=float, default=600)
    return Options(**vars(parser.parse_args(argv)))


async def _main(options: Options, stream: IO[str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await MODES[options.mode](options, Log(stream), stop)


def main() -> int:
    """Run one mode."""
    options = _options(sys.argv[1:])
    try:
        if options.out == "-":
            asyncio.run(_main(options, sys.stdout))
        else:
            with Path(options.out).open("a") as stream:
                asyncio.run(_main(options, stream))
    except ERRORS as error:
        print(f"error: {reason(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
