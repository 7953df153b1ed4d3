"""What an instance may do with the data directory it finds (rule 11).

The directory is a cache, written without fsync. An instance that took part in an attempt to open
may hold bytes that lost, and an instance whose machine restarted may hold pages that never were.
The mark, written before the first such byte, tells these cases apart; the only directory worth
keeping is that of a writer that had opened and whose machine and pod are still the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aurora_operator.core.copy import CopyState, CopyView, Promise
from aurora_operator.core.members import MemberList
from aurora_operator.core.quorum import QuorumPolicy
from aurora_operator.core.verdicts import Proceed, Wait, Wipe


@dataclass(frozen=True, slots=True)
class Mark:
    """Durable beside the data: an attempt to open was begun here, and whether it opened."""

    promise: Promise
    pod_uid: str
    boot_id: str
    opened: bool


@dataclass(frozen=True, slots=True)
class Fresh:
    """Nothing is there: fetch a base."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """An opened writer's data is there, unharmed; it stays shut until somebody decides."""

    promise: Promise
    sentence: str


def judge_start(
    mark: Mark | None, *, data_present: bool, pod_uid: str, boot_id: str
) -> Fresh | Wipe | Stopped:
    """Rule 11: what to do with the directory when an agent starts, or when its server ended.

    An attempt that never opened is always wiped: its log may have lost (H12), and promoting it
    again could make another timeline than its term (H18). So is a cache that may have lost pages
    with its machine, and a replica's, which costs only a new base.
    """
    if mark is None:
        if not data_present:
            return Fresh("no data is here: a base is fetched from a page store")
        return Wipe("a cache of unknown fate is here: it is thrown away for a fresh base")
    if not mark.opened:
        return Wipe(f"the attempt at {mark.promise} never opened; its log may have lost")
    if not data_present:
        return Wipe(f"the writer of {mark.promise} lost its data directory")
    if mark.pod_uid != pod_uid:
        return Wipe(f"the writer of {mark.promise} was another pod ({mark.pod_uid})")
    if mark.boot_id != boot_id:
        return Wipe(f"the machine restarted under the writer of {mark.promise}")
    return Stopped(mark.promise, f"the writer of {mark.promise} ended; its data is unharmed")


def judge_restart(
    mark: Mark, copies: Iterable[CopyView], members: MemberList, policy: QuorumPolicy
) -> Proceed | Wait | Wipe:
    """Rule 11: whether the ended writer may start on its own disk (I3).

    One higher promise among the members is enough to wipe: a new term is on its way. A start
    without a write quorum of own promises could never open, so it waits instead.
    """
    by_identity = {c.identity: c for c in copies if c.identity in members}
    promises = {
        identity: copy.record.promise
        for identity, copy in by_identity.items()
        if copy.record is not None and copy.state is CopyState.FULL
    }
    for identity, promise in promises.items():
        if promise.term > mark.promise.term:
            return Wipe(f"{identity} promised {promise}; {mark.promise} is over")
    own = sum(promise == mark.promise for promise in promises.values())
    if own < policy.write_quorum:
        return Wait(f"{own} of {policy.write_quorum} copies answer with {mark.promise}")
    return Proceed(f"{own} copies still belong to {mark.promise}")
