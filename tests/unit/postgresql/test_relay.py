"""A relay between clients and gates, without PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aurora_operator.core.lsn import Term
from aurora_operator.core.names import AttemptId
from aurora_operator.engines.postgresql import relay as module
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.endpoint import SocketEndpoint
from aurora_operator.engines.postgresql.gate import GateServer, SessionAsk, SessionVerdict
from aurora_operator.engines.postgresql.log_client import LogClient
from aurora_operator.engines.postgresql.relay import Relay
from support.replication import MemoryCopy, at, history_of, pattern

HISTORY = history_of((1, 0))


class Bench:
    """Three gates that serve differently far, and a relay."""

    def __init__(self, directory: Path) -> None:
        self.endpoints = [SocketEndpoint(directory / f"gate-{n}") for n in range(3)]
        self.asks: list[SessionAsk] = []
        self.verdict = SessionVerdict(granted=True, sentence="a standby")
        self.gates = [self._gate(limit) for limit in (100, 200, 300)]
        self.socket = directory / "relay"
        self.relay = Relay(socket=self.socket, tls=None, gates=lambda: self.endpoints)

    def _gate(self, limit: int) -> GateServer:
        copy = MemoryCopy(HISTORY, 1000)
        copy.limit = at(limit)
        return GateServer(source=copy, judge=self._judge)

    def _judge(self, ask: SessionAsk) -> SessionVerdict:
        self.asks.append(ask)
        return self.verdict

    async def connect(self) -> LogClient:
        return await LogClient.connect(
            SocketEndpoint(self.socket), tls=None, user="standby", application_name="shop-1"
        )

    async def reached(self) -> int:
        """Which gate a session gets to after the one before, told by how far it serves."""
        async with asyncio.timeout(5):
            while self.relay.current_gate is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        async with await self.connect() as client:
            return (await client.identify_system()).end - at(0)


@pytest.fixture
async def bench(sockets: Path) -> AsyncIterator[Bench]:
    made = Bench(sockets)
    for gate, endpoint in zip(made.gates, made.endpoints, strict=True):
        await gate.start(socket_path=endpoint.path)
    await made.relay.start()
    yield made
    await made.relay.close()
    for gate in made.gates:
        await gate.close()


async def test_bytes_pass_both_ways_and_the_gate_sees_who_asks(bench: Bench) -> None:
    async with await bench.connect() as client:
        assert await client.start_replication(at(0), Term(1)) is None
        batch = await client.next_batch(timeout_seconds=5)
        assert isinstance(batch[0], wire.LogData)
        assert batch[0].data == pattern(0, 100)
        client.send_status(at(100), reply_requested=True)
        assert await client.next_batch(timeout_seconds=5) == [
            wire.Keepalive(at(100), reply_requested=False)
        ]
        assert bench.relay.current_gate == bench.endpoints[0]
    assert bench.asks[0].parameters["application_name"] == "shop-1"
    assert "aurora.term" not in bench.asks[0].parameters


async def test_the_next_gate_is_taken_when_one_does_not_answer(bench: Bench) -> None:
    await bench.gates[0].close()
    assert await bench.reached() == 200


async def test_a_session_ends_with_its_gate_and_the_next_one_goes_elsewhere(bench: Bench) -> None:
    async with await bench.connect() as client:
        await client.start_replication(at(100), Term(1))
        await bench.gates[0].close()
        with pytest.raises(ConnectionError):
            await client.next_batch(timeout_seconds=5)
    assert await bench.reached() == 200


async def test_a_gate_that_refuses_is_left_and_its_reason_is_passed_on(bench: Bench) -> None:
    bench.verdict = SessionVerdict(granted=False, sentence="not this one")
    with pytest.raises(wire.ServerError, match="not this one"):
        await bench.connect()
    bench.verdict = SessionVerdict(granted=True, sentence="")
    assert await bench.reached() == 200


async def test_a_gate_that_hangs_is_given_up(
    bench: Bench, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection and says nothing: the standby's own deadline ends it."""
    bench.endpoints[0] = SocketEndpoint(sockets / "mute")

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.transport.abort()

    server = await asyncio.start_unix_server(mute, str(bench.endpoints[0].path))
    with pytest.raises(TimeoutError):
        await LogClient.connect(
            SocketEndpoint(bench.socket),
            tls=None,
            user="x",
            application_name="x",
            timeout_seconds=0.1,
        )
    assert await bench.reached() == 200
    server.close()
    await server.wait_closed()


async def test_a_candidate_goes_to_the_chosen_gate_and_says_who_it_is(bench: Bench) -> None:
    async with await bench.connect() as client:
        await client.start_replication(at(100), Term(1))
        bench.relay.set_uncapped(Term(7), AttemptId("abc"), bench.endpoints[2])
        with pytest.raises(ConnectionError):
            await client.next_batch(timeout_seconds=5)
    for _ in range(2):
        assert await bench.reached() == 300
        assert bench.asks[-1].parameters["aurora.term"] == "7"
        assert bench.asks[-1].parameters["aurora.attempt"] == "abc"
    bench.relay.set_capped()
    assert await bench.reached() != 0
    assert "aurora.term" not in bench.asks[-1].parameters


async def test_going_back_to_capped_drops_the_uncapped_session(bench: Bench) -> None:
    bench.relay.set_uncapped(Term(7), AttemptId("abc"), bench.endpoints[2])
    async with await bench.connect() as client:
        await client.start_replication(at(300), Term(1))
        bench.relay.set_capped()
        with pytest.raises(ConnectionError):
            await client.next_batch(timeout_seconds=5)


async def test_saying_the_same_again_drops_nothing(bench: Bench) -> None:
    async with await bench.connect() as client:
        bench.relay.set_capped()
        assert (await client.identify_system()).end == at(100)


async def test_with_no_gate_a_session_is_closed_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.1)
    for gate in bench.gates:
        await gate.close()
    with pytest.raises(ConnectionError):
        await bench.connect()
    assert bench.relay.current_gate is None
