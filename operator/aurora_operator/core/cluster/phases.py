"""The cluster's status in the words of RDS, and its conditions.

The status is one word for people; programs read the conditions. Both are derived from the snapshot
each time and remember nothing, except that a cluster which once had a writer is *failing over*
when it has none, not *creating*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aurora_operator.core.cluster.failover import WriterInDoubt, decide_opening, open_writer
from aurora_operator.core.cluster.observation import (
    ClusterObservation,
    CopyGrade,
    CopyView,
    InstanceView,
    PodView,
    Role,
    VolumeFacts,
)
from aurora_operator.core.cluster.placement import describe_spread, place_slots
from aurora_operator.core.names import SLOT_COUNT, InstanceName, Slot

READ_QUORUM: Final = 3
WRITE_QUORUM: Final = 4
_VOLUME_REASONS: Final = frozenset(
    {
        "VolumeMismatch",
        "VolumeLost",
        "ClaimsTerminating",
        "IdentitiesUnknown",
        "BaseLost",
        "FourLost",
        "ThreeLeft",
    }
)


class ClusterPhase(StrEnum):
    """``status.status``."""

    CREATING = "creating"
    """No writer has ever opened the volume."""
    AVAILABLE = "available"
    """A writer is open."""
    FAILING_OVER = "failing-over"
    """There was a writer and none is open now."""
    MODIFYING = "modifying"
    """A writer is open, and pods are replaced one by one, or claims grow."""
    DELETING = "deleting"
    """On its way out."""
    INCOMPATIBLE_PARAMETERS = "incompatible-parameters"
    """Not created: parameterOverrides names what may not be set."""
    STORAGE_FAILURE = "storage-failure"
    """Fewer than three full copies answer, or the records of the volume contradict each other."""
    FAILED = "failed"
    """Not created: something that the spec refers to is missing."""


class InstancePhase(StrEnum):
    """``dbInstanceStatus`` of each member."""

    CREATING = "creating"
    """Its pod does not run yet, or it fetches its base."""
    AVAILABLE = "available"
    """It serves."""
    STARTING = "starting"
    """Its server is up and does not serve yet."""
    STOPPED = "stopped"
    """It was the writer, and its server ended."""
    DELETING = "deleting"
    """Its pod ends."""
    FAILED = "failed"
    """Its pod ended by itself, or its node is gone."""


@dataclass(frozen=True)
class Problem:
    """Something that a person should know or do; it becomes a condition and an Event."""

    condition: str
    reason: str
    message: str
    blocks_creation: bool = False
    key: str = ""
    """What the problem is about, when its message varies while it lasts: one Event, not many."""


@dataclass(frozen=True)
class Verdict:
    """One condition, without its times."""

    type: str
    status: bool
    reason: str
    message: str


def instance_phase(seen: ClusterObservation, pod: PodView) -> InstancePhase:
    """One instance in RDS words."""
    view = seen.instances.get(InstanceName(pod.name))
    if pod.terminating:
        return InstancePhase.DELETING
    if pod.ended or seen.node_lost(pod):
        return InstancePhase.FAILED
    if view is None:
        return InstancePhase.STARTING if pod.ready else InstancePhase.CREATING
    if view.role is Role.STOPPED:
        return InstancePhase.STOPPED
    if view.role is Role.STARTING:
        return InstancePhase.CREATING
    return InstancePhase.AVAILABLE if view.healthy else InstancePhase.STARTING


def full_copies(seen: ClusterObservation) -> int:
    """How many copies answer that they are full."""
    return sum(1 for copy in seen.copies.values() if copy.grade is CopyGrade.FULL)


def serving_copies(seen: ClusterObservation) -> int:
    """How many copies do their part: they take the open writer's log, or are full without one."""
    writer = open_writer(seen)
    full = full_copies(seen)
    return full if writer is None else min(full, writer.copies_streaming)


def ready_replicas(seen: ClusterObservation) -> int:
    """How many replicas serve."""
    writer = open_writer(seen)
    return sum(
        1
        for pod in seen.instance_pods.values()
        if (writer is None or pod.name != writer.name)
        and instance_phase(seen, pod) is InstancePhase.AVAILABLE
        and pod.ready
    )


def judge_phase(
    seen: ClusterObservation,
    volume: VolumeFacts | None,
    problems: Sequence[Problem],
    changing: bool,
) -> ClusterPhase:
    """``status.status``."""
    if seen.deleting and not seen.spec.deletion_protection:
        return ClusterPhase.DELETING
    if open_writer(seen) is not None:
        return ClusterPhase.MODIFYING if changing else ClusterPhase.AVAILABLE
    if isinstance(decide_opening(seen), WriterInDoubt):
        return ClusterPhase.AVAILABLE
    reasons = {problem.reason for problem in problems}
    if reasons & _VOLUME_REASONS:
        return ClusterPhase.STORAGE_FAILURE
    if seen.remembered.writer is not None:
        short = volume is not None and volume.complete and full_copies(seen) < READ_QUORUM
        return ClusterPhase.STORAGE_FAILURE if short else ClusterPhase.FAILING_OVER
    if not seen.storage_pods and any(problem.blocks_creation for problem in problems):
        refused = "ParameterRefused" in reasons
        return ClusterPhase.INCOMPATIBLE_PARAMETERS if refused else ClusterPhase.FAILED
    return ClusterPhase.CREATING


def judge_conditions(
    seen: ClusterObservation, volume: VolumeFacts | None, problems: Sequence[Problem], story: str
) -> tuple[Verdict, ...]:
    """All conditions, in the order in which they are shown; ``story`` is the plan's sentence."""
    writer = open_writer(seen)
    full, ready, wanted = serving_copies(seen), ready_replicas(seen), seen.spec.replicas
    opening = decide_opening(seen)
    available = Verdict("Available", False, "NoWriter", story)
    if writer is not None:
        available = Verdict("Available", True, "WriterOpen", f"{writer.name} is the writer")
        if writer.copies_streaming < WRITE_QUORUM:
            available = Verdict("Available", False, "WritesWait", writes_wait(writer))
    elif isinstance(opening, WriterInDoubt):
        available = Verdict("Available", True, "WriterInDoubt", opening.reason)
    complete = Verdict(
        "CopiesComplete",
        full == SLOT_COUNT,
        "AllFull" if full == SLOT_COUNT else "CopiesMissing",
        _copies_sentence(seen, volume, full),
    )
    everything = writer is not None and ready == wanted and full == SLOT_COUNT and not problems
    ready_message = f"writer open, {ready} of {wanted} replicas ready, {full} of 6 copies full"
    if not everything:
        ready_message = "; ".join(
            [
                "writer open" if writer is not None else "no writer open",
                f"{ready} of {wanted} replicas ready",
                f"{full} of 6 copies full",
                *(problem.message for problem in problems[:1]),
            ]
        )
    spread, spread_reason, spread_message = describe_spread(
        place_slots(seen.nodes, seen.claims).values()
    )
    verdicts = [
        Verdict("Ready", everything, "AllWell" if everything else "NotReady", ready_message),
        available,
        complete,
        Verdict("ZonesSpread", spread, spread_reason, spread_message),
    ]
    return (*verdicts, *_problem_conditions(problems))


def _problem_conditions(problems: Sequence[Problem]) -> list[Verdict]:
    """A condition that is well when it has no problem, for each kind of problem there can be."""
    well = {
        "SpecAccepted": ("Accepted", "the spec can be carried out"),
        "VolumeConsistent": ("Consistent", "all records name one volume"),
        "PodsHealthy": ("Running", "no pod is stuck"),
        "StorageHealthy": ("Roomy", "every copy that answers has room and keeps up"),
        "DeletionAllowed": ("Allowed", "the cluster can be deleted"),
    }
    verdicts = []
    for kind, (reason, message) in well.items():
        mine = [problem for problem in problems if problem.condition == kind]
        if mine:
            told = "; ".join(problem.message for problem in mine)
            verdicts.append(Verdict(kind, False, mine[0].reason, told))
        else:
            verdicts.append(Verdict(kind, True, reason, message))
    return verdicts


def writes_wait(writer: InstanceView) -> str:
    """What it means when too few copies take the writer's log, and what to do."""
    return (
        f"{writer.name} is the writer, and {writer.copies_streaming} of 6 copies take its log: "
        "commits wait for a fourth. Nothing acknowledged is lost and reads go on; see "
        "status.copies, bring missing storage pods back and give full disks room"
    )


def _copies_sentence(seen: ClusterObservation, volume: VolumeFacts | None, full: int) -> str:
    if full == SLOT_COUNT:
        return "six full copies answer and follow"
    lacking = [
        f"slot {slot}: {_grade(seen.copies[slot])}"
        if slot in seen.copies
        else f"slot {slot}: silent"
        for slot in _slots()
        if slot not in seen.copies or seen.copies[slot].grade is not CopyGrade.FULL
    ]
    reasons = ", ".join(lacking) or "the others answer and do not take the writer's log"
    told = f"{full} of 6 copies are full and follow ({reasons})"
    if volume is None or not volume.complete:
        return f"{told}; the volume is being made"
    if full >= 4:
        return f"{told}; writes and reads go on"
    if full == READ_QUORUM:
        return f"{told}; writes wait for a fourth copy, nothing acknowledged is lost"
    return f"{told}; writes wait, and what is acknowledged needs the silent copies back"


def _grade(copy: CopyView) -> str:
    return f"{copy.grade}, {copy.progress}" if copy.progress else str(copy.grade)


def _slots() -> tuple[Slot, ...]:
    return tuple(Slot(number) for number in range(SLOT_COUNT))
