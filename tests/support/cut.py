"""A network cut on loopback: connections that fall silent without ending.

A relay stands between one pod and others. While it is cut it forwards nothing and ends nothing, so
both sides see silence, as when packets are lost; healed, it delivers what was on its way, as TCP's
repetition does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Self

_CHUNK_BYTES = 65536


class Cut:
    """Relays from addresses to addresses, until it is cut."""

    def __init__(self, ways: Iterable[tuple[tuple[str, int], tuple[str, int]]]) -> None:
        """Each way leads from a local (address, port) to the one behind it."""
        self._ways = list(ways)
        self._passes = asyncio.Event()
        self._passes.set()
        self._servers: list[asyncio.Server] = []
        self._relays: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        for (host, port), target in self._ways:

            async def serve(
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                target: tuple[str, int] = target,
            ) -> None:
                task = asyncio.current_task()
                assert task is not None
                self._relays.add(task)
                try:
                    await self._relay(reader, writer, target)
                finally:
                    self._relays.discard(task)

            self._servers.append(await asyncio.start_server(serve, host, port))
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in self._relays:
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    def cut(self) -> None:
        """From here on nothing passes, in either direction."""
        self._passes.clear()

    def heal(self) -> None:
        """What waited is delivered."""
        self._passes.set()

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]
    ) -> None:
        ends = [writer]
        try:
            await self._passes.wait()
            there, back = await asyncio.open_connection(*target)
            ends.append(back)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except OSError:
            pass  # one side is gone, and so is the other
        finally:
            for end in ends:
                end.close()
            for end in ends:
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_CHUNK_BYTES):
            await self._passes.wait()
            sink.write(data)
            await sink.drain()
        await self._passes.wait()
        raise ConnectionResetError("it hung up")
