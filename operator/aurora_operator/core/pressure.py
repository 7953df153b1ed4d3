"""When a copy cannot keep up: what it says of itself, and who gives way.

A copy under pressure is as right as any other; it is only late, or short of room. It goes on
acknowledging what it holds, never more, and the other five do not wait for it. What it owes is to
say so: how much room is left, how far behind it is, and whether it will come back by itself.

Pages give way to log. The log is the database and pages are made from it, so the last part of the
disk, the reserve, is not for pages: below it the page store stands still.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aurora_operator.core.copy import CopyState, CopyView
from aurora_operator.core.lsn import Lsn
from aurora_operator.core.quorum import AURORA_QUORUM

RESERVE_BYTES_MIN: Final = 1024**3
SLOW_SECONDS: Final = 3.0
"""A copy that lacks for so long what others serve already is called slow."""


class Pressure(StrEnum):
    """What keeps a copy from doing its part, the worst first."""

    LEFT_BEHIND = "left-behind"
    """The log that it needs next is kept nowhere any more: it has to be filled anew."""
    NO_ROOM = "no-room"
    """Its disk refuses log: it acknowledges nothing new, and goes on by itself with more room."""
    SLOW = "slow"
    """It takes log, but stays behind what four others hold."""
    LOW_SPACE = "low-space"
    """Only the log's reserve is free: it takes log, and large pages stand still."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class PressureFacts:
    """What a full copy knows of its own state."""

    free_bytes: int
    total_bytes: int
    behind_bytes: int = 0
    """Durable on four copies and not here."""
    behind_seconds: float = 0.0
    long_sync_seconds: float = 0.0
    """What each of the last fsyncs took at least, if all were long."""
    refusal: str | None = None
    """Why a write was refused a moment ago, if one was."""
    left_behind: bool = False


@dataclass(frozen=True, slots=True)
class PressureVerdict:
    """A state and the sentence for people; empty while all is well."""

    state: Pressure
    sentence: str


def reserve_bytes(total_bytes: int) -> int:
    """What pages leave free for the log: 1 GiB or a tenth, but of a small disk only a quarter."""
    return min(max(RESERVE_BYTES_MIN, total_bytes // 10), total_bytes // 4)


def log_bound_bytes(total_bytes: int) -> int:
    """How much log is kept for those who lag: a quarter of the disk."""
    return total_bytes // 4


def is_low_on_space(free_bytes: int, total_bytes: int) -> bool:
    """Whether the log's reserve is being used up."""
    return free_bytes < reserve_bytes(total_bytes)


def may_run_page_store(
    free_bytes: int, total_bytes: int, transient_bytes: int, *, runs: bool
) -> bool:
    """Pages may take room down to the reserve; a page store that stands waits for a quarter more.

    The distance keeps it from being started and stopped in turn. ``transient_bytes`` are log, the
    copy's and what the page store keeps of it, which goes as the page store gets on: it is no
    reason to stop it, as that would keep the log for ever. So pages stand only when they themselves
    take more than the reserve and the log's bound leave to them.
    """
    reserve = reserve_bytes(total_bytes)
    pages_bytes = total_bytes - free_bytes - transient_bytes
    if pages_bytes <= total_bytes - reserve - log_bound_bytes(total_bytes):
        return True
    return free_bytes >= (reserve if runs else reserve + reserve // 4)


def judge_pressure(facts: PressureFacts) -> PressureVerdict:
    """The worst that is true of the copy, in one sentence with what it means and what to do."""
    lag = f"{facts.behind_bytes} bytes and {facts.behind_seconds:.1f} s behind the others"
    free = f"{facts.free_bytes} of {facts.total_bytes} bytes are free"
    if facts.left_behind:
        return PressureVerdict(
            Pressure.LEFT_BEHIND,
            f"left behind, {facts.behind_bytes} bytes: the log it needs next is kept nowhere. It"
            " counts for nothing new until it is filled anew; nothing acknowledged is lost",
        )
    if facts.refusal is not None:
        return PressureVerdict(
            Pressure.NO_ROOM,
            f"no room for log ({free}), {lag}: {facts.refusal}. Raise storage.size",
        )
    took = facts.long_sync_seconds
    if took or facts.behind_seconds >= SLOW_SECONDS:
        fsync = f", and its disk takes {took:.1f} s over an fsync" if took else ""
        return PressureVerdict(
            Pressure.SLOW,
            f"slow: {lag}{fsync}. The volume does not wait for it as long as four others are"
            " prompt; look at its disk and its node",
        )
    if is_low_on_space(facts.free_bytes, facts.total_bytes):
        return PressureVerdict(
            Pressure.LOW_SPACE,
            f"low on space: {free}, which is the log's reserve of"
            f" {reserve_bytes(facts.total_bytes)}. It takes log; a page store that needs this room"
            " stands still, and no instance can start from it. Raise storage.size",
        )
    return PressureVerdict(Pressure.NONE, "")


def is_left_behind(own: CopyView, scl_before: Lsn | None, peers: Iterable[CopyView]) -> bool:
    """Whether nobody can give this copy the log that it needs next.

    It did not move since the last look, so its writer gives it nothing either, and a write quorum
    of peers begins above it. With fewer answers one of the silent may have it.
    """
    if own.state is not CopyState.FULL or own.scl is None or own.scl != scl_before:
        return False
    starts = [
        peer.log_start
        for peer in peers
        if peer.state is CopyState.FULL and peer.log_start is not None
    ]
    return len(starts) >= AURORA_QUORUM.write_quorum and min(starts) > own.scl
