"""Which volume this cluster has: found, new, contradictory or lost. And its birth, step by step.

The record (volume ID, six identities) is written by compare-and-swap before anything is made, and
repeated on the agents' configuration and on every claim. A record that exists anywhere is the
record: a lost status is rebuilt from it, and nothing is formatted that might hold data (rule 13).

Identities change when copies are replaced. The volume itself keeps the member list (rule 8); what
stands in the records follows it, and the list of the highest version is the one that counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from aurora_operator.core.cluster.observation import (
    ClaimView,
    ClusterObservation,
    CopyGrade,
    CopyView,
    VolumeFacts,
)
from aurora_operator.core.lsn import FORMAT_TERM
from aurora_operator.core.names import SLOT_COUNT, Identity, Slot

_COPIES_THAT_TELL: Final = 3
"""As many as any write quorum shares with any three (3 + 4 > 6)."""


@dataclass(frozen=True)
class Known:
    """The cluster has this volume."""

    volume: VolumeFacts


@dataclass(frozen=True)
class NoVolume:
    """No trace of any volume: one may be born."""


@dataclass(frozen=True)
class Contradiction:
    """Traces disagree, or the volume was there and is gone: a person has to look."""

    reason: str
    sentence: str


Finding = Known | NoVolume | Contradiction


def find_volume(seen: ClusterObservation) -> Finding:
    """The cluster's volume, from the status, the agents' configuration and the claims."""
    traces = {
        "status.volume": seen.recorded,
        "the agents' configuration": seen.configured,
        **{f"the claim of slot {slot}": _of_claim(claim) for slot, claim in seen.claims.items()},
    }
    found = {where: volume for where, volume in traces.items() if volume is not None}
    foreign = [slot for slot, claim in sorted(seen.claims.items()) if claim.owned_by_other]
    if foreign:
        return Contradiction(
            "ClaimNotOurs",
            f"a claim with the name of slot {foreign[0]}'s exists and carries no record of a "
            "volume. Nothing was touched. Rename or delete it, then the cluster is created",
        )
    if not found:
        return NoVolume()
    names = {volume.volume_id for volume in found.values()}
    if len(names) > 1:
        told = "; ".join(f"{where}: {volume.volume_id}" for where, volume in found.items())
        return Contradiction(
            "VolumeMismatch",
            f"the records name different volumes ({told}). Nothing is opened or formatted. Remove "
            "the claims that do not belong here, or give this cluster another name",
        )
    return _merge(seen, found)


def undisputed(seen: ClusterObservation) -> VolumeFacts | None:
    """The volume to go on with though claims contradict it: the complete one in the status.

    A stray claim proves nothing against a record that was completed, and a cluster that serves
    must not lose its repairs and failovers to it. The agents' own configuration must agree.
    """
    recorded, configured = seen.recorded, seen.configured
    if recorded is None or not recorded.complete or len(recorded.identities) != SLOT_COUNT:
        return None
    if configured is None:
        return recorded
    agrees = configured.volume_id == recorded.volume_id and (
        not configured.identities or not _contradict(configured, recorded)
    )
    return recorded if agrees else None


def doubtful_slots(seen: ClusterObservation, volume: VolumeFacts) -> frozenset[Slot]:
    """Slots whose claim goes, or tells of something else than this volume: hands off."""
    return frozenset(
        slot
        for slot, claim in seen.claims.items()
        if claim.terminating
        or claim.volume_id != volume.volume_id
        or (claim.version >= volume.version and claim.identities not in {(), volume.identities})
    )


def differs(claim: ClaimView, volume: VolumeFacts) -> bool:
    """Whether a claim repeats another record than the volume's."""
    return (claim.system_identifier, claim.complete, claim.identities, claim.version) != (
        volume.system_identifier,
        volume.complete,
        volume.identities,
        volume.version,
    )


def follow_members(seen: ClusterObservation, volume: VolumeFacts) -> VolumeFacts:
    """The record with the member list that the volume told, if that is a newer one (rule 8).

    A list counts here when three full copies of this volume keep it: one that a writer began to
    spread and never put into effect may be on fewer. An empty slot shows the identity it had.
    """
    lists = [
        copy.members
        for copy in seen.copies.values()
        if copy.grade is CopyGrade.FULL
        and copy.volume_id == volume.volume_id
        and copy.members is not None
    ]
    told = [members for members in lists if lists.count(members) >= _COPIES_THAT_TELL]
    newest = max(told, key=lambda members: members.version, default=None)
    if newest is None or newest.version <= volume.version:
        return volume
    identities = tuple(
        newest.identity_in(Slot(slot)) or identity
        for slot, identity in enumerate(volume.identities)
    )
    still_lost = any(identity in identities for identity in volume.lost)
    return replace(
        volume,
        identities=identities,
        version=newest.version,
        lost=volume.lost if still_lost else (),
        lost_reason=volume.lost_reason if still_lost else "",
    )


def _contradict(one: VolumeFacts, other: VolumeFacts) -> bool:
    return one.version == other.version and one.identities != other.identities


def _merge(seen: ClusterObservation, found: dict[str, VolumeFacts]) -> Finding:
    told = [volume for volume in found.values() if len(volume.identities) == SLOT_COUNT]
    version = max((volume.version for volume in told), default=VolumeFacts.version)
    lists = {volume.identities for volume in told if volume.version == version}
    if not lists:
        lists = _lists_told(seen)
    if len(lists) != 1:
        return Contradiction(
            "VolumeMismatch" if lists else "IdentitiesUnknown",
            "the records of the volume disagree about, or do not tell, the identities of its six "
            "copies. Nothing is opened or formatted. Restore status.volume from a backup of the "
            "AuroraCluster, or put the missing claims back",
        )
    lost = next((volume for volume in found.values() if volume.lost), None)
    volumes = list(found.values())
    merged = VolumeFacts(
        volume_id=volumes[0].volume_id,
        identities=next(iter(lists)),
        system_identifier=next((v.system_identifier for v in volumes if v.system_identifier), None),
        complete=any(volume.complete for volume in volumes),
        version=version,
        lost=() if lost is None else lost.lost,
        lost_reason="" if lost is None else lost.lost_reason,
    )
    merged = follow_members(seen, merged)
    if not merged.complete and _was_opened(seen):
        merged = replace(merged, complete=True)
    if merged.complete and not any(not claim.terminating for claim in seen.claims.values()):
        if seen.claims:
            return Contradiction(
                "ClaimsTerminating",
                "every claim of the volume is being deleted. Each goes, and its copy with it, as "
                "soon as its storage pod ends: delete no storage pod, copy the data away now "
                "(pg_dump), and create a new cluster from that",
            )
        return Contradiction(
            "VolumeLost",
            "the volume was complete and all six claims are gone. No empty volume is made in its "
            "place. Restore the claims, or delete this AuroraCluster and create it anew",
        )
    return Known(merged)


def _of_claim(claim: ClaimView) -> VolumeFacts | None:
    if claim.volume_id is None:
        return None
    return VolumeFacts(
        claim.volume_id,
        claim.identities,
        claim.system_identifier,
        claim.complete,
        claim.version,
    )


def _lists_told(seen: ClusterObservation) -> set[tuple[Identity, ...]]:
    """The list from what the claims say one by one, or from what the copies answer."""
    single = tuple(
        claim.identity for _, claim in sorted(seen.claims.items()) if claim.identity is not None
    )
    if len(single) == SLOT_COUNT:
        return {single}
    return {
        copy.members.identities
        for copy in seen.copies.values()
        if copy.members is not None and not copy.members.empty_slots
    }


def _was_opened(seen: ClusterObservation) -> bool:
    return any(
        (copy.log_term or 0) > FORMAT_TERM or (copy.promised_term or 0) > FORMAT_TERM
        for copy in seen.copies.values()
    )


@dataclass(frozen=True)
class Record:
    """The record has grown: write it down first."""

    volume: VolumeFacts
    sentence: str


@dataclass(frozen=True)
class Format:
    """All six are blank and nothing was ever formatted: slot 0 may run initdb."""


@dataclass(frozen=True)
class Fill:
    """These copies are to be filled from slot 0."""

    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Pending:
    """Nothing to do but wait."""

    sentence: str


BirthStep = Record | Format | Fill | Pending | Contradiction


def next_birth_step(seen: ClusterObservation, volume: VolumeFacts) -> BirthStep:
    """The next step from a record to six full copies; only for a volume that is not complete."""
    for slot, copy in sorted(seen.copies.items()):
        other_volume = copy.volume_id is not None and copy.volume_id != volume.volume_id
        other_system = (
            volume.system_identifier is not None
            and copy.system_identifier is not None
            and copy.system_identifier != volume.system_identifier
        )
        if other_volume or other_system:
            return Contradiction(
                "VolumeMismatch",
                f"the copy in slot {slot} holds volume {copy.volume_id}, system "
                f"{copy.system_identifier}; this cluster's is {volume.volume_id}, system "
                f"{volume.system_identifier}. Nothing is formatted. Remove slot {slot}'s claim",
            )
    if volume.system_identifier is None:
        return _before_base(seen, volume)
    return _after_base(seen, volume)


def _before_base(seen: ClusterObservation, volume: VolumeFacts) -> BirthStep:
    full = [copy for _, copy in sorted(seen.copies.items()) if copy.grade is CopyGrade.FULL]
    for copy in full:
        if copy.system_identifier is not None:
            grown = replace(volume, system_identifier=copy.system_identifier)
            return Record(grown, "the volume's base is complete")
    absent = _absent(seen)
    if absent:
        return Pending(f"waiting for storage pods to answer: slots {absent}")
    if len(seen.claims) == SLOT_COUNT and _all_blank(seen.copies.values()):
        return Format()
    told = "; ".join(f"slot {slot}: {copy.grade}" for slot, copy in sorted(seen.copies.items()))
    return Pending(f"waiting for six blank copies before anything is formatted ({told})")


def _after_base(seen: ClusterObservation, volume: VolumeFacts) -> BirthStep:
    source = seen.copies.get(Slot(0))
    if source is not None and source.grade in {CopyGrade.BLANK, CopyGrade.FAILED}:
        return Contradiction(
            "BaseLost",
            f"slot 0 lost the base of the new volume before the others had it ({source.sentence}). "
            "No client was ever let in, so nothing acknowledged is lost. Delete this AuroraCluster "
            "and its claims, and create it anew",
        )
    lacking = tuple(
        slot
        for slot, copy in sorted(seen.copies.items())
        if slot != 0 and copy.grade is not CopyGrade.FULL
    )
    if lacking and source is not None:
        return Fill(lacking)
    absent = _absent(seen)
    if absent:
        return Pending(f"waiting for storage pods to answer: slots {absent}")
    return Record(replace(volume, complete=True), "six full copies")


def _absent(seen: ClusterObservation) -> str:
    return ", ".join(str(slot) for slot in range(SLOT_COUNT) if Slot(slot) not in seen.copies)


def _all_blank(copies: Iterable[CopyView]) -> bool:
    return all(copy.grade is CopyGrade.BLANK for copy in copies)
