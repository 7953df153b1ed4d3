"""PostgreSQL's frontend/backend protocol, version 3, as far as replication needs it.

Pure encoding and decoding: bytes in, values out, no socket. Both ends are here, because an acceptor
is a client of a writer and a gate is a server of a standby. What is not here: authentication by
password, extended queries, COPY in one direction, logical replication.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from aurora_operator.core.lsn import Lsn

PROTOCOL_3: Final = 196608
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104
CANCEL_REQUEST: Final = 80877102

TEXT_OID: Final = 25
BYTEA_OID: Final = 17
INT8_OID: Final = 20

STARTUP_BYTES_MAX: Final = 10_000
"""PostgreSQL's own limit for a start-up packet."""
MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Nothing that replication sends comes near it; a larger length means a broken stream."""

_HEADER: Final = struct.Struct("!cI")
_LOG_HEADER: Final = struct.Struct("!cQQq")
_KEEPALIVE: Final = struct.Struct("!cQqB")
_STATUS: Final = struct.Struct("!cQQQqB")
_EPOCH_2000_MICROSECONDS: Final = 946_684_800_000_000


class WireError(Exception):
    """The other side sent what the protocol does not allow; the connection is of no use now."""


class ServerError(Exception):
    """The server answered with an error: SQLSTATE, message, and the hint or detail if any."""

    def __init__(self, sqlstate: str, message: str, detail: str = "") -> None:
        super().__init__(f"{message} (SQLSTATE {sqlstate})" + (f": {detail}" if detail else ""))
        self.sqlstate = sqlstate
        self.message = message


SEGMENT_REMOVED: Final = "58P01"
"""Undefined file: the requested log was already removed there."""
OBJECT_IN_USE: Final = "55006"
"""The slot is still taken by an earlier connection."""
SERVER_ENDS: Final = frozenset({"57P01", "57P02", "57P03", "42704"})
"""Told to end, ends because of a crash, takes nobody: it is on its way down. Without our slot: what
answers at the writer's address is a standby by now, made anew from a base (slots come first)."""


class Message(NamedTuple):
    """One message after start-up: its type byte and its body."""

    kind: bytes
    body: bytes


class MessageBuffer:
    """Cuts a byte stream into messages, whatever the pieces it arrives in."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Take what was received; return every message that is now complete."""
        self._pending += data
        messages: list[Message] = []
        offset = 0
        while len(self._pending) - offset >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._pending, offset)
            if not 4 <= length <= MESSAGE_BYTES_MAX:
                raise WireError(f"a message of type {kind!r} claims a length of {length} bytes")
            end = offset + 1 + length
            if len(self._pending) < end:
                break
            messages.append(Message(kind, bytes(self._pending[offset + _HEADER.size : end])))
            offset = end
        del self._pending[:offset]
        return messages


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message on the wire."""
    return _HEADER.pack(kind, len(body) + 4) + body


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


# --- start-up ------------------------------------------------------------------------------------


def startup(parameters: Mapping[str, str]) -> bytes:
    """The client's first packet; it has no type byte."""
    pairs = b"".join(_text(name) + _text(value) for name, value in parameters.items())
    body = struct.pack("!I", PROTOCOL_3) + pairs + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def parse_startup(body: bytes) -> dict[str, str]:
    """The parameters of a start-up packet, its length and code already read off."""
    if not body.endswith(b"\0"):
        raise WireError("a start-up packet does not end with a zero byte")
    parts = body[:-1].split(b"\0")
    if parts and parts[-1] == b"":
        parts.pop()
    if len(parts) % 2:
        raise WireError("a start-up packet names a parameter without a value")
    return {parts[i].decode(): parts[i + 1].decode() for i in range(0, len(parts), 2)}


def authentication_ok() -> bytes:
    """No password was asked for: the certificate, or the socket's place, was enough."""
    return message(b"R", struct.pack("!I", 0))


def authentication_code(body: bytes) -> int:
    """0 when the server is content; anything else asks for a proof that nobody here has."""
    return int(struct.unpack_from("!I", body)[0])


def parameter_status(name: str, value: str) -> bytes:
    """One of the settings that a server reports at start."""
    return message(b"S", _text(name) + _text(value))


def backend_key_data(process_id: int, secret: int) -> bytes:
    """Part of the greeting; nobody can cancel a replication command with it."""
    return message(b"K", struct.pack("!II", process_id, secret))


def ready_for_query() -> bytes:
    """Idle, in no transaction."""
    return message(b"Z", b"I")


# --- queries and their answers --------------------------------------------------------------------


def query(text: str) -> bytes:
    """A command in the simple protocol; replication commands come only this way."""
    return message(b"Q", _text(text))


def terminate() -> bytes:
    """The client says good-bye."""
    return message(b"X")


@dataclass(frozen=True, slots=True)
class Column:
    """Name and type of one result column."""

    name: str
    type_oid: int = TEXT_OID


def row_description(columns: Sequence[Column]) -> bytes:
    """Names and types of the rows that follow."""
    body = struct.pack("!H", len(columns))
    for column in columns:
        length = 8 if column.type_oid == INT8_OID else -1
        body += _text(column.name) + struct.pack("!IhIhih", 0, 0, column.type_oid, length, -1, 0)
    return message(b"T", body)


def data_row(values: Iterable[bytes | None]) -> bytes:
    """One row in text format; ``None`` is NULL."""
    fields = [
        struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
        for value in values
    ]
    return message(b"D", struct.pack("!H", len(fields)) + b"".join(fields))


def parse_data_row(body: bytes) -> list[bytes | None]:
    """The fields of one row."""
    (count,) = struct.unpack_from("!H", body)
    values: list[bytes | None] = []
    offset = 2
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, offset)
        offset += 4
        if length < 0:
            values.append(None)
            continue
        values.append(body[offset : offset + length])
        offset += length
    return values


def command_complete(tag: str) -> bytes:
    """The command ended well."""
    return message(b"C", _text(tag))


def error_response(sqlstate: str, text: str, *, severity: str = "ERROR", hint: str = "") -> bytes:
    """An error, with what to do about it as the hint."""
    fields = [("S", severity), ("V", severity), ("C", sqlstate), ("M", text)]
    if hint:
        fields.append(("H", hint))
    return message(b"E", b"".join(key.encode() + _text(value) for key, value in fields) + b"\0")


def parse_error(body: bytes) -> ServerError:
    """The exception for an error message."""
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    detail = "; ".join(fields[key] for key in (b"D", b"H") if key in fields)
    return ServerError(fields.get(b"C", "XX000"), fields.get(b"M", "unknown error"), detail)


# --- copy in both directions ----------------------------------------------------------------------


def copy_both_response() -> bytes:
    """From here on log flows one way and reports the other."""
    return message(b"W", struct.pack("!bH", 0, 0))


def copy_done() -> bytes:
    """This side has nothing more to send in this COPY."""
    return message(b"c")


class LogData(NamedTuple):
    """A piece of the log."""

    start: Lsn
    end: Lsn
    """How far the sender's log reaches; from a gate, how far it may be served."""
    data: bytes


class Keepalive(NamedTuple):
    """A sign of life of the server."""

    end: Lsn
    reply_requested: bool


@dataclass(frozen=True, slots=True)
class StandbyStatus:
    """A standby's or an acceptor's report."""

    written: Lsn
    flushed: Lsn
    applied: Lsn
    reply_requested: bool


def _microseconds(unix_seconds: float) -> int:
    return int(unix_seconds * 1_000_000) - _EPOCH_2000_MICROSECONDS


def log_data(start: Lsn, end: Lsn, data: bytes, unix_seconds: float) -> bytes:
    """CopyData ``w``."""
    header = _LOG_HEADER.pack(b"w", start, end, _microseconds(unix_seconds))
    return message(b"d", header + data)


def keepalive(end: Lsn, unix_seconds: float, *, reply_requested: bool) -> bytes:
    """CopyData ``k``."""
    body = _KEEPALIVE.pack(b"k", end, _microseconds(unix_seconds), reply_requested)
    return message(b"d", body)


def standby_status(lsn: Lsn, unix_seconds: float, *, reply_requested: bool) -> bytes:
    """CopyData ``r``: written, flushed and applied are one for a copy, which applies nothing."""
    body = _STATUS.pack(b"r", lsn, lsn, lsn, _microseconds(unix_seconds), reply_requested)
    return message(b"d", body)


def parse_server_copy(body: bytes) -> LogData | Keepalive:
    """What a server sends inside COPY."""
    kind = body[:1]
    if kind == b"w" and len(body) >= _LOG_HEADER.size:
        _, start, end, _ = _LOG_HEADER.unpack_from(body)
        return LogData(Lsn(start), Lsn(end), body[_LOG_HEADER.size :])
    if kind == b"k" and len(body) == _KEEPALIVE.size:
        _, end, _, reply = _KEEPALIVE.unpack(body)
        return Keepalive(Lsn(end), bool(reply))
    raise WireError(f"the server sent a replication message of unknown kind {kind!r}")


def parse_client_copy(body: bytes) -> StandbyStatus | None:
    """What a client sends inside COPY; ``None`` for hot standby feedback, which a gate ignores."""
    kind = body[:1]
    if kind == b"r" and len(body) == _STATUS.size:
        _, written, flushed, applied, _, reply = _STATUS.unpack(body)
        return StandbyStatus(Lsn(written), Lsn(flushed), Lsn(applied), bool(reply))
    if kind == b"h":
        return None
    raise WireError(f"the client sent a replication message of unknown kind {kind!r}")
