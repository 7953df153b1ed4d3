"""What a gate may serve, and to whom.

A gate hands the log to standbys. What it serves can never be taken back, so it stops at the
volume durable position (I2): that is what makes pg_rewind unnecessary for replicas and copies.
Two kinds of session get more: the candidate to whom this copy promised, which has its door shut,
and a blank copy being filled at the volume's birth.
"""

from __future__ import annotations

from dataclasses import dataclass

from aurora_operator.core.copy import CopyState, CopyView, Promise, Vdl
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import FORMAT_TERM, Lsn, Term
from aurora_operator.core.names import Identity
from aurora_operator.core.verdicts import Proceed, Refuse


@dataclass(frozen=True, slots=True)
class ServePoint:
    """Serve the log below ``limit`` and announce ``term`` as the latest there is."""

    limit: Lsn
    term: Term


def serve_point(history: TermHistory, scl: Lsn, known_vdl: Vdl | None) -> ServePoint | None:
    """Rule 7: how far an ordinary session may read; ``None``: nothing yet, let it wait (I2).

    A VDL speaks of its term's log, and a term has one writer (I3): what the own log has up to the
    last byte below the VDL that this term wrote is that very log, and durable. Log of later terms
    behind it changes nothing (H19): it is not served, and does not hide what is. The announced
    term is that of the served prefix, strictly below its end (T4): a standby that adopts a term
    which then dies would never find back.
    """
    if known_vdl is None:
        return None
    later = (entry.begin for entry in history.entries if entry.term > known_vdl.term)
    limit = min(known_vdl.lsn, scl, *later)
    if history.last_term_before(limit) != known_vdl.term:
        return None
    return ServePoint(limit, known_vdl.term)


def is_ahead(other: ServePoint, own: ServePoint | None) -> bool:
    """Whether ``other`` shows more than ``own``: a later term, or more of the same one."""
    return own is None or (other.term, other.limit) > (own.term, own.limit)


def candidate_serve_point(history: TermHistory, scl: Lsn) -> ServePoint | None:
    """Rule 4: an uncapped session reads all that is durable here."""
    term = history.last_term_before(scl)
    return None if term is None else ServePoint(scl, term)


def judge_uncapped(copy: CopyView, claimed: Promise) -> Proceed | Refuse:
    """Rule 4: uncapped is only the attempt that holds this copy's promise, right now."""
    if copy.state is not CopyState.FULL or copy.record is None:
        return Refuse(f"{copy.identity} is {copy.state} and serves nobody")
    if copy.record.promise != claimed:
        return Refuse(f"{copy.identity} promised {copy.record.promise}, not {claimed}")
    return Proceed(f"{copy.identity} serves all of its log to the candidate of {claimed}")


def judge_fill_session(
    copy: CopyView, identity: Identity, claimed: Promise | None = None
) -> Proceed | Refuse:
    """Rules 10 and 13: who fills a blank disk with all that this copy has.

    At birth, while nothing above term 1 was promised; and when three are left, for the attempt
    ``claimed`` that holds this copy's promise, and whose list names the new copy. Every other copy
    is filled up to the volume durable position, as everybody reads.
    """
    if claimed is not None:
        uncapped = judge_uncapped(copy, claimed)
        if isinstance(uncapped, Proceed) and copy.record is not None:
            if identity in copy.record.members and identity != copy.identity:
                return Proceed(f"{copy.identity} fills {identity} for {claimed}")
            return Refuse(f"{identity} is not on the list of {copy.identity}")
        return uncapped
    if copy.state is not CopyState.FULL or copy.record is None:
        return Refuse(f"{copy.identity} is {copy.state} and cannot fill another copy")
    if copy.record.promise.term > FORMAT_TERM:
        return Refuse(f"{copy.identity} promised {copy.record.promise}; the birth is over")
    if identity not in copy.record.members or identity == copy.identity:
        return Refuse(f"{identity} is no other member of this volume")
    return Proceed(f"{copy.identity} fills {identity}")
