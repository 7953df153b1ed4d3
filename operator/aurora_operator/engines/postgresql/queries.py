"""Questions and orders to the own server, as ``rdsadmin`` over the Unix socket.

One connection is kept; when it is broken the next question makes a new one. Every question has a
deadline, on the server and here, so that a server that hangs is an error and not a hanging agent.
The connection leads to a database of the agent's own, in which no user can plant functions that a
superuser would then run by accident.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.names import Identity
from aurora_operator.engines.postgresql.history_file import history_file_name, parse_history_file
from aurora_operator.engines.postgresql.settings import AGENT_DATABASE, AGENT_ROLE

QUESTION_SECONDS: Final = 5.0
STATEMENT_SECONDS: Final = 60.0
"""The server's own limit, for a statement that nobody waits for any more."""
_POLL_SECONDS: Final = 0.005


class QuestionFailed(Exception):
    """The server did not answer, or not what is needed to go on."""


@dataclass(frozen=True, slots=True)
class ReplayFacts:
    """Where a standby is."""

    in_recovery: bool
    received_lsn: Lsn
    """Flushed by the walreceiver, and never less than what is replayed (T2)."""
    replayed_lsn: Lsn
    receiver_streaming: bool
    """Whether its walreceiver has a stream from the relay or gate."""


@dataclass(frozen=True, slots=True)
class WriterFacts:
    """Where a server is that was promoted."""

    history: TermHistory
    """Its own, as PostgreSQL wrote it."""
    flushed_lsn: Lsn

    @property
    def timeline(self) -> Term:
        """PostgreSQL's number for what should be the term."""
        return self.history.last.term

    @property
    def fork_lsn(self) -> Lsn:
        """Where its own log begins."""
        return self.history.last.begin


class Sql:
    """The agent's connection to its own server."""

    def __init__(
        self, *, socket_directory: Path, port: int = 5432, database: str = AGENT_DATABASE
    ) -> None:
        self._conninfo = make_conninfo(
            host=str(socket_directory),
            port=port,
            user=AGENT_ROLE,
            dbname=database,
            application_name="aurora-agent",
            options=f"-c search_path=pg_catalog -c statement_timeout={STATEMENT_SECONDS:.0f}s",
            connect_timeout=5,
        )
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """Close the connection; a later question opens another."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def rows(
        self,
        query: LiteralString | sql.Composed,
        values: Sequence[object] = (),
        *,
        timeout_seconds: float = QUESTION_SECONDS,
    ) -> list[tuple[Any, ...]]:
        """Run one statement by itself; raises ``QuestionFailed``."""
        async with self._lock:
            try:
                async with asyncio.timeout(timeout_seconds):
                    connection = await self._connected()
                with _cut_off_after(connection, timeout_seconds):
                    cursor = await connection.execute(query, values or None)
                    return await cursor.fetchall() if cursor.description else []
            except BaseException as error:
                if not _is_answer(error):
                    await self.close()  # half a question may still be on its way
                if not isinstance(error, psycopg.Error | TimeoutError):
                    raise
                text = str(error).strip() or f"no connection within {timeout_seconds} s"
                raise QuestionFailed(f"the own server: {text}") from error

    async def _connected(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                self._conninfo, autocommit=True
            )
        return self._connection

    # --- standby and promotion ---

    async def replay_facts(self) -> ReplayFacts:
        """Where this standby is; after promotion ``in_recovery`` is false and the rest is old."""
        rows = await self.rows(
            "SELECT pg_is_in_recovery(), pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(),"
            " (SELECT status = 'streaming' FROM pg_stat_wal_receiver)"
        )
        in_recovery, received, replayed, streaming = rows[0]
        replayed_lsn = Lsn.parse(replayed) if replayed else Lsn(0)
        received_lsn = Lsn.parse(received) if received else Lsn(0)
        return ReplayFacts(
            in_recovery=bool(in_recovery),
            received_lsn=max(received_lsn, replayed_lsn),
            replayed_lsn=replayed_lsn,
            receiver_streaming=bool(streaming),
        )

    async def in_recovery(self) -> bool:
        """Whether it is a standby, or is still being promoted."""
        return bool((await self.rows("SELECT pg_is_in_recovery()"))[0][0])

    async def writer_facts(self) -> WriterFacts:
        """Timeline, fork and flushed position of a server that takes writes.

        The control file shows the new timeline only after a checkpoint; the name of the current
        log file shows it at once.
        """
        rows = await self.rows(
            "SELECT pg_walfile_name(pg_current_wal_insert_lsn()), pg_current_wal_flush_lsn()"
        )
        name, flushed = rows[0]
        timeline = Term(int(name[:8], 16))
        text = ""
        if timeline > 1:
            path = f"pg_wal/{history_file_name(timeline)}"
            text = (await self.rows("SELECT pg_read_file(%s)", [path]))[0][0]
        return WriterFacts(parse_history_file(text, timeline), Lsn.parse(flushed))

    # --- slots and members ---

    async def ensure_slots(self, identities: Sequence[Identity]) -> None:
        """Have physical slots of exactly these names, reserved at once (H2); drop all others.

        Works on a standby too: a candidate makes them before it is promoted.
        """
        rows = await self.rows("SELECT slot_name, active_pid FROM pg_replication_slots")
        present = {name for name, _ in rows}
        for name, process in rows:
            if name not in identities:
                await self._drop_slot(name, process)
        missing = [str(identity) for identity in identities if identity not in present]
        if missing:  # one question for all: an opening waits for it
            await self.rows(
                "SELECT pg_create_physical_replication_slot(name, true)"
                " FROM unnest(%s::text[]) AS name",
                [missing],
            )

    async def _drop_slot(self, name: str, process: int | None) -> None:
        if process is not None:
            await self.rows("SELECT pg_terminate_backend(%s, 5000)", [process])
        await self.rows("SELECT pg_drop_replication_slot(%s)", [name])

    async def must_not_count_others(self, identities: Sequence[Identity]) -> None:
        """See that no walsender but these can end a commit's wait; raises ``QuestionFailed``."""
        rows = await self.rows(
            "SELECT application_name FROM pg_stat_replication"
            " WHERE sync_priority > 0 AND application_name <> ALL (%s::text[])",
            [[str(identity) for identity in identities]],
        )
        if rows:
            raise QuestionFailed(f"commits still wait for {rows[0][0]}, which was taken out")

    async def wait_setting(self, name: str, value: str, *, timeout_seconds: float = 5.0) -> None:
        """Wait until a reload took effect here.

        One bad line anywhere makes a reload apply nothing at all, so it is never taken for
        granted: the lines that PostgreSQL refuses are named in the error.
        """
        shown = ""
        try:
            async with asyncio.timeout(timeout_seconds):
                while (shown := await self.show(name)) != value:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            refused = await self.rows(
                "SELECT sourcefile, sourceline, name, error FROM pg_file_settings"
                " WHERE error IS NOT NULL"
            )
            raise QuestionFailed(
                f"{name} is still {shown!r} and not {value!r} after a reload; refused lines:"
                f" {refused or 'none'}. What depends on it must not go on"
            ) from None

    # --- other questions ---

    async def show(self, name: str) -> str:
        """The value of a setting in this session, as text."""
        rows = await self.rows("SELECT current_setting(%s)", [name])
        return str(rows[0][0])

    async def client_sessions(self) -> int:
        """How many client sessions there are that are not the agent's."""
        rows = await self.rows(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND usename IS DISTINCT FROM %s",
            [AGENT_ROLE],
        )
        return int(rows[0][0])

    async def end_idle_sessions(self) -> int:
        """End client sessions that do nothing at the moment; how many there were in all."""
        rows = await self.rows(
            "SELECT count(*), count(CASE WHEN state = 'idle' THEN pg_terminate_backend(pid) END)"
            " FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND usename IS DISTINCT FROM %s",
            [AGENT_ROLE],
        )
        return int(rows[0][0])

    async def flushed_lsn(self) -> Lsn:
        """How far the own log is flushed here, as a writer."""
        rows = await self.rows("SELECT pg_current_wal_flush_lsn()")
        return Lsn.parse(str(rows[0][0]))

    async def pending_restart(self) -> tuple[str, ...]:
        """Settings that were changed and wait for a restart."""
        rows = await self.rows("SELECT name FROM pg_settings WHERE pending_restart ORDER BY name")
        return tuple(str(name) for (name,) in rows)

    async def identity(self) -> tuple[str, str]:
        """System identifier and server version."""
        rows = await self.rows(
            "SELECT system_identifier::text, current_setting('server_version')"
            " FROM pg_control_system()"
        )
        return str(rows[0][0]), str(rows[0][1])


@contextmanager
def _cut_off_after(connection: psycopg.AsyncConnection[Any], seconds: float) -> Iterator[None]:
    """End the connection when the block takes too long, without asking the server.

    Cancelling a task would have psycopg ask the server to cancel the statement, and wait for that;
    a server that is frozen answers neither.
    """

    def cut_off() -> None:
        with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as raw:
            raw.shutdown(socket.SHUT_RDWR)  # already closed: what was to be done

    timer = asyncio.get_running_loop().call_later(seconds, cut_off)
    try:
        yield
    finally:
        timer.cancel()


def _is_answer(error: BaseException) -> bool:
    """Whether the server itself said no, and the connection is as good as before."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "57")[:2] != "57"
