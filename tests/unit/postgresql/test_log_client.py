"""What arrives at a client of replication: in whatever pieces, in bounded memory, to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aurora_operator.core.lsn import Term
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.endpoint import STREAM_BUFFER_BYTES
from aurora_operator.engines.postgresql.log_client import LogClient, LogEvent
from support.replication import FakeWriter, at, pattern

PIECE = 100_000


@pytest.fixture
async def writer(sockets: Path) -> AsyncIterator[FakeWriter]:
    made = FakeWriter(sockets)
    await made.listen()
    yield made
    await made.close()


@pytest.fixture
async def client(writer: FakeWriter) -> AsyncIterator[LogClient]:
    async with await LogClient.connect(
        writer.endpoint, tls=None, user="x", application_name="x"
    ) as made:
        await made.identify_system()
        assert await made.start_replication(at(0), Term(2)) is None
        yield made


def log(offset: int, length: int) -> bytes:
    return wire.log_data(at(offset), at(offset + length), pattern(offset, length), 0.0)


def bytes_of(batch: list[LogEvent]) -> bytes:
    return b"".join(event.data for event in batch if isinstance(event, wire.LogData))


async def test_a_message_may_come_in_pieces_and_many_at_once(
    writer: FakeWriter, client: LogClient
) -> None:
    sent = log(0, 30) + log(30, 20)
    writer.send(sent[:40])
    with pytest.raises(TimeoutError):
        await client.next_batch(timeout_seconds=0.02)
    writer.send(sent[40:])
    taken = b""
    while len(taken) < 50:
        taken += bytes_of(await client.next_batch(timeout_seconds=5))
    assert taken == pattern(0, 50)


async def test_what_nobody_takes_stays_with_the_sender(
    writer: FakeWriter, client: LogClient
) -> None:
    piece = log(0, PIECE)
    for _ in range(50):
        writer.send(piece)
    async with asyncio.timeout(5):
        while not client._incoming._paused:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    held = sum(len(message.body) for message in client._messages)
    assert held <= 2 * STREAM_BUFFER_BYTES
    taken = 0
    while taken < 50 * PIECE:
        taken += len(bytes_of(await client.next_batch(timeout_seconds=5)))
    assert taken == 50 * PIECE


async def test_what_came_before_the_end_still_counts(writer: FakeWriter, client: LogClient) -> None:
    writer.send(log(0, 10))
    async with asyncio.timeout(5):
        while not client._messages:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    writer.hang_up()
    async with asyncio.timeout(5):
        while client._incoming._end is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert bytes_of(await client.next_batch(timeout_seconds=5)) == pattern(0, 10)
    with pytest.raises(ConnectionError):
        await client.next_batch(timeout_seconds=5)


async def test_nonsense_ends_the_connection(writer: FakeWriter, client: LogClient) -> None:
    writer.send(b"d\0\0\0\1")
    with pytest.raises(wire.WireError, match="length"):
        await client.next_batch(timeout_seconds=5)


async def test_after_abort_nothing_is_read(writer: FakeWriter, client: LogClient) -> None:
    writer.send(log(0, 10))
    client.abort()
    with pytest.raises(ConnectionError):
        await client.next_batch(timeout_seconds=5)
