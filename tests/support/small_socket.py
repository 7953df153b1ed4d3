"""A connection in memory, for the volumes of ``support.small_volume``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

import aiohttp


class SmallSocket:
    """One end of a connection in memory."""

    def __init__(
        self,
        inbox: asyncio.Queue[aiohttp.WSMessage],
        outbox: asyncio.Queue[aiohttp.WSMessage],
        dead: Callable[[], bool],
    ) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._dead = dead

    @classmethod
    def pair(cls, dead: Callable[[], bool]) -> tuple[SmallSocket, SmallSocket]:
        one: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()
        other: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()
        return cls(one, other, dead), cls(other, one, dead)

    def cut(self) -> None:
        """What is sent from here on is lost."""
        self._dead = lambda: True

    async def receive(self) -> aiohttp.WSMessage:
        return await self._inbox.get()

    async def send_str(self, text: str) -> None:
        if not self._dead():
            self._outbox.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, text, None))

    async def close(self) -> None:
        self._outbox.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.CLOSE, None, None))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()
