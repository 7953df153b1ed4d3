"""Commits and copies: a real writer, six acceptors."""

from __future__ import annotations

import asyncio

import pytest

from component.postgresql.conftest import MakeInstance
from support.postgresql import Volume, eventually


async def test_a_commit_returns_with_four_copies_and_waits_with_three(
    volume: Volume, make_instance: MakeInstance
) -> None:
    """Rule 1, I1."""
    writer = make_instance("shop-instance-1")
    await writer.start_replica()
    await writer.open(2)
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
        for copy in volume.copies[:2]:
            await copy.stop_following()
        async with asyncio.timeout(5):
            await session.execute("INSERT INTO t VALUES (1)")
        await volume.copies[2].stop_following()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await session.execute("INSERT INTO t VALUES (2)")
