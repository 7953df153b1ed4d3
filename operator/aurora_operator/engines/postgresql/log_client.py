"""A client of physical replication: how a copy takes log from a writer, or from another gate.

It connects, asks who is there, and reads log in batches: one batch is everything that had arrived
by then, so that whoever makes it durable pays one fsync for many commits. Every wait has a
deadline. It decides nothing: what may be asked for and what may be reported is the caller's part.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, cast

from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.endpoint import (
    STREAM_BUFFER_BYTES,
    Endpoint,
    TlsFiles,
    connect_endpoint,
)

_NOTICES: Final = (b"N", b"S", b"K")
"""Notices, settings, key data: nothing here acts on them."""


@dataclass(frozen=True, slots=True)
class SystemIdentity:
    """Who is at the other end, which term it announces, and how far its log reaches."""

    system_identifier: str
    term: Term
    end: Lsn


@dataclass(frozen=True, slots=True)
class TermEnd:
    """The asked-for term wrote no more: ``next_term`` goes on at ``begin``."""

    next_term: Term
    begin: Lsn


LogEvent = wire.LogData | wire.Keepalive | TermEnd


class _Incoming(asyncio.Protocol):
    """What arrives, cut into messages, for the one who waits for it.

    It does what a stream reader does, with less work for each piece: a commit waits for it.
    """

    def __init__(self) -> None:
        self.messages: deque[wire.Message] = deque()
        self._buffer = wire.MessageBuffer()
        self._unread_bytes = 0
        self._paused = False
        self._end: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def data_received(self, data: bytes) -> None:
        if self._end is not None:
            return
        try:
            self.messages.extend(m for m in self._buffer.feed(data) if m.kind not in _NOTICES)
        except wire.WireError as error:
            self.end(error)
        self._unread_bytes += len(data)
        if self._unread_bytes > STREAM_BUFFER_BYTES and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()
        if self.messages:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(exc or ConnectionResetError("the other side closed the replication connection"))

    def end(self, why: Exception) -> None:
        """Nothing that comes later is taken; whoever waits is told why."""
        if self._end is None:
            self._end = why
        self._wake()

    async def wait(self, timeout_seconds: float | None = None) -> None:
        """Until there is a message; raises why there will be none, or ``TimeoutError``."""
        if self.messages:
            return
        if self._end is not None:
            raise self._end
        self._unread_bytes = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        waiter = self._waiter = self._loop.create_future()
        timer = None
        if timeout_seconds is not None:
            timer = self._loop.call_later(timeout_seconds, self._wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        if not self.messages:
            raise self._end or TimeoutError

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class LogClient:
    """One replication connection. Use as an async context manager, or ``abort`` it.

    After any exception the connection is of no more use: end it and connect anew.
    """

    def __init__(self, incoming: _Incoming, transport: asyncio.Transport) -> None:
        self._incoming = incoming
        self._messages = incoming.messages
        self._transport = transport

    @classmethod
    async def connect(
        cls,
        endpoint: Endpoint,
        *,
        tls: TlsFiles | None,
        user: str,
        application_name: str,
        parameters: Mapping[str, str] | None = None,
        timeout_seconds: float = 5.0,
    ) -> Self:
        """Connect and go through the start-up; raises ``OSError`` or ``ServerError``."""
        async with asyncio.timeout(timeout_seconds):
            incoming = _Incoming()
            client = cls(incoming, await connect_endpoint(endpoint, tls, incoming))
            try:
                await client._start_up(
                    {
                        "user": user,
                        "database": "replication",
                        "replication": "true",
                        "application_name": application_name,
                        **(parameters or {}),
                    }
                )
            except BaseException:
                client.abort()
                raise
            return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()

    def abort(self) -> None:
        """Cut the connection in this very call; nothing more is read from it."""
        self._incoming.end(ConnectionAbortedError("the replication connection was cut here"))
        self._messages.clear()
        self._transport.abort()

    async def identify_system(self, *, timeout_seconds: float = 5.0) -> SystemIdentity:
        """IDENTIFY_SYSTEM."""
        rows = await self._ask("IDENTIFY_SYSTEM", timeout_seconds)
        if len(rows) != 1 or None in rows[0][:3]:
            raise wire.WireError(f"IDENTIFY_SYSTEM was answered with {rows!r}")
        system, timeline, end = (field.decode() for field in rows[0][:3] if field is not None)
        return SystemIdentity(system, Term(int(timeline)), Lsn.parse(end))

    async def timeline_history(self, term: Term, *, timeout_seconds: float = 5.0) -> str:
        """TIMELINE_HISTORY: the history file of ``term``."""
        rows = await self._ask(f"TIMELINE_HISTORY {term}", timeout_seconds)
        if len(rows) != 1 or len(rows[0]) != 2 or rows[0][1] is None:
            raise wire.WireError(f"TIMELINE_HISTORY {term} was answered with {rows!r}")
        return rows[0][1].decode()

    async def start_replication(
        self, lsn: Lsn, term: Term, *, slot: str | None = None, timeout_seconds: float = 5.0
    ) -> TermEnd | None:
        """START_REPLICATION; ``None`` when log flows, else the term had ended just there."""
        name = f'SLOT "{slot}" ' if slot else ""
        self._send(wire.query(f"START_REPLICATION {name}PHYSICAL {lsn} TIMELINE {term}"))
        async with asyncio.timeout(timeout_seconds):
            rows: list[list[bytes | None]] = []
            while True:
                message = await self._next_message()
                if message.kind == b"W":
                    return None
                if message.kind == b"D":
                    rows.append(wire.parse_data_row(message.body))
                if message.kind == b"Z":
                    return _term_end(rows)

    async def next_batch(self, *, timeout_seconds: float) -> list[LogEvent]:
        """Everything that has arrived, at least one message; ``TimeoutError`` when silent.

        A ``TermEnd`` is always the last of its batch; the connection is then ready for the next
        command.
        """
        await self._incoming.wait(timeout_seconds)
        events: list[LogEvent] = []
        while self._messages:
            if events and self._messages[0].kind == b"E":
                break  # what came before an error still counts; the next call raises it
            message = self._take_message()
            if message.kind == b"c":
                events.append(await self._finish_copy(timeout_seconds=5.0))
                break
            if message.kind == b"C":
                raise ConnectionResetError("the server ended the stream, as it does at shutdown")
            if message.kind != b"d":
                raise wire.WireError(f"a message of type {message.kind!r} came inside COPY")
            events.append(wire.parse_server_copy(message.body))
        return events

    def send_status(self, lsn: Lsn, *, reply_requested: bool = False) -> None:
        """Report ``lsn`` as written, flushed and applied. Never waits."""
        status = wire.standby_status(lsn, time.time(), reply_requested=reply_requested)
        self._transport.write(status)

    async def _finish_copy(self, *, timeout_seconds: float) -> TermEnd:
        self._send(wire.copy_done())
        rows: list[list[bytes | None]] = []
        async with asyncio.timeout(timeout_seconds):
            while True:
                message = await self._next_message()
                if message.kind == b"D":
                    rows.append(wire.parse_data_row(message.body))
                if message.kind == b"Z":
                    return _term_end(rows)

    async def _start_up(self, parameters: Mapping[str, str]) -> None:
        self._send(wire.startup(parameters))
        while True:
            message = await self._next_message()
            if message.kind == b"R" and wire.authentication_code(message.body) != 0:
                raise wire.ServerError(
                    "28000",
                    f"the server asks {parameters['user']} for a password",
                    "internal roles log in by certificate; look at its pg_hba.conf and pg_ident",
                )
            if message.kind == b"Z":
                return

    async def _ask(self, command: str, timeout_seconds: float) -> list[list[bytes | None]]:
        rows: list[list[bytes | None]] = []
        async with asyncio.timeout(timeout_seconds):
            self._send(wire.query(command))
            while True:
                message = await self._next_message()
                if message.kind == b"D":
                    rows.append(wire.parse_data_row(message.body))
                if message.kind == b"Z":
                    return rows

    def _send(self, data: bytes) -> None:
        self._transport.write(data)

    async def _next_message(self) -> wire.Message:
        await self._incoming.wait()
        return self._take_message()

    def _take_message(self) -> wire.Message:
        message = self._messages.popleft()
        if message.kind == b"E":
            raise wire.parse_error(message.body)
        return message


def _term_end(rows: list[list[bytes | None]]) -> TermEnd:
    if len(rows) != 1 or len(rows[0]) != 2:
        raise wire.WireError(f"the end of a timeline came with {rows!r}")
    term, begin = rows[0]
    if term is None or begin is None:
        raise wire.WireError("the end of a timeline does not say where it goes on")
    return TermEnd(Term(int(term)), Lsn.parse(begin.decode()))
