"""A writer that is cut off lets nobody read what may be old (rule 12).

What is heard of the members is judged in ``core.isolation``; here the stamp is renewed with every
answer, and the door shut and opened again as the verdict changes. A writer that was only cut off is
still the writer of its term: when three members answer again, and none of that has changed, clients
may come back. Until the door is shut, and also while this process stands still, it is the guard
that holds statements, by the stamp's age.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from aurora_operator.agent.instance.following import Following
from aurora_operator.agent.instance.machine import Machine
from aurora_operator.core.isolation import (
    Hold,
    Serve,
    Shut,
    StandDown,
    Verdict,
    judge_isolation,
    stamp_of,
)
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.telemetry import metrics

log = structlog.get_logger()

_PERIOD_SECONDS: Final = 0.05
_PAUSE_NS: Final = 250_000_000
"""When nothing was looked at for so long, this process stood still."""


def let_clients_in(following: Following, machine: Machine) -> None:
    """Open the writer's door. It begins with a stamp, so that no statement is ever unwatched."""
    machine.renew_stamp(stamp_of(following.heard(), AURORA_QUORUM))
    machine.open_door()


async def watch_over_clients(following: Following, machine: Machine) -> None:
    """Keep stamp and door of the open writer as its members answer, until cancelled."""
    watch = _Watch(following, machine)
    following.on_heard = watch.look
    try:
        while True:
            await asyncio.sleep(_PERIOD_SECONDS)
            # Opened only here: once this task is cancelled, nothing opens the door again.
            verdict = watch.look()
            may_open = isinstance(verdict, Serve) and following.successor is None
            if may_open and not machine.door.is_open:
                log.info("clients may come back", sentence=verdict.sentence)
                let_clients_in(following, machine)
    finally:
        following.on_heard = None


class _Watch:
    """When this process last came out of a pause, as far as can be told from inside."""

    def __init__(self, following: Following, machine: Machine) -> None:
        self._following = following
        self._machine = machine
        self._awake_since_ns = self._looked_at_ns = _now_ns()

    def look(self) -> Verdict:
        """Judge, renew the stamp, or shut the door. Called for every answer, so it is quick."""
        now_ns = _now_ns()
        if now_ns - self._looked_at_ns > _PAUSE_NS:
            self._awake_since_ns = now_ns
        self._looked_at_ns = now_ns
        verdict = judge_isolation(
            self._following.promise.term,
            self._following.heard(),
            now_ns=now_ns,
            awake_since_ns=self._awake_since_ns,
            policy=AURORA_QUORUM,
        )
        match verdict:
            case Serve() | Hold():
                self._machine.renew_stamp(verdict.stamp_ns)
            case Shut():
                self._shut("cut_off", verdict.sentence)
            case StandDown():
                self._shut("superseded", verdict.sentence)
        return verdict

    def _shut(self, reason: str, sentence: str) -> None:
        if not self._machine.door.is_open:
            return
        self._machine.shut_door()
        metrics.STAND_DOWNS.labels(reason=reason).inc()
        log.error(
            "sessions are ended, and new ones refused",
            reason=reason,
            term=self._following.promise.term,
            sentence=sentence,
        )


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
