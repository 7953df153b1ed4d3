"""Clients that go on reading at one instance, and how far what they read was behind.

A read is stale when it misses a row that anybody had been told is committed before the read was
sent. How stale is how long before: the age of the oldest such row.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Self

import psycopg

from support.inserts import Inserts
from support.volume import Pod, Volume

_QUERY = "SELECT coalesce(max(id), 0) FROM inserts"
_PAUSE_SECONDS = 0.005


@dataclass(frozen=True)
class Read:
    """One answered read."""

    value: int
    sent_at: float
    answered_at: float


class StaleReads:
    """So many sessions at one instance, reading while the ``async with`` block lasts.

    With ``queued`` they connect and then stay still until ``send_now``: what they send then meets
    a server that may be frozen.
    """

    def __init__(
        self, inserts: Inserts, volume: Volume, pod: Pod, sessions: int, *, queued: bool = False
    ) -> None:
        self.answered: list[Read] = []
        self.sqlstates: list[str] = []
        """How each session ended."""
        self.connected = 0
        self._inserts = inserts
        self._volume = volume
        self._pod = pod
        self._sessions = sessions
        self._go = asyncio.Event()
        if not queued:
            self._go.set()
        self.sent = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._read(), name=f"stale reader {number}")
            for number in range(self._sessions)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def send_now(self) -> None:
        """Queued readers send what they have."""
        self._go.set()

    def stale_seconds(self) -> list[float]:
        """How stale each stale read was, the worst last."""
        acknowledged = self._inserts.acknowledged
        late = []
        for read in self.answered:
            missed = [at for number, at in acknowledged if number > read.value]
            if missed and min(missed) < read.sent_at:
                late.append(read.sent_at - min(missed))
        return sorted(late)

    def describe(self) -> str:
        """One line of figures."""
        late = self.stale_seconds()
        worst = f"worst {late[-1] * 1000:.0f} ms" if late else "none"
        return f"{len(self.answered)} reads answered, {len(late)} stale ({worst})"

    async def _read(self) -> None:
        async with await self._volume.connect(self._pod) as session:
            self.connected += 1
            try:
                await self._go.wait()
                while True:
                    await self._read_once(session)
                    await asyncio.sleep(_PAUSE_SECONDS)
            except psycopg.Error as error:
                self.sqlstates.append(error.sqlstate or "gone")

    async def _read_once(self, session: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        sent_at = time.monotonic()
        self.sent += 1
        row = await (await session.execute(_QUERY)).fetchone()
        assert row is not None
        self.answered.append(Read(row[0], sent_at, time.monotonic()))
