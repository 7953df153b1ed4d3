"""The birth of a volume: formatted once in a cluster's life, never again (rule 13).

A volume that lost its copies must never be replaced by an empty one that looks alike. So volume
id and identities are recorded by compare-and-swap first, all six copies must answer that they are
blank, and once the system identifier stands in the record nothing formats any more: from then on
a copy is filled from another one, or the volume waits for a person.

This is the storage pod's half: what its own disk allows. The operator's half, which asks for the
steps in their order, is ``core.cluster.volume_record``; each half refuses on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aurora_operator.core.copy import CopyRecord, CopyState, CopyView, Promise, Vdl
from aurora_operator.core.history import TermHistory, TermStart
from aurora_operator.core.lsn import FORMAT_TERM, LOG_START, Lsn
from aurora_operator.core.members import BIRTH_VERSION, MemberList
from aurora_operator.core.names import AttemptId, Identity, Slot, VolumeId
from aurora_operator.core.verdicts import Proceed, Refuse, Wait

FORMAT_PROMISE: Final = Promise(FORMAT_TERM, AttemptId("format"))
"""What every new copy has promised: its log is of term 1, which no writer owns."""

FORMAT_HISTORY: Final = TermHistory((TermStart(FORMAT_TERM, LOG_START),))
"""The history of a volume that no writer has opened yet."""


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """What was recorded of the volume by compare-and-swap before anything was formatted."""

    volume_id: VolumeId
    identities: tuple[Identity, ...]
    system_identifier: str | None = None
    """Joins the record when slot 0 is complete; from then on nothing formats any more."""


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
        history=FORMAT_HISTORY,
        first_record_end=log_end,
        members=MemberList(BIRTH_VERSION, record.identities),
        known_vdl=Vdl(FORMAT_TERM, log_end),
        scl_floor=log_end,
    )


def judge_own_format(own: CopyView, record: VolumeRecord) -> Proceed | Refuse:
    """Rule 13: the own disk must be blank, be slot 0 of the record, and the first of its volume.

    A slot 0 that crashed while formatting has no record, so it is blank and begins again; that
    stops for good when the system identifier is recorded.
    """
    if record.system_identifier is not None:
        return Refuse("the volume was formatted once; a lost copy is filled, never formatted")
    if own.slot != 0 or record.identities[0] != own.identity:
        return Refuse(f"{own.identity} in slot {own.slot} is not slot 0 of the recorded volume")
    if own.state not in (CopyState.BLANK, CopyState.FAILED) or own.record is not None:
        return Refuse(f"{own.identity} is {own.state} and must not be formatted")
    return Proceed(f"{own.identity} is blank and slot 0")


def judge_fill(target: CopyView, source: CopyView, record: VolumeRecord) -> Proceed | Wait | Refuse:
    """Rule 13: may ``target`` be filled from ``source`` while the volume is being born? (I5)

    Only while the source has promised nothing above term 1: then the log has no newer byte that
    the new copy could miss.
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
    if source.state is not CopyState.FULL or source.record is None:
        return Wait(f"{source.identity} is {source.state} and cannot fill another copy")
    if source.record.system_identifier != record.system_identifier:
        return Refuse(f"{source.identity} has another system identifier than the recorded one")
    if source.record.promise != FORMAT_PROMISE:
        return Refuse(f"{source.identity} promised {source.record.promise}; the birth is over")
    return Proceed(f"{target.identity} is filled from {source.identity}")
