"""How fast the door is. Bounds are generous, for a busy machine; `pytest -s` shows the figures."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from component.guard.server import CLIENT, GuardedServer, wait_until
from component.guard.test_door import clients_inside

MakeServer = Callable[[], GuardedServer]

ROUNDS = 20
SESSIONS = 100
REFUSED_WITHIN_SECONDS = 1.0
GONE_WITHIN_SECONDS = 3.0


def test_new_sessions_are_refused_from_the_switch_on(server: GuardedServer) -> None:
    """Target: within 10 ms. No session that begins after the byte gets in, so it is at once."""
    answers_seconds = []
    for _ in range(ROUNDS):
        server.open_door()
        assert server.knock(CLIENT).welcome
        begun = time.monotonic()
        server.shut_door()
        assert server.knock(CLIENT).sqlstate == "57P03"
        answers_seconds.append(time.monotonic() - begun)
    answers_seconds.sort()
    median, worst = answers_seconds[ROUNDS // 2], answers_seconds[-1]
    print(f"switch to refusal: median {median * 1000:.1f} ms, worst {worst * 1000:.1f} ms")
    assert worst < REFUSED_WITHIN_SECONDS


@pytest.mark.parametrize("position", ["idle", "in a transaction"])
def test_a_hundred_sessions_are_gone_soon(make_server: MakeServer, position: str) -> None:
    """Target: within 0.5 s."""
    server = make_server()
    server.start(max_connections="200")
    server.open_door()
    for _ in range(SESSIONS):
        session = server.connect(CLIENT)
        if position != "idle":
            session.execute("BEGIN")
            session.execute("SELECT 1")
    assert len(clients_inside(server)) == SESSIONS
    begun = time.monotonic()
    server.shut_door()
    wait_until("all are gone", lambda: clients_inside(server), lambda seen: not seen)
    took_seconds = time.monotonic() - begun
    print(f"{SESSIONS} sessions {position}: gone after {took_seconds * 1000:.0f} ms")
    assert took_seconds < GONE_WITHIN_SECONDS
