"""Copies that are gone for good: what the operator does, so that the writer can replace them.

The volume repairs itself: the open writer fills every storage pod that says its disk is blank
(rule 9). What it cannot do is make disks. A pod whose node is gone, or that cannot run for longer
than the spec allows, never comes back by itself, because its claim is bound to that node. Then
claim and pod are made anew, one slot at a time and only while four others follow the writer: two
copies of a zone may share the node that is gone. And when three are gone at once, nobody but the
operator can say that they are gone for good (rule 10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aurora_operator.core.cluster.failover import open_writer
from aurora_operator.core.cluster.observation import (
    ClusterObservation,
    CopyGrade,
    InstanceView,
    PodView,
    Role,
    VolumeFacts,
)
from aurora_operator.core.cluster.placement import place_anew
from aurora_operator.core.names import SLOT_COUNT, Identity, Slot

READ_QUORUM: Final = 3
WRITE_QUORUM: Final = 4


@dataclass(frozen=True)
class ReplaceAt:
    """This slot's claim and pod are deleted, so that both are made anew."""

    slot: Slot
    pod: PodView | None
    why: str
    force: bool
    """Its node is gone: nobody is there to confirm the pod's end."""


@dataclass(frozen=True)
class ReplaceLater:
    """A copy cannot run, and is not replaced now."""

    slot: Slot
    reason: str
    sentence: str


@dataclass(frozen=True)
class Declare:
    """Record these three as lost for good, once (rule 10)."""

    lost: tuple[Identity, ...]
    reason: str


@dataclass(frozen=True)
class EndWriter:
    """Three copies are gone and the writer waits for a fourth for ever: it has to end first."""

    writer: InstanceView


@dataclass(frozen=True)
class ThreeLeft:
    """Three copies or fewer are left, and nothing can be recorded now."""

    reason: str
    sentence: str


def may_make_claim(seen: ClusterObservation, volume: VolumeFacts, slot: Slot) -> bool:
    """Whether a claim of a complete volume that is gone is made anew, blank.

    While a write quorum of others is full it is filled from them. With three left, the record of
    the loss comes first: until then somebody may put the claims back.
    """
    others = {other for other in _full_slots(seen, volume) if other != slot}
    return len(others) >= WRITE_QUORUM or volume.identities[slot] in volume.lost


def next_replacement(
    seen: ClusterObservation, volume: VolumeFacts
) -> ReplaceAt | ReplaceLater | None:
    """A slot whose pod cannot run for longer than the spec allows, and what to do about it."""
    for slot in _slots():
        why = _why_disabled(seen, slot)
        if why is None:
            continue
        told = f"the copy in slot {slot} cannot run: {why}"
        writer = open_writer(seen)
        streaming = frozenset() if writer is None else writer.slots_streaming
        if slot in streaming or _is_busy(seen, slot):
            return None  # the writer has it, or another one is filled first
        if len((_full_slots(seen, volume) - {slot}) & streaming) < WRITE_QUORUM:
            return ReplaceLater(
                slot,
                "OthersFirst",
                f"{told}. It is replaced when four others are full and follow an open writer",
            )
        place = place_anew(seen.nodes, seen.claims, slot)
        if place.moves and not seen.spec.allow_zone_move:
            return ReplaceLater(
                slot,
                "NoNodeInZone",
                f"{told}, and its zone has no other node. The volume goes on with five copies. Add "
                "a node to the zone, or set spec.storage.allowZoneMove to true",
            )
        pod = seen.storage_pods.get(slot)
        return ReplaceAt(slot, pod, why, force=pod is not None and seen.node_lost(pod))
    return None


def judge_three_left(
    seen: ClusterObservation, volume: VolumeFacts
) -> Declare | EndWriter | ThreeLeft | None:
    """Rule 10: whether the loss of three copies is recorded; never because time went by (H9).

    Two halves of a volume could each call the other dead. So either the disks are known to be
    gone (no claim, or a pod that answers that it is blank) and the old writer's pod too, or a
    person names the three.
    """
    full = _full_slots(seen, volume)
    if volume.lost or len(full) > READ_QUORUM:
        return None
    others = [slot for slot in _slots() if slot not in full]
    gone = [slot for slot in others if _disk_is_gone(seen, slot)]
    identities = tuple(volume.identities[slot] for slot in others)
    by_word = set(seen.lost_by_word) == set(identities)
    if len(gone) < len(others) and not by_word:
        return None
    if len(full) < READ_QUORUM:
        told = ", ".join(str(slot) for slot in others)
        return ThreeLeft(
            "FourLost",
            f"the disks of slots {told} are gone: fewer than three copies are left, and what was "
            "acknowledged may be on none of them. Nothing is opened and nothing is formatted. Put "
            "the missing claims back if their disks still exist, or restore a backup into a new "
            "cluster",
        )
    writer = open_writer(seen)
    if writer is not None:
        return EndWriter(writer) if writer.copies_streaming <= READ_QUORUM else None
    if by_word:
        return Declare(identities, "a person named them in the annotation")
    alive = _writer_may_live(seen)
    if alive is not None:
        return ThreeLeft(
            "ThreeLeft",
            f"three copies are left and {alive}. Nothing is opened before that is settled: delete "
            "the pod of the old writer, or name the three lost copies in the annotation "
            f"aurora-operator.io/lost-copies: {','.join(identities)}",
        )
    return Declare(identities, f"the disks of slots {', '.join(map(str, others))} are gone")


def _is_busy(seen: ClusterObservation, slot: Slot) -> bool:
    """Whether another copy is on its way back: one at a time."""
    return any(
        copy.grade is not CopyGrade.FULL for other, copy in seen.copies.items() if other != slot
    )


def _full_slots(seen: ClusterObservation, volume: VolumeFacts) -> set[Slot]:
    """Slots whose pod answers with a full copy that is a member."""
    return {
        slot
        for slot, copy in seen.copies.items()
        if copy.grade is CopyGrade.FULL and copy.identity == volume.identities[slot]
    }


def _disk_is_gone(seen: ClusterObservation, slot: Slot) -> bool:
    copy = seen.copies.get(slot)
    if copy is not None:
        return copy.grade is CopyGrade.BLANK
    return slot not in seen.claims


def _why_disabled(seen: ClusterObservation, slot: Slot) -> str | None:
    """Why the pod of this slot cannot run, once that has lasted long enough."""
    lasted_seconds = seen.disabled_seconds.get(slot, 0.0)
    if slot in seen.copies or lasted_seconds < seen.spec.replace_after_seconds:
        return None
    claim, pod = seen.claims.get(slot), seen.storage_pods.get(slot)
    if claim is None or claim.terminating:
        return None  # it is made anew already
    if pod is None:
        return None  # it is made in this cycle
    if pod.node is not None and seen.node(pod.node) is None:
        return f"its node {pod.node} is gone"
    if seen.node_lost(pod):
        return f"its node {pod.node} is not ready"
    if pod.waiting and pod.phase == "Pending":
        return pod.waiting
    return None


def _writer_may_live(seen: ClusterObservation) -> str | None:
    """Why the pod of the last writer is not known to be gone."""
    name = seen.remembered.writer
    pod = seen.instance_pod(name)
    if name is None or pod is None or pod.ended:
        return None
    view = seen.instances.get(name)
    if view is None:
        return f"the pod of the writer {name} does not answer"
    if view.role in {Role.WRITER, Role.OPENING}:
        return f"{name} is {view.role}"
    return None


def _slots() -> tuple[Slot, ...]:
    return tuple(Slot(number) for number in range(SLOT_COUNT))
