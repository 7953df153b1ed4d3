r"""The server's log lines, turned into records that can be printed as JSON.

The server writes to standard error and the agent reads the pipe. PostgreSQL's own ``jsonlog`` goes
only to files of its collector process: that would need a place, rotation and a reader that follows
files, and the last lines before a crash would come late. A pipe has none of that. Fields are cut
by control characters that cannot stand at the start of a line of a message, since PostgreSQL
indents every further line of it. A line that is not understood is passed on as it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

LINE_PREFIX: Final = "\x1e%m\x1f%p\x1f%b\x1f%u\x1f%d\x1f%a\x1f%e\x1f"
"""Record mark, then time, process, backend type, user, database, application, SQLSTATE."""

_FIELDS: Final = ("time", "process", "backend", "user", "database", "application", "sqlstate")
_PARTS: Final = ("DETAIL", "HINT", "CONTEXT", "STATEMENT", "QUERY", "LOCATION", "BACKTRACE")
_LINES_KEPT: Final = 20
_READ_BYTES: Final = 64 * 1024
_LINE_BYTES_MAX: Final = 1024 * 1024

Record = dict[str, str]
Emit = Callable[[Record], None]


class LogParser:
    """Collects lines into records: a message, and the parts that PostgreSQL adds after it."""

    def __init__(self) -> None:
        self._open: Record | None = None
        self._last_key = "message"

    def feed(self, line: str) -> Record | None:
        """Take a line; returns the record before it when this line begins another."""
        if line.startswith("\t") and self._open is not None:
            self._open[self._last_key] += "\n" + line[1:]
            return None
        if not line.startswith("\x1e"):
            return self._begin({"severity": "LOG", "message": line})
        *fields, text = line[1:].split("\x1f", len(_FIELDS))
        severity, _, message = text.partition(":")
        if severity in _PARTS and self._open is not None and self._is_same(fields):
            self._last_key = severity.lower()
            self._open[self._last_key] = message.strip()
            return None
        named = dict(zip(_FIELDS, fields, strict=False))
        record = {key: value for key, value in named.items() if value and value != "00000"}
        return self._begin({"severity": severity, "message": message.strip(), **record})

    def finish(self) -> Record | None:
        """The record that is still open, if any: nothing more follows for now."""
        record, self._open = self._open, None
        return record

    def _begin(self, record: Record) -> Record | None:
        before, self._open, self._last_key = self._open, record, "message"
        return before

    def _is_same(self, fields: list[str]) -> bool:
        return self._open is not None and len(fields) > 1 and self._open.get("process") == fields[1]


class ServerLog:
    """Reads a server's standard error to its end, and remembers its last lines."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._parser = LogParser()
        self.last_lines: deque[str] = deque(maxlen=_LINES_KEPT)
        """For the sentence that says why a server ended."""

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Emit every record, each as soon as nothing more of it waits in the pipe."""
        pending = b""
        while data := await stream.read(_READ_BYTES):
            *lines, pending = (pending + data).split(b"\n")
            if len(pending) > _LINE_BYTES_MAX:
                lines, pending = [*lines, pending], b""
            for line in lines:
                self._take(line)
            if not pending:
                self._hand_on(self._parser.finish())
        if pending:
            self._take(pending)
        self._hand_on(self._parser.finish())

    def _take(self, line: bytes) -> None:
        self._hand_on(self._parser.feed(line.decode(errors="replace").rstrip("\r")))

    def _hand_on(self, record: Record | None) -> None:
        if record is not None:
            self.last_lines.append(f"{record['severity']}: {record['message']}")
            self._emit(record)
