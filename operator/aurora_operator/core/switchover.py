"""A planned change of the writer: the writer helps, so that the outage is as short as it can be.

Nothing of the protocol changes for it. The target opens the volume as every candidate does
(pre-vote, promises, choose, catch up, adopt, open); the writer's part is to have its sessions and
its log at an end before, and then to consent: only the pre-vote hears that, and only for the
target (rule 2). A consent is kept nowhere and binds nobody; were it given by mistake, the worst
would be a failover. So none of I1 to I6 rests on this module.

The states follow each other in the order below. The shell does what a state is for when it enters
it, looks at the facts again and again, and asks ``next_state``; each state has a limit, so a
switchover ends. Cut anywhere, it leaves a writer that is the writer of its term or is superseded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aurora_operator.core.lsn import Lsn
from aurora_operator.core.names import InstanceName
from aurora_operator.core.quorum import QuorumPolicy
from aurora_operator.core.verdicts import Proceed, Refuse

DRAIN_SECONDS: Final = 1.0
"""What running transactions get to finish."""
END_SECONDS: Final = 2.0
"""In this time every session is gone, or one hangs."""
SETTLE_SECONDS: Final = 1.0
"""In this time four copies hold all of the log, or they cannot."""
CONSENT_SECONDS: Final = 5.0
"""In this time the target holds three promises, or the writer goes on."""
TARGET_SILENT_SECONDS: Final = 1.0
"""A target whose agent is silent for so long, or that gave up, is waited for no longer."""
LAG_BYTES_MAX: Final = 64 << 20
"""A target that is further behind would make clients wait while it replays."""
STRANDED_HOLD_SECONDS: Final = 60.0
"""So long a writer has to be open before it asks for a switchover by itself."""


class SwitchoverState(StrEnum):
    """Where a switchover is."""

    DRAINING = "draining"
    """New sessions are refused, idle ones ended; transactions that run may finish."""
    ENDING = "ending"
    """Every session is ended."""
    SETTLING = "settling"
    """Four copies take the end of the log."""
    CONSENTING = "consenting"
    """The copies may promise to the target, and it was asked to open."""
    HANDED_OVER = "handed over"
    """Three members promised higher: this writer stands down."""
    WITHDRAWN = "withdrawn"
    """The consent, if it was given, is taken back: the writer of the term goes on."""


LIMITS_SECONDS: Final = {
    SwitchoverState.DRAINING: DRAIN_SECONDS,
    SwitchoverState.ENDING: END_SECONDS,
    SwitchoverState.SETTLING: SETTLE_SECONDS,
    SwitchoverState.CONSENTING: CONSENT_SECONDS,
}
SWITCHOVER_SECONDS_MAX: Final = sum(LIMITS_SECONDS.values())
"""No switchover keeps clients out longer than this."""


@dataclass(frozen=True, slots=True)
class SwitchoverFacts:
    """What the writer's agent sees while it hands over."""

    superseded: bool = False
    """Three members promised higher (rule 12)."""
    sessions: int | None = None
    """Client sessions that are left; ``None`` while that is not known."""
    log_end: Lsn | None = None
    """The writer's flushed position when its last session was gone."""
    vdl: Lsn | None = None
    target_lost: str = ""
    """Why the target will not open, as far as the writer can see; empty while it may."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The switchover is in this state now."""

    state: SwitchoverState
    sentence: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Another instance, as its agent answered the writer."""

    name: InstanceName
    healthy: bool
    can_open: bool
    opening: bool
    applied_lsn: Lsn | None


def choose_target(
    peers: Sequence[Peer], vdl: Lsn | None, copies_heard: int, policy: QuorumPolicy
) -> Peer | Refuse:
    """Who takes over, if a switchover makes sense at all.

    One that is opening already was asked by somebody else, and two targets would be in each
    other's way. Otherwise the best: the furthest applied position, then the name.
    """
    if copies_heard < policy.write_quorum:
        return Refuse(
            f"{copies_heard} copies answer, and {policy.write_quorum} must promise to the next"
            " writer"
        )
    if not peers:
        return Refuse("there is no other instance that answers")
    able = [p for p in peers if p.opening or (p.healthy and p.can_open)]
    if not able:
        return Refuse(f"{', '.join(p.name for p in peers)} cannot take over at the moment")
    close = [p for p in able if (p.applied_lsn or 0) + LAG_BYTES_MAX >= (vdl or 0)]
    if not close:
        return Refuse(
            f"{', '.join(p.name for p in able)} is more than {LAG_BYTES_MAX >> 20} MiB behind and"
            " has to catch up first"
        )
    return min(close, key=lambda p: (not p.opening, -(p.applied_lsn or 0), p.name))


def next_state(
    state: SwitchoverState, facts: SwitchoverFacts, state_seconds: float
) -> Moved | None:
    """Where the switchover goes from ``state``, in which it has been so long; ``None``: it stays.

    Three higher promises end it in every state: the writer is superseded, whoever did it. So does
    a target that is lost, unless it managed that before.
    """
    if state in (SwitchoverState.HANDED_OVER, SwitchoverState.WITHDRAWN):
        return None
    if facts.superseded:
        return Moved(SwitchoverState.HANDED_OVER, "three members promised a higher term")
    if facts.target_lost:
        return Moved(SwitchoverState.WITHDRAWN, facts.target_lost)
    late = state_seconds >= LIMITS_SECONDS[state]
    match state:
        case SwitchoverState.DRAINING | SwitchoverState.ENDING:
            return _without_sessions(state, facts, late=late)
        case SwitchoverState.SETTLING:
            return _durable(facts, late=late)
        case _:
            return _opened(late=late)


def _without_sessions(
    state: SwitchoverState, facts: SwitchoverFacts, *, late: bool
) -> Moved | None:
    if facts.sessions == 0:
        return Moved(SwitchoverState.SETTLING, "no client session is left")
    if not late:
        return None
    if state is SwitchoverState.DRAINING:
        return Moved(SwitchoverState.ENDING, f"{facts.sessions} sessions still work: all are ended")
    return Moved(
        SwitchoverState.WITHDRAWN,
        f"{facts.sessions} sessions did not end within {END_SECONDS:.0f} s; a commit that waits"
        " for a fourth copy cannot be ended",
    )


def _durable(facts: SwitchoverFacts, *, late: bool) -> Moved | None:
    if facts.log_end is not None and facts.vdl is not None and facts.vdl >= facts.log_end:
        return Moved(SwitchoverState.CONSENTING, f"four copies hold the log up to {facts.log_end}")
    if not late:
        return None
    return Moved(
        SwitchoverState.WITHDRAWN,
        f"four copies hold the log up to {facts.vdl} and not to its end {facts.log_end}",
    )


def _opened(*, late: bool) -> Moved | None:
    if late:
        return Moved(
            SwitchoverState.WITHDRAWN,
            f"the target has not opened the volume within {CONSENT_SECONDS:.0f} s",
        )
    return None


def may_take_in_stranded(*, open_seconds: float, asked: bool) -> Proceed | Refuse:
    """Whether a writer that sees stranded copies hands over for their sake (design, §5).

    Once a term and not before it has been open for a while, so that writers cannot hand over to
    each other again and again.
    """
    if asked:
        return Refuse("this term's writer asked for it once")
    if open_seconds < STRANDED_HOLD_SECONDS:
        return Refuse(f"it has been open for {open_seconds:.0f} s only")
    return Proceed("copies that only a new term can take in")
