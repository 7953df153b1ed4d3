"""A client that inserts one row a commit, over and over, and remembers what it was told.

Ids are unique. What was acknowledged must be in the table for ever; what ended in an error may be
there or not. Connections go to whichever instance takes writes.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any, Self

import psycopg

from support.volume import Volume

_RETRY_SECONDS = 0.01
INSERT_SECONDS = 30.0


class Inserts:
    """Runs while its ``async with`` block does."""

    def __init__(self, volume: Volume, deadline_seconds: float = INSERT_SECONDS) -> None:
        """An insert that takes longer than ``deadline_seconds`` is given up, its fate unknown."""
        self.acknowledged: list[tuple[int, float]] = []
        """Ids, and when the acknowledgement came (monotonic seconds)."""
        self.attempted: set[int] = set()
        self.last_error = ""
        self._volume = volume
        self._deadline_seconds = deadline_seconds
        self._ids = itertools.count(1)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="inserts")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def wait_acknowledged(self, count: int, seconds: float) -> float:
        """Wait for ``count`` more acknowledgements; when the last of them came."""
        target = len(self.acknowledged) + count
        deadline = time.monotonic() + seconds
        while len(self.acknowledged) < target:
            if time.monotonic() > deadline:
                missing = target - len(self.acknowledged)
                raise AssertionError(
                    f"{missing} of {count} acknowledgements missing after {seconds} s;"
                    f" last error: {self.last_error}"
                )
            await asyncio.sleep(0.002)
        return self.acknowledged[target - 1][1]

    def longest_outage_seconds(self) -> float:
        """The longest time between two acknowledgements."""
        times = [at for _, at in self.acknowledged]
        return max(after - before for before, after in itertools.pairwise(times))

    async def check(self, session: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        """Nothing acknowledged is lost, nothing is there that nobody sent."""
        acknowledged = {number for number, _ in self.acknowledged}  # before the table is read
        rows = await (await session.execute("SELECT id FROM inserts")).fetchall()
        found = [row[0] for row in rows]
        assert acknowledged <= set(found), f"lost: {sorted(acknowledged - set(found))[:20]}"
        assert set(found) <= self.attempted, "rows that nobody sent"
        assert len(found) == len(set(found)), "rows that are there twice"

    async def _run(self) -> None:
        prepared = False
        while True:
            try:
                async with await self._connect() as session:
                    if not prepared:  # a test that failed may have left its rows
                        await session.execute("CREATE TABLE IF NOT EXISTS inserts (id bigint)")
                        await session.execute("TRUNCATE inserts")
                        prepared = True
                    while True:
                        await self._insert(session)
            except (psycopg.Error, TimeoutError, OSError) as error:
                self.last_error = str(error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _insert(self, session: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        number = next(self._ids)
        self.attempted.add(number)
        async with asyncio.timeout(self._deadline_seconds):
            await session.execute("INSERT INTO inserts VALUES (%s)", [number])
        self.acknowledged.append((number, time.monotonic()))

    async def _connect(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        hosts = [pod.ip for pod in self._volume.instances.values()]
        return await psycopg.AsyncConnection.connect(
            host=",".join(hosts),
            dbname="app",
            user="postgres",
            password=self._volume.password,
            sslmode="require",
            target_session_attrs="read-write",
            connect_timeout=3,
            autocommit=True,
        )
