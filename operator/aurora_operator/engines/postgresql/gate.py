"""The gate of a storage pod: serves its copy's log, never beyond what may be served.

Standbys of other pods come over mutual TLS, the own page store over a Unix socket. Who they are
and whether they get more than the volume durable position is the agent's to judge; how far a
session may read is asked of the copy again for every piece of log (rule 7, I2).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from aurora_operator.core.lsn import Lsn
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.copy_log import LogSource
from aurora_operator.engines.postgresql.endpoint import STREAM_BUFFER_BYTES, TlsFiles
from aurora_operator.engines.postgresql.gate_session import GateSession, SessionRefused, View
from aurora_operator.engines.postgresql.startup import read_startup
from aurora_operator.volume.errors import StorageError

HANDSHAKE_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 1.0
"""How often every session looks again, even when nothing moves."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SessionAsk:
    """Who asks a gate for log, and with which start-up parameters."""

    common_name: str | None
    """Of the client's certificate; ``None`` over the Unix socket of the own pod."""
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SessionVerdict:
    """What a session may have. ``batch_seconds`` trades its delay for fewer wake-ups."""

    granted: bool
    sentence: str
    uncapped: bool = False
    batch_seconds: float = 0.0
    stays: bool = False
    """It has no other gate to go to, however far behind this one is."""


class GateServer:
    """Listens, and owns the sessions."""

    def __init__(
        self,
        *,
        source: LogSource,
        judge: Callable[[SessionAsk], SessionVerdict],
        on_readers: Callable[[], None] = lambda: None,
        server_version: str = "17.0",
    ) -> None:
        """``judge`` is asked at the start of a session and, if it is uncapped, all along.

        ``on_readers`` is called when ``has_prompt_readers`` may have changed.
        """
        self._source = source
        self._judge = judge
        self._on_readers = on_readers
        self._server_version = server_version
        self._servers: list[asyncio.Server] = []
        self._tls: tuple[TlsFiles, ssl.SSLContext] | None = None
        self._sessions: set[GateSession] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None

    async def start(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        tls: TlsFiles | None = None,
        socket_path: Path | None = None,
    ) -> None:
        """Listen on a port with TLS from the first byte, on a Unix socket, or on both."""
        self._looking = asyncio.create_task(self._look(), name="gate: sessions look again")
        if port is not None:
            if tls is None:
                raise ValueError("a gate listens on a port with TLS only, and no files were given")
            context = tls.server_context()
            self._tls = (tls, context)
            self._servers.append(
                await asyncio.start_server(
                    self._accept,
                    host,
                    port,
                    ssl=context,
                    ssl_handshake_timeout=HANDSHAKE_SECONDS,
                    limit=STREAM_BUFFER_BYTES,
                )
            )
        if socket_path is not None:
            socket_path.unlink(missing_ok=True)
            self._servers.append(
                await asyncio.start_unix_server(
                    self._accept, str(socket_path), limit=STREAM_BUFFER_BYTES
                )
            )

    @property
    def port(self) -> int:
        """The port that is listened on; of use when 0 was asked for."""
        names = (s.getsockname() for server in self._servers for s in server.sockets)
        return next(int(name[1]) for name in names if isinstance(name, tuple))

    def notify(self) -> None:
        """Call when the VDL moved, the own log moved, or history or promise changed (T6)."""
        for session in self._sessions:
            session.wake()

    @property
    def has_prompt_readers(self) -> bool:
        """Whether somebody reads here who is to see each commit at once."""
        return any(session.is_prompt for session in self._sessions)

    def positions(self) -> list[Lsn]:
        """Where the standbys stand that read here (rule 14)."""
        return [s.position for s in self._sessions if s.position is not None]

    def reload_certificate(self) -> None:
        """Use the certificate files as they are now for connections from now on."""
        if self._tls is not None:
            files, context = self._tls
            files.load(context)

    async def close(self) -> None:
        """Stop listening and end every session."""
        for server in self._servers:
            server.close()
        tasks = self._tasks | ({self._looking} if self._looking is not None else set())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._servers.clear()

    async def _look(self) -> None:
        """Time alone changes what a session should do: a copy stays behind, a standby is silent."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.notify()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, EOFError, wire.WireError, StorageError) as error:
            log.info("gate session ended", reason=str(error) or type(error).__name__)
        except asyncio.CancelledError:  # by close(), which waits for this task's end
            log.info("gate session ended", reason="the gate closes")
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _notice_dead_peers(writer)
        parameters = await read_startup(reader, writer)
        ask = SessionAsk(_common_name(writer), parameters)
        verdict = self._judge(ask)
        if not verdict.granted or "replication" not in parameters:
            sentence = verdict.sentence if not verdict.granted else "a gate serves standbys only"
            writer.write(wire.error_response("28000", sentence, severity="FATAL"))
            await asyncio.wait_for(writer.drain(), HANDSHAKE_SECONDS)
            writer.close()
            await asyncio.wait_for(writer.wait_closed(), HANDSHAKE_SECONDS)
            return
        writer.write(self._greeting())
        session = GateSession(
            source=self._source,
            view=lambda: self._view(ask, verdict),
            batch_seconds=verdict.batch_seconds,
            reader=reader,
            writer=writer,
        )
        self._sessions.add(session)
        self._on_readers()
        log.info("gate session begins", uncapped=verdict.uncapped, reason=verdict.sentence)
        try:
            await session.run()
            writer.close()
            await asyncio.wait_for(writer.wait_closed(), HANDSHAKE_SECONDS)
        finally:
            self._sessions.discard(session)
            self._on_readers()

    def _view(self, ask: SessionAsk, verdict: SessionVerdict) -> View | None:
        """What the session may see now; an uncapped one only while it is still entitled."""
        if verdict.uncapped:
            now = self._judge(ask)
            if not (now.granted and now.uncapped):
                raise SessionRefused("57P01", f"no more log beyond the VDL: {now.sentence}")
            point = self._source.uncapped_point()
        else:
            why = None if verdict.stays else self._source.why_elsewhere()
            if why is not None:
                raise SessionRefused("57P03", why, "Nothing is lost: another gate has more.")
            point = self._source.serve_point()
        return None if point is None else View(point, self._source.history())

    def _greeting(self) -> bytes:
        settings = {
            "server_version": self._server_version,
            "server_encoding": "UTF8",
            "client_encoding": "UTF8",
            "integer_datetimes": "on",
            "standard_conforming_strings": "on",
        }
        return (
            wire.authentication_ok()
            + b"".join(wire.parameter_status(name, value) for name, value in settings.items())
            + wire.backend_key_data(0, 0)
            + wire.ready_for_query()
        )


def _common_name(writer: asyncio.StreamWriter) -> str | None:
    certificate: dict[str, Any] | None = writer.get_extra_info("peercert")
    if not certificate:
        return None
    names = (pair for part in certificate.get("subject", ()) for pair in part)
    return next((value for key, value in names if key == "commonName"), "")


def _notice_dead_peers(writer: asyncio.StreamWriter) -> None:
    """Let the kernel end a connection whose other side vanished without a word."""
    if writer.get_extra_info("peercert") is None:
        return
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000)
