"""The volume durable position: how far the volume can no longer forget.

A copy counts for term T only while its promise is exactly T, its last byte is of T and it holds
the whole first record of T (rule 6). Each part is needed: a copy that promised higher may be
chosen against, and bytes of an older term on four copies can still lose to a candidate that never
saw them (H4). Facts about a copy in its term stay true, so stale messages do no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aurora_operator.core.copy import (
    CopyRecord,
    CopyState,
    CopyView,
    Position,
    Vdl,
    position_of,
)
from aurora_operator.core.gate import ServePoint, serve_point
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.members import MemberList, highest
from aurora_operator.core.quorum import QuorumPolicy, volume_durable_lsn


def counts_for(position: Position, term: Term, first_record_end: Lsn, members: MemberList) -> bool:
    """Rule 6: whether a copy counts for the VDL of ``term`` (I2, I4, I5)."""
    return (
        position.identity in members
        and position.promised_term == term
        and position.log_term == term
        and position.scl is not None
        and position.scl >= first_record_end
    )


def durable_point(
    term: Term,
    first_record_end: Lsn,
    positions: Iterable[Position],
    members: MemberList,
    policy: QuorumPolicy,
) -> Lsn | None:
    """Rule 6: the VDL of ``term``; none until a write quorum holds its whole first record.

    A copy that appears twice counts once, with its lower position (H2).
    """
    scl_by_identity: dict[str, Lsn] = {}
    for position in positions:
        if counts_for(position, term, first_record_end, members) and position.scl is not None:
            known = scl_by_identity.get(position.identity, position.scl)
            scl_by_identity[position.identity] = min(known, position.scl)
    return volume_durable_lsn(scl_by_identity.values(), policy)


def merge_known(known: Vdl | None, heard: Vdl, own_log_term: Term | None) -> Vdl | None:
    """Rule 7: what a copy knows after hearing ``heard`` (T5, H19).

    A VDL of the term of the own last byte is taken, and more of the term that is known already;
    one of any other term is ignored, and numbers of different terms are never compared. Within a
    term the VDL does not go back.
    """
    if known is not None and known.term == heard.term:
        return max(known, heard, key=lambda vdl: vdl.lsn)
    return heard if heard.term == own_log_term else known


def implied_vdl(own: CopyView, peers: Iterable[CopyView], policy: QuorumPolicy) -> Vdl | None:
    """Rule 7, while the hub is silent: what the copies' answers add to what the own copy knows.

    That is what a peer knows, and what their positions imply for the own term: a VDL once true
    stays true, also when its copies promised on and count no more. The term, and the end of its
    first record, are those that the own copy adopted; members are those of the highest list that
    any full copy shows. ``None``: nothing new.
    """
    if own.state is not CopyState.FULL or own.record is None:
        return None
    full = [copy for copy in (own, *peers) if copy.state is CopyState.FULL]
    members = highest(copy.record.members for copy in full if copy.record is not None)
    told = [copy.record.known_vdl for copy in full if copy.record and copy.identity in members]
    best = known = own.record.known_vdl
    for vdl in (_counted(own.record, full, members, policy), *told):
        if vdl is not None:
            best = merge_known(best, vdl, own.log_term)
    return None if best == known else best


def served(copies: Iterable[CopyView]) -> Iterator[ServePoint]:
    """What the gates of these copies serve."""
    for copy in copies:
        if copy.state is CopyState.FULL and copy.record is not None and copy.scl is not None:
            point = serve_point(copy.record.history, copy.scl, copy.record.known_vdl)
            if point is not None:
                yield point


def _counted(
    record: CopyRecord, copies: Iterable[CopyView], members: MemberList, policy: QuorumPolicy
) -> Vdl | None:
    """The VDL of the adopted term by the copies' positions, as the hub would count it."""
    term = record.history.last.term
    positions = [position_of(copy) for copy in copies]
    lsn = durable_point(term, record.first_record_end, positions, members, policy)
    return None if lsn is None else Vdl(term, lsn)
