"""The birth of a volume: formatted once in a cluster's life, never again (rule 13).

A volume that lost its copies must never be replaced by an empty one that looks alike. So volume
id and identities are recorded by compare-and-swap first, all six copies must answer that they are
blank, and once the system identifier stands in the record nothing formats any more: from then on
a copy is filled from another one, or the volume waits for a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aurora_operator.core.copy import CopyRecord, CopyState, CopyView, Promise, Vdl
from aurora_operator.core.gate import FORMAT_TERM
from aurora_operator.core.history import TermHistory, TermStart
from aurora_operator.core.lsn import LOG_START, Lsn
from aurora_operator.core.members import MemberList, MemberVersion
from aurora_operator.core.names import SLOT_COUNT, AttemptId, Identity, Slot, VolumeId
from aurora_operator.core.verdicts import Proceed, Refuse, Wait

FORMAT_PROMISE: Final = Promise(FORMAT_TERM, AttemptId("format"))
"""What every new copy has promised: its log is of term 1, which no writer owns."""


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """What the AuroraCluster's status says of its volume, written by compare-and-swap only."""

    volume_id: VolumeId
    identities: tuple[Identity, ...]
    system_identifier: str | None = None
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Formatted:
    """Slot 0 is complete: record its system identifier."""

    system_identifier: str
    sentence: str


def born_record(
    record: VolumeRecord, slot: Slot, system_identifier: str, log_end: Lsn
) -> CopyRecord:
    """The record of a copy when it is first full, formatted or filled (rule 13).

    The log of term 1 ends for good before any copy is full, and no instance opens before all six
    are; so its end is durable in the volume's sense as soon as anyone may read it.
    """
    return CopyRecord(
        volume_id=record.volume_id,
        identity=record.identities[slot],
        slot=slot,
        system_identifier=system_identifier,
        promise=FORMAT_PROMISE,
        history=TermHistory((TermStart(FORMAT_TERM, LOG_START),)),
        first_record_end=log_end,
        members=MemberList(MemberVersion(FORMAT_TERM, 0), record.identities),
        known_vdl=Vdl(FORMAT_TERM, log_end),
        scl_floor=log_end,
    )


def judge_format(
    copies: Mapping[Slot, CopyView], record: VolumeRecord
) -> Proceed | Formatted | Wait | Refuse:
    """Rule 13, the operator's side: may slot 0 be formatted now? (I6)

    Slot 0 may begin again after a crash, until its system identifier is recorded; the others
    must be blank, every one of them seen.
    """
    if record.system_identifier is not None:
        return Refuse("the volume was formatted once; a lost copy is filled, never formatted")
    for slot, copy in copies.items():
        if copy.identity != record.identities[slot]:
            return Refuse(
                f"slot {slot} is {copy.identity}, but {record.identities[slot]} is recorded"
            )
    missing = [slot for slot in range(SLOT_COUNT) if Slot(slot) not in copies]
    if missing:
        return Wait(f"slots {missing} have not answered; all six must say blank before formatting")
    used = [s for s, c in sorted(copies.items()) if s != 0 and c.state is not CopyState.BLANK]
    if used:
        return Refuse(f"slots {used} are not blank: this volume had data, so nothing is formatted")
    first = copies[Slot(0)]
    if first.state is CopyState.FULL and first.record is not None:
        if first.record.promise != FORMAT_PROMISE or first.record.volume_id != record.volume_id:
            return Refuse("slot 0 has data of another volume or of a writer; nothing is formatted")
        return Formatted(first.record.system_identifier, "slot 0 is formatted")
    return Proceed(f"all six copies are blank; slot 0 ({first.state}) is formatted")


def judge_own_format(own: CopyView, record: VolumeRecord) -> Proceed | Refuse:
    """Rule 13, the storage pod's side: its own disk must be blank, and be slot 0 of the record."""
    if own.slot != 0 or record.identities[0] != own.identity:
        return Refuse(f"{own.identity} in slot {own.slot} is not slot 0 of the recorded volume")
    if own.state not in (CopyState.BLANK, CopyState.FAILED) or own.record is not None:
        return Refuse(f"{own.identity} is {own.state} and must not be formatted")
    return Proceed(f"{own.identity} is blank and slot 0")


def judge_fill(target: CopyView, source: CopyView, record: VolumeRecord) -> Proceed | Wait | Refuse:
    """Rule 13: may ``target`` be filled from ``source`` while the volume is being born? (I5)

    Only while the birth is not complete and the source has promised nothing above term 1: then
    the log has no newer byte that the new copy could miss.
    """
    if record.system_identifier is None:
        return Wait("the volume is not formatted yet")
    if target.identity != record.identities[target.slot]:
        return Refuse(f"{target.identity} is not the recorded identity of slot {target.slot}")
    if target.state is CopyState.FULL:
        return Refuse(f"{target.identity} is full already")
    if target.state is CopyState.FILLING:
        return Wait(f"{target.identity} is being filled")
    if target.record is not None:
        return Refuse(f"{target.identity} is {target.state} and was full once: {target.sentence}")
    if record.complete:
        return Refuse("the birth is complete; a lost copy is rebuilt by the volume's members")
    if source.state is not CopyState.FULL or source.record is None:
        return Wait(f"{source.identity} is {source.state} and cannot fill another copy")
    if source.record.system_identifier != record.system_identifier:
        return Refuse(f"{source.identity} has another system identifier than the recorded one")
    if source.record.promise != FORMAT_PROMISE:
        return Refuse(f"{source.identity} promised {source.record.promise}; the birth is over")
    return Proceed(f"{target.identity} is filled from {source.identity}")


def judge_birth(copies: Mapping[Slot, CopyView], record: VolumeRecord) -> Proceed | Wait:
    """Rule 13: complete once all six are full; only then may an instance open."""
    waiting = [slot for slot in range(SLOT_COUNT) if not _is_born(copies.get(Slot(slot)), record)]
    if waiting:
        return Wait(f"slots {waiting} are not full yet")
    return Proceed("all six copies are full")


def _is_born(copy: CopyView | None, record: VolumeRecord) -> bool:
    return (
        copy is not None
        and copy.state is CopyState.FULL
        and copy.record is not None
        and copy.identity == record.identities[copy.slot]
        and copy.record.volume_id == record.volume_id
        and copy.record.system_identifier == record.system_identifier
    )
