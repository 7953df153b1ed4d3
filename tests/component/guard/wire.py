"""The protocol by hand, for what libpq does not do: a portal run later, a call by the fast path."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

from component.guard.server import CLIENT, DEADLINE_SECONDS, PROTOCOL_VERSION_3, GuardedServer

FLUSH, SYNC = b"H", b"S"
Message = tuple[bytes, bytes]


class Wire:
    """One client session, in the clear and without a password."""

    def __init__(self, server: GuardedServer, name: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS)
        self._stream = self._socket.makefile("rb")
        words = ("user", CLIENT, "database", "postgres", "application_name", name)
        body = struct.pack("!i", PROTOCOL_VERSION_3) + _text(*words) + b"\0"
        self._socket.sendall(struct.pack("!i", len(body) + 4) + body)
        self.read_until(b"Z")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        self._stream.close()
        self._socket.close()

    def send(self, *messages: Message) -> None:
        """Send them at once."""
        packed = [kind + struct.pack("!i", len(body) + 4) + body for kind, body in messages]
        self._socket.sendall(b"".join(packed))

    def read_until(self, wanted: bytes) -> list[Message]:
        """All messages up to the first of that kind, or up to an error."""
        heard: list[Message] = []
        while not heard or heard[-1][0] not in (wanted, b"E"):
            kind = self._stream.read(1)
            assert kind, f"the connection ended after {heard}"
            size = struct.unpack("!i", self._stream.read(4))[0]
            heard.append((kind, self._stream.read(size - 4)))
        return heard


def parse(query: str) -> Message:
    """Prepare the unnamed statement."""
    return b"P", _text("", query) + struct.pack("!h", 0)


def bind(portal: str) -> Message:
    """Make the unnamed statement's portal: its snapshot is taken here."""
    return b"B", _text(portal, "") + struct.pack("!hhh", 0, 0, 0)


def execute(portal: str) -> Message:
    """Fetch one row."""
    return b"E", _text(portal) + struct.pack("!i", 1)


def call(function: int) -> Message:
    """The fast path, for a function without arguments."""
    return b"F", struct.pack("!ihhh", function, 0, 0, 0)


def _text(*words: str) -> bytes:
    return b"".join(word.encode() + b"\0" for word in words)
