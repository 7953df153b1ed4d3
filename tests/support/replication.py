"""Stand-ins for both ends of a stream: a copy in memory, and a writer that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aurora_operator.core.gate import ServePoint
from aurora_operator.core.history import TermHistory, TermStart
from aurora_operator.core.lsn import LOG_START, Lsn, Term
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.endpoint import SocketEndpoint
from aurora_operator.engines.postgresql.startup import read_startup
from aurora_operator.volume.errors import LogRefused

SYSTEM = "7711287836597325842"


def history_of(*starts: tuple[int, int]) -> TermHistory:
    """A history from (term, bytes after the start of the log)."""
    return TermHistory(tuple(TermStart(Term(t), at(offset)) for t, offset in starts))


def at(offset_bytes: int) -> Lsn:
    """A position, counted from the start of the log."""
    return LOG_START.advanced(offset_bytes)


class MemoryCopy:
    """A copy's log in memory, with every call written down; not durable, but as strict."""

    def __init__(self, history: TermHistory, length_bytes: int = 0) -> None:
        self.log = bytearray(pattern(0, length_bytes))
        self.entries = history
        self.durable = length_bytes
        self.limit: Lsn | None = None
        """How far may be served; ``None``: nothing is known."""
        self.reports = True
        self.calls: list[str] = []
        self.fail_sync: Exception | None = None
        self.start = LOG_START
        self.elsewhere: str | None = None

    # what an acceptor needs

    def scl(self) -> Lsn:
        return at(self.durable)

    def history(self) -> TermHistory:
        return self.entries

    def append(self, lsn: Lsn, data: bytes, term: Term) -> None:
        assert lsn == at(len(self.log)), "only contiguous log is ever offered"
        run_end = self.entries.end_of_run(lsn)
        crosses = run_end is not None and lsn.advanced(len(data)) > run_end
        if self.entries.term_of_byte(lsn) != term or crosses:
            raise LogRefused(f"{len(data)} bytes at {lsn} are not of term {term}")
        self.log += data
        self.calls.append(f"append {len(data)}")

    def sync(self) -> None:
        if self.fail_sync is not None:
            raise self.fail_sync
        self.durable = len(self.log)
        self.calls.append("sync")

    def reportable(self, writer_term: Term) -> Lsn | None:
        return self.scl() if self.reports and writer_term == self.entries.last.term else None

    # what a gate needs

    def system_identifier(self) -> str:
        return SYSTEM

    def log_start(self) -> Lsn:
        return self.start

    def serve_point(self) -> ServePoint | None:
        if self.limit is None:
            return None
        term = self.entries.last_term_before(self.limit)
        return None if term is None else ServePoint(self.limit, term)

    def why_elsewhere(self) -> str | None:
        return self.elsewhere

    def uncapped_point(self) -> ServePoint | None:
        term = self.entries.last_term_before(self.scl())
        return None if term is None else ServePoint(self.scl(), term)

    def read(self, lsn: Lsn, length_bytes: int) -> bytes:
        offset = lsn - LOG_START
        return bytes(self.log[offset : min(offset + length_bytes, self.durable)])


def pattern(offset_bytes: int, length_bytes: int) -> bytes:
    """Log bytes that tell where they belong."""
    return bytes((offset_bytes + i) * 31 % 251 for i in range(length_bytes))


@dataclass
class FakeWriter:
    """A walsender for one client at a time. Set what it announces, then send what is wanted."""

    directory: Path
    term: int = 2
    system: str = SYSTEM
    start_answer: bytes | None = None
    """Instead of entering COPY."""
    statuses: list[wire.StandbyStatus] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    asked_identity: int = 0
    on_identify: Callable[[], None] = lambda: None
    answers_pings: bool = True
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> SocketEndpoint:
        return SocketEndpoint(self.directory / "writer")

    async def listen(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.endpoint.path))

    def send(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)

    def hang_up(self) -> None:
        assert self._writer is not None
        self._writer.transport.abort()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await read_startup(reader, writer)
            writer.write(wire.authentication_ok() + wire.ready_for_query())
            buffer = wire.MessageBuffer()
            while data := await reader.read(65536):
                for message in buffer.feed(data):
                    self._take(message, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            return
        finally:
            writer.transport.abort()

    def _take(self, message: wire.Message, writer: asyncio.StreamWriter) -> None:
        if message.kind == b"Q":
            self.commands.append(message.body.rstrip(b"\0").decode())
            writer.write(self._answer(self.commands[-1]))
            if self.commands[-1].startswith("START"):
                self._writer = writer
                self.connected.set()
        elif message.kind == b"d":
            status = wire.parse_client_copy(message.body)
            assert status is not None
            self.statuses.append(status)
            if status.reply_requested and self.answers_pings:
                writer.write(wire.keepalive(status.flushed, 0.0, reply_requested=False))

    def _answer(self, command: str) -> bytes:
        if command.startswith("START"):
            return self.start_answer or wire.copy_both_response()
        self.on_identify()
        row = [self.system.encode(), str(self.term).encode(), b"0/1000000", None]
        return wire.data_row(row) + wire.command_complete("X") + wire.ready_for_query()
