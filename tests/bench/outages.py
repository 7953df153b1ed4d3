"""What the log of a probing client says of a failover: how long nobody wrote, and who did.

Pure: histories in, figures out. An outage is the time from the last write that was acknowledged
before it to the first acknowledged after it, as the client saw both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from bench.ratios import percentile
from support.checker import Attempt, History


@dataclass(frozen=True)
class Round:
    """One strike: what the probing client and the client with a session saw."""

    fault: str
    outage_ms: float
    session_ms: float
    """The same for a client that had one session open, and gives up an answer after 3 s."""
    acked: int
    lost: int
    doubled: int
    vanished: int
    two_writers: int


def outage_ms(history: History, moment: float) -> float:
    """The longest pause between acknowledgements from the last one before ``moment`` on."""
    ends = [attempt.end_seconds for attempt in history.acked]
    before = [end for end in ends if end <= moment]
    after = [end for end in ends if end > moment]
    if not before or not after:
        raise ValueError("no write was acknowledged before the strike, or none after it")
    pauses = [later - earlier for earlier, later in pairwise([before[-1], *after])]
    return 1000 * max(pauses)


def two_writers(history: History) -> int:
    """Writes that a server acknowledged although they began after its successor's first one."""
    first_ack: dict[str | None, Attempt] = {}
    for attempt in history.acked:
        first_ack.setdefault(attempt.server, attempt)
    order = sorted(first_ack.values(), key=lambda attempt: attempt.end_seconds)
    successors = {a.server: b.end_seconds for a, b in pairwise(order)}
    return sum(
        attempt.begin_seconds > successors[attempt.server]
        for attempt in history.acked
        if attempt.server in successors
    )


def summary(rounds: Iterable[Round]) -> dict[str, object]:
    """One line of the result file for the rounds of one fault."""
    done = list(rounds)
    outages = [r.outage_ms for r in done]
    sessions = [r.session_ms for r in done]
    return {
        "fault": done[0].fault,
        "n": len(done),
        "p50_ms": round(percentile(outages, 0.5)),
        "p95_ms": round(percentile(outages, 0.95)),
        "max_ms": round(max(outages)),
        "session_p50_ms": round(percentile(sessions, 0.5)),
        "session_max_ms": round(max(sessions)),
        "acked": sum(r.acked for r in done),
        "lost": sum(r.lost for r in done),
        "doubled": sum(r.doubled for r in done),
        "vanished": sum(r.vanished for r in done),
        "two_writers": sum(r.two_writers for r in done),
    }
