"""Addresses while DNS is away: the last answer is used, and nobody waits for long."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from aurora_operator.agent.client import RememberingResolver

ANSWER: list[ResolveResult] = [
    ResolveResult(hostname="pod", host="10.0.0.1", port=1, family=socket.AF_INET, proto=0, flags=0)
]


class Dns(AbstractResolver):
    """Answers, fails, or hangs."""

    def __init__(self) -> None:
        self.fails = False
        self.hangs = asyncio.Event()
        self.hangs.set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        await self.hangs.wait()
        if self.fails:
            raise OSError("no such name")
        return ANSWER

    async def close(self) -> None:
        return


@pytest.fixture
def dns() -> Dns:
    return Dns()


@pytest.fixture
def resolver(dns: Dns) -> RememberingResolver:
    return RememberingResolver(dns)


async def test_a_failing_dns_gives_the_last_answer(dns: Dns, resolver: RememberingResolver) -> None:
    assert await resolver.resolve("pod", 1) == ANSWER
    dns.fails = True
    assert await resolver.resolve("pod", 1) == ANSWER
    await resolver.close()


async def test_a_hanging_dns_gives_the_last_answer(dns: Dns, resolver: RememberingResolver) -> None:
    await resolver.resolve("pod", 1)
    dns.hangs.clear()
    async with asyncio.timeout(2):
        assert await resolver.resolve("pod", 1) == ANSWER
    await resolver.close()


async def test_an_unknown_name_fails(dns: Dns, resolver: RememberingResolver) -> None:
    dns.fails = True
    with pytest.raises(OSError, match="no such name"):
        await resolver.resolve("pod", 1)
    await resolver.close()
