"""The way of an instance to the log: a Unix socket that leads to one of six gates.

The server's settings name this socket and never change. The relay picks the gate, reads the
walreceiver's first packet, adds what the gate has to know, and then only carries bytes. When a
gate goes away the connection is closed, the walreceiver comes back by itself, and the next gate is
tried. It is also the one place where a candidate gets more than the volume durable position.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from aurora_operator.core.lsn import Term
from aurora_operator.core.names import AttemptId
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.endpoint import (
    STREAM_BUFFER_BYTES,
    Endpoint,
    TlsFiles,
    open_endpoint,
)
from aurora_operator.engines.postgresql.startup import read_startup

TERM_PARAMETER: Final = "aurora.term"
ATTEMPT_PARAMETER: Final = "aurora.attempt"
FILL_PARAMETER: Final = "aurora.fill"

CONNECT_SECONDS: Final = 1.0
_CHUNK_BYTES: Final = 256 * 1024

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Route:
    """Where sessions go at the moment: the listed gates, or one of them as a candidate."""

    gate: Endpoint | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


class Relay:
    """Listens on the socket and carries its sessions, usually just one."""

    def __init__(
        self, *, socket: Path, tls: TlsFiles | None, gates: Callable[[], Sequence[Endpoint]]
    ) -> None:
        """``gates`` gives the order of preference and is asked at every connection.

        Different instances should be given different first ones.
        """
        self._socket = socket
        self._tls = tls
        self._gates = gates
        self._route = _Route()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connected: list[Endpoint] = []
        self._turn = 0

    async def start(self) -> None:
        """Listen; the directory of the socket exists already."""
        self._socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._accept, str(self._socket), limit=STREAM_BUFFER_BYTES
        )

    @property
    def current_gate(self) -> Endpoint | None:
        """The gate that the newest session leads to."""
        return self._connected[-1] if self._connected else None

    def set_uncapped(self, term: Term, attempt_id: AttemptId, gate: Endpoint) -> None:
        """From now on only this gate, as the candidate of this attempt (rule 4)."""
        parameters = {TERM_PARAMETER: str(term), ATTEMPT_PARAMETER: attempt_id}
        self._switch(_Route(gate, parameters))

    def set_capped(self) -> None:
        """From now on any gate, up to the volume durable position."""
        self._switch(_Route())

    async def close(self) -> None:
        """Stop listening and end what is carried."""
        if self._server is not None:
            self._server.close()
        self._drop_sessions()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._socket.unlink(missing_ok=True)

    def _switch(self, route: _Route) -> None:
        if route != self._route:
            self._route = route
            self._drop_sessions()

    def _drop_sessions(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await self._carry(reader, writer)
        except (OSError, TimeoutError, EOFError, wire.WireError) as error:
            log.info("relay session ended", reason=str(error) or type(error).__name__)
        except asyncio.CancelledError:  # by a switch of routes, or by close()
            log.info("relay session dropped", uncapped=self._route.gate is not None)
        finally:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        route = self._route
        parameters = await read_startup(reader, writer)
        gate, gate_reader, gate_writer = await self._open(route)
        self._connected.append(gate)
        log.info("relay session begins", gate=str(gate), uncapped=route.gate is not None)
        try:
            gate_writer.write(wire.startup({**parameters, **route.parameters}))
            await _pipe_both(reader, writer, gate_reader, gate_writer)
            self._turn += 1
        finally:
            self._connected.remove(gate)
            gate_writer.transport.abort()

    async def _open(
        self, route: _Route
    ) -> tuple[Endpoint, asyncio.StreamReader, asyncio.StreamWriter]:
        """The first gate that answers, beginning with the one whose turn it is."""
        gates = [route.gate] if route.gate is not None else list(self._gates())
        failures: list[str] = []
        for _ in gates:
            gate = gates[self._turn % len(gates)]
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    reader, writer = await open_endpoint(gate, self._tls)
            except (OSError, TimeoutError) as error:
                failures.append(f"{gate}: {error or type(error).__name__}")
                self._turn += 1
                continue
            return gate, reader, writer
        raise ConnectionError(
            "no gate answers, so this instance gets no log for now and its reads grow older: "
            + "; ".join(failures)
        )


async def _pipe_both(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    gate_reader: asyncio.StreamReader,
    gate_writer: asyncio.StreamWriter,
) -> None:
    """Carry bytes until one side ends.

    What the gate said last, such as why it refused, still reaches the walreceiver.
    """
    up = asyncio.create_task(_pipe(reader, gate_writer), name="relay: to the gate")
    down = asyncio.create_task(_pipe(gate_reader, writer), name="relay: from the gate")
    try:
        done, _ = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        if down in done:
            writer.close()
            async with asyncio.timeout(CONNECT_SECONDS):
                await writer.wait_closed()
    finally:
        up.cancel()
        down.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK_BYTES):
        target.write(data)
        await target.drain()
