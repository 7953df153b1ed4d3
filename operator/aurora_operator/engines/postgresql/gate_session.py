"""One standby at a gate: the server's half of physical replication.

It answers what a walreceiver asks (IDENTIFY_SYSTEM, TIMELINE_HISTORY, START_REPLICATION) and pumps
log up to the limit of the moment, which the gate works out anew each time: the volume durable
position moves, the own log moves, a history is adopted. A standby that is ahead of this gate is
not refused but waits (T10); one whose log is not in this history is told so and let go.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aurora_operator.core.gate import ServePoint
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import SEGMENT_BYTES, Lsn, Term
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.copy_log import LogSource
from aurora_operator.engines.postgresql.history_file import history_file, history_file_name

CHUNK_BYTES: Final = 128 * 1024
_PAGE_BYTES: Final = 8192
"""As much as a walsender puts into one message."""
POINT_SECONDS: Final = 2.0
"""How long a standby is held while the gate learns what it may serve, before it is sent away."""
CLIENT_SILENT_SECONDS: Final = 60.0
"""A standby that is silent for so long, though it was asked for a word, is gone."""
CLIENT_ASKED_SECONDS: Final = 15.0
"""One that takes log all the time says nothing by itself; it is asked after so much silence."""
SEND_SECONDS: Final = 30.0
"""A standby that takes nothing for this long is let go; it comes back when it can."""

_START: Final = re.compile(
    r"START_REPLICATION(?:\s+SLOT\s+\S+)?(?:\s+PHYSICAL)?\s+([0-9A-F]+/[0-9A-F]+)"
    r"(?:\s+TIMELINE\s+(\d+))?",
    re.IGNORECASE,
)
_HISTORY: Final = re.compile(r"TIMELINE_HISTORY\s+(\d+)", re.IGNORECASE)
_SHOWN: Final = {
    "wal_segment_size": f"{SEGMENT_BYTES // 1024 // 1024}MB",
    "data_directory_mode": "0700",
}


class SessionRefused(Exception):
    """The session cannot go on; the standby is told the SQLSTATE and the sentence."""

    def __init__(self, sqlstate: str, sentence: str, hint: str = "") -> None:
        super().__init__(sentence)
        self.sqlstate = sqlstate
        self.hint = hint


@dataclass(frozen=True, slots=True)
class View:
    """What a session may see at this moment: a point, and the history up to its term."""

    point: ServePoint
    history: TermHistory

    def end_of(self, term: Term) -> tuple[Term, Lsn] | None:
        """The term after ``term`` and where it begins; ``None`` for the newest one shown."""
        shown = (entry for entry in self.history.entries if entry.term <= self.point.term)
        following = next((entry for entry in shown if entry.term > term), None)
        return None if following is None else (following.term, following.begin)

    def knows(self, term: Term) -> bool:
        """Whether ``term`` is in the log of this copy at all."""
        return any(entry.term == term for entry in self.history.entries)


def chunk_bytes(position: Lsn, limit: Lsn) -> int:
    """How much to send in one message: up to ``limit``, or else up to the end of a page.

    A standby relies on it that a message never ends inside a record, unless at the end of a page:
    having seen the head of a record it takes the rest of the page for received, and would read
    zeros there. Writers end their messages so; a copy's end, and so the limit, is one of theirs.
    """
    end = position.advanced(CHUNK_BYTES)
    if end >= limit:
        return limit - position
    return CHUNK_BYTES - end % _PAGE_BYTES


class GateSession:
    """Serves one connection, from its first command to its end."""

    def __init__(
        self,
        *,
        source: LogSource,
        view: Callable[[], View | None],
        batch_seconds: float,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """``view`` gives what may be seen now; it raises ``SessionRefused`` when that is over."""
        self._source = source
        self._view = view
        self._batch_seconds = batch_seconds
        self._reader = reader
        self._writer = writer
        self._buffer = wire.MessageBuffer()
        self._messages: deque[wire.Message] = deque()
        self._wake = asyncio.Event()
        self._heard_at = self._asked_at = time.monotonic()
        self.position: Lsn | None = None
        """The standby has all log below it; ``None`` while it takes none."""

    @property
    def is_prompt(self) -> bool:
        """Whether each commit is passed on at once."""
        return not self._batch_seconds

    def wake(self) -> None:
        """Something moved: the VDL, the own log, or the history (T6)."""
        self._wake.set()

    async def run(self) -> None:
        """Answer commands until the standby leaves; raises ``OSError`` when it vanishes."""
        try:
            while True:
                message = await self._next_message()
                if message.kind == b"X":
                    return
                if message.kind != b"Q":
                    raise wire.WireError(f"a gate takes commands, not messages {message.kind!r}")
                await self._answer(message.body.rstrip(b"\0").decode().strip().rstrip(";"))
        except SessionRefused as refusal:
            self._send(
                wire.error_response(
                    refusal.sqlstate, str(refusal), severity="FATAL", hint=refusal.hint
                )
            )
            await self._drain()

    async def _answer(self, command: str) -> None:
        if command.upper() == "IDENTIFY_SYSTEM":
            await self._identify_system()
        elif match := _HISTORY.fullmatch(command):
            self._timeline_history(Term(int(match[1])))
        elif match := _START.fullmatch(command):
            term = Term(int(match[2])) if match[2] else None
            await self._start_replication(Lsn.parse(match[1]), term)
        elif command.upper().startswith("SHOW ") and command[5:].strip() in _SHOWN:
            name = command[5:].strip()
            self._rows([wire.Column(name)], [_SHOWN[name].encode()], "SHOW")
            self._send(wire.ready_for_query())
        else:
            text = f"a gate serves log and nothing else; it does not know {command[:80]!r}"
            hint = "Ask the writer for slots, base backups and SQL."
            self._send(wire.error_response("0A000", text, hint=hint) + wire.ready_for_query())
        await self._drain()

    async def _identify_system(self) -> None:
        point = (await self._some_view()).point
        columns = [
            wire.Column("systemid"),
            wire.Column("timeline", wire.INT8_OID),
            wire.Column("xlogpos"),
            wire.Column("dbname"),
        ]
        system = self._source.system_identifier().encode()
        values = [system, str(point.term).encode(), str(point.limit).encode(), None]
        self._rows(columns, values, "IDENTIFY_SYSTEM")
        self._send(wire.ready_for_query())

    def _timeline_history(self, term: Term) -> None:
        columns = [wire.Column("filename"), wire.Column("content", wire.BYTEA_OID)]
        text = history_file(self._source.history(), term)
        values = [history_file_name(term).encode(), text.encode()]
        self._rows(columns, values, "TIMELINE_HISTORY")
        self._send(wire.ready_for_query())

    async def _start_replication(self, start: Lsn, asked: Term | None) -> None:
        view = await self._some_view()
        term = asked or view.point.term
        end = view.end_of(term)
        if not view.knows(term) or (end is not None and start > end[1]):
            raise SessionRefused(
                "22023",
                f"{start} of term {term} is not in this copy's history {view.history}",
                "The standby holds log that the volume does not have: it needs a new base.",
            )
        if start < self._source.log_start():
            raise SessionRefused(
                wire.SEGMENT_REMOVED,
                f"requested WAL segment has already been removed: {start} lies before"
                f" {self._source.log_start()}",
                "Another copy may still have it; else the standby needs a new base.",
            )
        if end is None or start < end[1]:
            end = await self._copy(start, term)
        if end is not None:
            columns = [wire.Column("next_tli", wire.INT8_OID), wire.Column("next_tli_startpos")]
            self._rows(columns, [str(end[0]).encode(), str(end[1]).encode()], "SELECT")
        self._send(wire.command_complete("START_STREAMING") + wire.ready_for_query())

    async def _copy(self, start: Lsn, term: Term) -> tuple[Term, Lsn] | None:
        """COPY both ways until the term ends (then what follows it) or the standby ends it."""
        self._send(wire.copy_both_response())
        listening = asyncio.create_task(self._listen(start), name="gate: reports of a standby")
        listening.add_done_callback(lambda _: self._wake.set())
        try:
            end = await self._pump(start, term, listening)
            self._send(wire.copy_done())
            async with asyncio.timeout(CLIENT_SILENT_SECONDS):
                await listening
            return end
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _pump(
        self, start: Lsn, term: Term, listening: asyncio.Task[None]
    ) -> tuple[Term, Lsn] | None:
        position = start
        while not listening.done():
            self._wake.clear()
            view = self._view()
            self._ask_if_silent(position)
            end = None if view is None else view.end_of(term)
            if view is not None:
                if not view.knows(term) or (end is not None and position > end[1]):
                    raise SessionRefused(
                        "22023", f"{position} of term {term} is not in the history {view.history}"
                    )
                self.position = position
                limit = view.point.limit if end is None else min(end[1], view.point.limit)
                if position < limit:
                    position = await self._send_log(position, limit, view.point.limit)
                    continue
                if end is not None and position == end[1]:
                    return end
            await self._wake.wait()
            if self._batch_seconds and not listening.done():
                await asyncio.sleep(self._batch_seconds)
        return None

    def _ask_if_silent(self, position: Lsn) -> None:
        """Ask a standby that has been silent for a while for a word, as a walsender does."""
        now = time.monotonic()
        if now - max(self._heard_at, self._asked_at) >= CLIENT_ASKED_SECONDS:
            self._asked_at = now
            self._send(wire.keepalive(position, time.time(), reply_requested=True))

    async def _send_log(self, position: Lsn, limit: Lsn, announced_end: Lsn) -> Lsn:
        """Send one chunk that ends at ``limit`` or before (I2); returns where it ended."""
        data = self._source.read(position, chunk_bytes(position, limit))
        if not data or len(data) > limit - position:
            raise SessionRefused("XX000", f"the log ends at {position}, though {limit} was durable")
        self._send(wire.log_data(position, announced_end, data, time.time()))
        await self._drain()
        return position.advanced(len(data))

    async def _listen(self, start: Lsn) -> None:
        """Take the standby's reports until it ends the COPY; answer those that want an answer."""
        while True:
            message = await self._next_message()
            if message.kind == b"c":
                return
            if message.kind == b"X":
                raise ConnectionResetError("the standby said good-bye")
            if message.kind != b"d":
                raise wire.WireError(f"a message of type {message.kind!r} came inside COPY")
            status = wire.parse_client_copy(message.body)
            if status is not None and status.reply_requested:
                view = self._view()
                end = start if view is None else view.point.limit
                self._send(wire.keepalive(end, time.time(), reply_requested=False))

    async def _some_view(self) -> View:
        """Hold the standby for a moment while the gate knows nothing it may serve."""
        deadline = time.monotonic() + POINT_SECONDS
        while (view := self._view()) is None:
            self._wake.clear()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._wake.wait()
            except TimeoutError:
                raise SessionRefused(
                    "57P03",
                    "this copy does not know yet how far the volume is durable",
                    "Nothing is lost: another gate may know, or this one a little later.",
                ) from None
        return view

    def _rows(self, columns: list[wire.Column], values: Sequence[bytes | None], tag: str) -> None:
        self._send(
            wire.row_description(columns) + wire.data_row(values) + wire.command_complete(tag)
        )

    def _send(self, data: bytes) -> None:
        self._writer.write(data)

    async def _drain(self) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self._writer.drain()

    async def _next_message(self) -> wire.Message:
        while not self._messages:
            async with asyncio.timeout(CLIENT_SILENT_SECONDS):
                data = await self._reader.read(CHUNK_BYTES)
            if not data:
                raise ConnectionResetError("the standby closed the connection")
            self._heard_at = time.monotonic()
            self._messages.extend(self._buffer.feed(data))
        return self._messages.popleft()
