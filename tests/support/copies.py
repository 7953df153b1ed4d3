"""Builders for copies: a table of states reads as what differs, not as what is alike.

Positions are small numbers here, counted from the start of the log: ``at(100)`` is byte 100.
"""

from __future__ import annotations

from collections.abc import Sequence

from aurora_operator.core.copy import CopyRecord, CopyState, CopyView, Promise, Vdl
from aurora_operator.core.history import TermHistory, TermStart
from aurora_operator.core.lsn import LOG_START, Lsn, Term
from aurora_operator.core.members import MemberList, MemberVersion
from aurora_operator.core.names import AttemptId, Identity, Slot, VolumeId

IDENTITIES = tuple(Identity(f"s{slot}_disk") for slot in range(6))
STRANGER = Identity("s0_other")


def at(offset: int) -> Lsn:
    """A position, counted from the start of the log."""
    return LOG_START.advanced(offset)


def history(*entries: tuple[int, int]) -> TermHistory:
    """``history((1, 0), (2, 50))``: term 1 from the start, term 2 from byte 50 on."""
    return TermHistory(tuple(TermStart(Term(term), at(begin)) for term, begin in entries))


def promise(term: int, attempt: str | None = None) -> Promise:
    """A promise, by default to the only attempt of its term."""
    return Promise(Term(term), AttemptId(attempt or f"attempt-{term}"))


def members(term: int = 1, number: int = 0, names: Sequence[Identity] = IDENTITIES) -> MemberList:
    """A member list."""
    return MemberList(MemberVersion(Term(term), number), tuple(names))


def vdl(term: int, offset: int) -> Vdl:
    """A volume durable position."""
    return Vdl(Term(term), at(offset))


def record(
    slot: int = 0,
    *,
    promised: Promise | int = 1,
    terms: TermHistory | None = None,
    first_record_end: int = 1,
    listed: MemberList | None = None,
    known: Vdl | None = None,
    floor: int = 0,
    identity: Identity | None = None,
    volume: str = "volume",
    system: str = "7000000000000000001",
) -> CopyRecord:
    """What a copy keeps beside its log."""
    return CopyRecord(
        volume_id=VolumeId(volume),
        identity=identity or IDENTITIES[slot],
        slot=Slot(slot),
        system_identifier=system,
        promise=promised if isinstance(promised, Promise) else promise(promised),
        history=terms or history((1, 0)),
        first_record_end=at(first_record_end),
        members=listed or members(),
        known_vdl=known,
        scl_floor=at(floor),
    )


def full(
    slot: int = 0,
    *,
    scl: int = 100,
    log_start: int = 0,
    streaming: int | None = None,
    promised: Promise | int = 1,
    terms: TermHistory | None = None,
    first_record_end: int = 1,
    listed: MemberList | None = None,
    known: Vdl | None = None,
    identity: Identity | None = None,
    volume: str = "volume",
    system: str = "7000000000000000001",
) -> CopyView:
    """A full copy."""
    kept = record(
        slot,
        promised=promised,
        terms=terms,
        first_record_end=first_record_end,
        listed=listed,
        known=known,
        identity=identity,
        volume=volume,
        system=system,
    )
    return CopyView(
        identity=kept.identity,
        slot=kept.slot,
        state=CopyState.FULL,
        record=kept,
        scl=at(scl),
        log_start=at(log_start),
        streaming_term=None if streaming is None else Term(streaming),
    )


def without_say(state: CopyState, slot: int = 0) -> CopyView:
    """A copy that is not full."""
    return CopyView(IDENTITIES[slot], Slot(slot), state)
