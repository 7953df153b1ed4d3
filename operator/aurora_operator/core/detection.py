"""Who notices that the writer is gone, and who opens the volume then (design, §5).

Each full copy says for itself whether it misses a writer. When three of them say so, the replicas
decide among themselves without a word to each other: all of them read the same standings, rank
them by the same function, and wait for their rank times a short delay. None of this is needed for
safety, which rests on promises alone (rule 2): two that begin together, or one that begins for
nothing, cost a moment and never a commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from aurora_operator.core.copy import CopyView, StreamState, decide_prevote
from aurora_operator.core.lsn import SEGMENT_BYTES, Lsn
from aurora_operator.core.names import InstanceName, Slot
from aurora_operator.core.quorum import QuorumPolicy
from aurora_operator.core.verdicts import Proceed, Refuse, Wait

ABANDONED_SECONDS: Final = 2.0
"""A promised term that had no writer and no live candidate for so long asks for an opening."""

RANK_SECONDS: Final = 0.25
"""What each rank waits for the one before it: an attempt is told to all copies long before."""

ALONE_SECONDS: Final = 1.0
"""After so long without anybody who could open, an ended writer restarts on its own disk."""

_BACKOFF_SECONDS: Final = 0.25
_BACKOFF_SECONDS_MAX: Final = 4.0


@dataclass(frozen=True, slots=True)
class Standing:
    """An instance that could open the volume, as its agent told the copies."""

    name: InstanceName
    healthy: bool
    applied_lsn: Lsn | None


@dataclass(frozen=True, slots=True)
class Sight:
    """What one copy sees: whether it misses a writer, and who stands by."""

    slot: Slot
    misses_writer: bool
    sentence: str
    standings: tuple[Standing, ...] = ()


def misses_writer(
    copy: CopyView, stream: StreamState, *, beat_silent_seconds: float, up_seconds: float
) -> Proceed | Refuse:
    """Whether this copy would have the volume opened anew.

    It must be ready to promise (rule 2). One that follows nobody waits longer than its pre-vote
    does, since a candidate may be between promise and adoption (``beat_silent_seconds`` is how
    long neither writer nor candidate of the promised term was heard). In term 1 nobody ever wrote:
    the first opening is the operator's word (rule 13).
    """
    verdict = decide_prevote(
        copy, stream, beat_silent_seconds=beat_silent_seconds, up_seconds=up_seconds
    )
    if isinstance(verdict, Refuse) or stream is not StreamState.NONE:
        return verdict
    if copy.record is not None and not copy.record.was_opened:
        return Refuse(f"{copy.identity}: the volume was never opened; the operator begins")
    alone_seconds = min(beat_silent_seconds, up_seconds)
    if alone_seconds < ABANDONED_SECONDS:
        return Refuse(f"{copy.identity}: nobody wrote in {copy.promised_term} yet; waiting")
    return Proceed(f"{copy.identity}: term {copy.promised_term} has no writer and no candidate")


def rank(standings: Iterable[Standing]) -> list[Standing]:
    """Best first: healthy, then the furthest applied position, then the name.

    The position never decides what survives; the promises do (rule 3). The order only saves the
    time that catching up would take. Positions are told now and then while the log moves on, so
    those in one segment count as alike: else each replica would see an order of its own.
    """
    return sorted(
        standings, key=lambda s: (not s.healthy, -((s.applied_lsn or 0) // SEGMENT_BYTES), s.name)
    )


def known_standings(sights: Iterable[Sight]) -> tuple[Standing, ...]:
    """All who stand by, each once: what the copies heard last of an instance may differ a little.

    Of several positions the highest counts, so that all who see the same copies rank alike.
    """
    best: dict[InstanceName, Standing] = {}
    for standing in (s for sight in sights for s in sight.standings):
        known = best.get(standing.name)
        if known is None or (known.applied_lsn or 0) < (standing.applied_lsn or 0):
            best[standing.name] = standing
    return tuple(rank(best.values()))


def agree_writer_is_gone(sights: Sequence[Sight], policy: QuorumPolicy) -> Proceed | Wait:
    """Three copies that miss the writer are the sign (H24): with three gone it has no quorum.

    Fewer may have lost touch for themselves, and a writer without them goes on.
    """
    missing = [sight for sight in sights if sight.misses_writer]
    if len(missing) < policy.read_quorum:
        return Wait(f"{len(missing)} of {len(sights)} copies miss the writer")
    return Proceed("; ".join(sight.sentence for sight in missing[: policy.read_quorum]))


def decide_candidacy(
    own: InstanceName,
    sights: Sequence[Sight],
    *,
    agreed_seconds: float,
    backoff_seconds: float,
    policy: QuorumPolicy,
) -> Proceed | Wait:
    """Whether this instance begins an attempt now.

    ``agreed_seconds`` is how long three copies have missed the writer without a break, and
    ``backoff_seconds`` what earlier attempts that were refused cost (``backoff``).
    """
    verdict = agree_writer_is_gone(sights, policy)
    if isinstance(verdict, Wait):
        return verdict
    names = [standing.name for standing in known_standings(sights)]
    if own not in names:
        return Wait(f"{own} is not known to the copies as one that could open")
    turn_seconds = names.index(own) * RANK_SECONDS + backoff_seconds
    if agreed_seconds < turn_seconds:
        return Wait(f"{own} is number {names.index(own) + 1}; its turn comes")
    return Proceed(verdict.sentence)


def decide_lone_restart(
    own: InstanceName, sights: Sequence[Sight], *, alone_seconds: float, policy: QuorumPolicy
) -> Proceed | Wait:
    """Whether an ended writer restarts on its own disk unasked (rule 11): nobody else could open.

    The copies must answer in a number that could open anything, else "nobody" may be a cut.
    """
    others = [s.name for s in known_standings(sights) if s.name != own]
    if others:
        return Wait(f"{others[0]} can open the volume")
    if len(sights) < policy.write_quorum:
        return Wait(f"{len(sights)} copies answer; {policy.write_quorum} are needed to restart")
    if alone_seconds < ALONE_SECONDS:
        return Wait("no other instance stands by yet")
    return Proceed("no other instance could open the volume")


def backoff(refusals: int, chance: float) -> float:
    """Seconds to hold back after so many refused attempts in a row; ``chance`` is in [0, 1).

    It doubles and is random, which breaks ties between candidates that take each other's promises.
    """
    if refusals == 0:
        return 0.0
    doubled = min(_BACKOFF_SECONDS * 2.0 ** min(refusals - 1, 16), _BACKOFF_SECONDS_MAX)
    return doubled * (0.5 + chance)
