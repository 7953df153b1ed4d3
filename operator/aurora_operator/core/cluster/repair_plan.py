"""What a plan holds about lost copies: actions, events and problems for what ``repair`` judges."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from aurora_operator.core.cluster import repair
from aurora_operator.core.cluster.actions import Action, DeleteClaim, DeletePod, RecordVolume
from aurora_operator.core.cluster.events import EventKind, Note
from aurora_operator.core.cluster.observation import ClusterObservation, CopyGrade, VolumeFacts
from aurora_operator.core.cluster.phases import Problem


@dataclass
class RepairPlan:
    """Part of a plan."""

    actions: list[Action] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    sentence: str = ""
    hurries: bool = False
    """What was recorded is to be acted on at once."""


def repaired_notes(before: VolumeFacts, now: VolumeFacts) -> list[Note]:
    """A copy that is a member under a new identity was repaired."""
    return [
        Note(EventKind.COPY_REPAIR_COMPLETED, (str(slot), identity), key=identity)
        for slot, identity in enumerate(now.identities)
        if before.complete and identity not in before.identities
    ]


def plan_lost_copies(seen: ClusterObservation, volume: VolumeFacts) -> RepairPlan:
    """Copies that are gone for good, and those that are being filled."""
    plan = RepairPlan()
    for slot, copy in sorted(seen.copies.items()):
        if copy.grade is CopyGrade.FILLING:
            plan.notes.append(Note(EventKind.COPY_REPAIR_STARTED, (str(slot),), key=copy.identity))
            plan.sentence = f"the copy in slot {slot} is being filled: {copy.progress}"
    _plan_three_left(plan, seen, volume)
    match repair.next_replacement(seen, volume):
        case repair.ReplaceAt(slot, pod, why, force):
            # The pod first: a claim that goes under its pod is hands off for the next cycle.
            if pod is not None:
                plan.actions.append(DeletePod(pod.name, pod.uid, force=force))
            plan.actions.append(DeleteClaim(slot))
            key = volume.identities[slot]
            plan.notes.append(Note(EventKind.COPY_REPLACED, (str(slot), why), key=key))
            plan.sentence = f"replacing the copy in slot {slot}: {why}"
        case repair.ReplaceLater(slot, reason, sentence):
            problem = Problem("VolumeConsistent", reason, sentence, key=f"{reason}/{slot}")
            plan.problems.append(problem)
    return plan


def _plan_three_left(plan: RepairPlan, seen: ClusterObservation, volume: VolumeFacts) -> None:
    match repair.judge_three_left(seen, volume):
        case repair.Declare(lost, reason):
            plan.actions.append(RecordVolume(replace(volume, lost=lost, lost_reason=reason)))
            names = ", ".join(lost)
            plan.notes.append(Note(EventKind.COPIES_DECLARED_LOST, (names, reason), key=names))
            plan.sentence, plan.hurries = "three copies are recorded as lost", True
        case repair.EndWriter(writer):
            pod = seen.instance_pod(writer.name)
            if pod is not None:
                plan.actions.append(DeletePod(pod.name, pod.uid))
                note = Note(EventKind.WRITER_ENDED_FOR_REPAIR, (pod.name,), key=pod.uid)
                plan.notes.append(note)
        case repair.ThreeLeft(reason, sentence):
            plan.problems.append(Problem("VolumeConsistent", reason, sentence))
            plan.sentence = sentence
