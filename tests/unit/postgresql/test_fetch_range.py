"""Taking one range of log from a peer's gate: those bytes, of just those terms, or nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aurora_operator.core.history import TermHistory
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.endpoint import SocketEndpoint
from aurora_operator.engines.postgresql.gate import GateServer, SessionVerdict
from aurora_operator.engines.postgresql.log_fetch import fetch_range
from support.replication import SYSTEM, MemoryCopy, at, history_of, pattern

HISTORY = history_of((1, 0), (2, 1000), (5, 3000))


class Peer:
    """A gate on a socket, and the copy behind it."""

    def __init__(self, directory: Path) -> None:
        self.copy = MemoryCopy(HISTORY, 5000)
        self.copy.limit = at(5000)
        self.gate = GateServer(
            source=self.copy, judge=lambda _ask: SessionVerdict(granted=True, sentence="a peer")
        )
        self.endpoint = SocketEndpoint(directory / "gate")

    async def fetch(
        self, begin: int, end: int, history: TermHistory = HISTORY, system: str = SYSTEM
    ) -> bytes:
        return await fetch_range(
            self.endpoint,
            begin=at(begin),
            end=at(end),
            history=history,
            system_identifier=system,
            tls=None,
            application_name="s0",
            silence_seconds=0.2,
        )


@pytest.fixture
async def peer(sockets: Path) -> AsyncIterator[Peer]:
    made = Peer(sockets)
    await made.gate.start(socket_path=made.endpoint.path)
    yield made
    await made.gate.close()


@pytest.mark.parametrize(
    ("begin", "end"),
    [(1100, 1200), (0, 1000), (900, 1000), (1000, 1001), (500, 4000), (2999, 3001), (3000, 5000)],
)
async def test_a_range_comes_as_it_is_over_the_ends_of_terms(
    peer: Peer, begin: int, end: int
) -> None:
    assert await peer.fetch(begin, end) == pattern(begin, end - begin)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param(history_of((1, 0), (2, 1000), (5, 2900)), id="term-began-earlier-here"),
        pytest.param(history_of((1, 0), (2, 1000), (6, 3000)), id="another-term"),
        pytest.param(history_of((1, 0), (2, 1000)), id="term-went-on-here"),
        pytest.param(history_of((1, 0), (3, 1000), (5, 3000)), id="a-term-it-never-had"),
    ],
)
async def test_rule_5_bytes_of_other_terms_are_not_taken(peer: Peer, history: TermHistory) -> None:
    with pytest.raises((wire.WireError, wire.ServerError)):
        await peer.fetch(1500, 3500, history)


async def test_i2_what_the_gate_does_not_serve_yet_is_not_waited_for(peer: Peer) -> None:
    peer.copy.limit = at(3400)
    with pytest.raises(TimeoutError):
        await peer.fetch(3300, 3500)


async def test_another_system_gives_nothing(peer: Peer) -> None:
    with pytest.raises(wire.WireError, match="nothing was taken"):
        await peer.fetch(0, 10, system="1")
