"""A whole volume on loopback, from birth to the loss of every instance."""

from __future__ import annotations

from support.volume import Volume


async def test_birth_open_write() -> None:
    async with Volume() as volume:
        await volume.be_born()
        first = volume.add_instance(1)
        status = await volume.open(first, "creation")
        assert status.term == 2
        async with await volume.connect(first) as session:
            await session.execute("CREATE TABLE t (id int PRIMARY KEY)")
            await session.execute("INSERT INTO t VALUES (1)")
