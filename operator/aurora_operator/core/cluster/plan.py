"""``decide``: the only entry of the operator's core. A snapshot goes in, a plan comes out.

A plan is a list of actions in safe order, one sentence that says what is going on, the events to
tell, and how soon to look again. It may be cut after any action: the next cycle decides anew from
what it then sees, so there is no state here and nothing to resume.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from aurora_operator.core.cluster import repair, volume_record
from aurora_operator.core.cluster.actions import (
    AcceptSwitchover,
    Action,
    AddFinalizer,
    AnnotateClaim,
    AskHandOver,
    AskOpen,
    AskRestart,
    CreateClaim,
    CreateInstance,
    CreateStoragePod,
    DeletePod,
    EndSwitchover,
    EnsureSupport,
    ExpandClaim,
    FillCopies,
    FillEndpoints,
    FormatVolume,
    LabelRole,
    RecordNewVolume,
    RecordVolume,
)
from aurora_operator.core.cluster.deletion import next_deletion
from aurora_operator.core.cluster.events import EventKind, Note
from aurora_operator.core.cluster.failover import (
    WRITER_SILENCE_SECONDS,
    HandOverAt,
    OpenAt,
    Opening,
    Replace,
    RestartAt,
    Wait,
    WriterInDoubt,
    WriterOpen,
    decide_opening,
    open_writer,
)
from aurora_operator.core.cluster.observation import (
    ClusterObservation,
    PodView,
    Role,
    VolumeFacts,
)
from aurora_operator.core.cluster.phases import (
    ClusterPhase,
    Problem,
    Verdict,
    judge_conditions,
    judge_phase,
    ready_replicas,
    serving_copies,
)
from aurora_operator.core.cluster.placement import place_anew, place_slots
from aurora_operator.core.cluster.problems import input_problems, pod_problems, pressure_problems
from aurora_operator.core.cluster.repair_plan import plan_lost_copies, repaired_notes
from aurora_operator.core.cluster.rollout import next_outdated, stuck_outdated
from aurora_operator.core.cluster.scaling import scale_instances
from aurora_operator.core.cluster.switchover import (
    Accept,
    HandOver,
    Over,
    Refused,
    next_switchover_step,
)
from aurora_operator.core.cluster.volume_record import Contradiction, NoVolume
from aurora_operator.core.names import SLOT_COUNT, InstanceName, Slot

OPENING_SECONDS: Final = 0.2
"""Between two looks while no writer is open: the outage lasts no longer than it must."""
OPENING_PATIENCE_SECONDS: Final = 30.0
"""An outage that lasts longer is not shortened by looking five times a second."""
WORKING_SECONDS: Final = 1.0
"""Between two looks while something is being made."""
RESTING_SECONDS: Final = 5.0
"""Between two looks while all is well; changes wake the loop before that."""
NODE_LOST_SECONDS: Final = 60.0
"""After this long on a lost node, an instance is made anew elsewhere."""


@dataclass(frozen=True)
class Plan:
    """What to do now."""

    sentence: str
    phase: ClusterPhase
    actions: tuple[Action, ...] = ()
    notes: tuple[Note, ...] = ()
    """Told after the actions succeeded."""
    conditions: tuple[Verdict, ...] = ()
    volume: VolumeFacts | None = None
    look_again_seconds: float = RESTING_SECONDS


@dataclass
class _Draft:
    """The plan while it is being put together."""

    seen: ClusterObservation
    actions: list[Action] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    sentence: str = "all is well"
    wait_seconds: float = RESTING_SECONDS
    changing: bool = False

    def say(self, sentence: str, wait_seconds: float) -> None:
        """The most urgent thing names the cycle."""
        if wait_seconds < self.wait_seconds:
            self.sentence, self.wait_seconds = sentence, wait_seconds


def decide(seen: ClusterObservation) -> Plan:
    """The plan for what was seen."""
    if seen.deleting and not seen.spec.deletion_protection:
        return _plan_deletion(seen)
    draft = _Draft(seen, problems=input_problems(seen))
    if not seen.has_finalizer and not seen.deleting:
        draft.actions.append(AddFinalizer())
    volume = _plan_volume(draft)
    if volume is not None:
        _plan_storage(draft, volume)
        if volume.complete:
            _plan_lost_copies(draft, volume)
            _plan_instances(draft)
        keep = _doubtful_pods(seen, volume)
        draft.actions += [
            DeletePod(pod.name, pod.uid) for pod in stuck_outdated(seen) if pod.name not in keep
        ]
    draft.problems += pod_problems(seen, volume)
    draft.problems += pressure_problems(seen)
    for problem in draft.problems:
        draft.notes.append(_note(seen, problem))
    return Plan(
        sentence=draft.sentence,
        phase=judge_phase(seen, volume, draft.problems, draft.changing),
        actions=tuple(draft.actions),
        notes=tuple(draft.notes),
        conditions=judge_conditions(seen, volume, draft.problems, draft.sentence),
        volume=volume,
        look_again_seconds=draft.wait_seconds,
    )


def _doubtful_pods(seen: ClusterObservation, volume: VolumeFacts) -> set[str]:
    """Storage pods that hold a claim in doubt: one that goes would go for good with them."""
    doubtful = volume_record.doubtful_slots(seen, volume)
    return {pod.name for slot, pod in seen.storage_pods.items() if slot in doubtful}


def _note(seen: ClusterObservation, problem: Problem) -> Note:
    if problem.reason == "DeletionProtected":
        return Note(EventKind.DELETION_PROTECTED, key=str(seen.generation))
    return Note(
        EventKind.PROBLEM,
        (problem.message,),
        key=f"{seen.generation}/{problem.key or problem.message}",
        reason_override=problem.reason,
    )


def _plan_deletion(seen: ClusterObservation) -> Plan:
    actions, sentence = next_deletion(seen)
    fate = "deleted with it" if seen.spec.delete_volume else "kept"
    return Plan(
        sentence=sentence,
        phase=ClusterPhase.DELETING,
        actions=actions,
        notes=(Note(EventKind.CLUSTER_DELETING, (fate,)),),
        conditions=judge_conditions(seen, seen.recorded, (), sentence),
        volume=seen.recorded,
        look_again_seconds=WORKING_SECONDS,
    )


def _plan_volume(draft: _Draft) -> VolumeFacts | None:
    """The volume to work with; ``None`` when there is none yet, or none that may be touched."""
    seen = draft.seen
    finding = volume_record.find_volume(seen)
    if isinstance(finding, Contradiction):
        draft.problems.append(Problem("VolumeConsistent", finding.reason, finding.sentence))
        draft.say(finding.sentence, WORKING_SECONDS)
        return volume_record.undisputed(seen)
    blocking = [problem for problem in draft.problems if problem.blocks_creation]
    if blocking and not seen.storage_pods:
        draft.say(blocking[0].message, WORKING_SECONDS)
        return None
    if isinstance(finding, NoVolume):
        draft.actions.append(RecordNewVolume())
        draft.say("recording the new volume", 0.0)
        return None
    volume = finding.volume
    if volume != seen.recorded:
        draft.actions.append(RecordVolume(volume))
        draft.say(f"recording volume {volume.volume_id}", WORKING_SECONDS)
        if seen.recorded is None:
            draft.notes.append(
                Note(EventKind.VOLUME_FOUND, (volume.volume_id,), key=seen.namespace)
            )
        else:
            draft.notes += repaired_notes(seen.recorded, volume)
    return volume


def _plan_storage(draft: _Draft, volume: VolumeFacts) -> None:
    """Support, claims, storage pods, and the birth of a volume that is not complete."""
    seen = draft.seen
    opening = volume.complete and open_writer(seen) is None
    if not opening:
        draft.actions.append(EnsureSupport(volume))
    zones = place_slots(seen.nodes, seen.claims)
    doubtful = volume_record.doubtful_slots(seen, volume) if volume.complete else frozenset()
    for number in range(SLOT_COUNT):
        slot = Slot(number)
        claim = seen.claims.get(slot)
        if slot in doubtful:
            continue
        makes_claim = claim is None and _may_make_claim(seen, volume, slot)
        if makes_claim:
            draft.actions.append(CreateClaim(slot, zones[slot], volume))
            draft.say("making the volume's claims", WORKING_SECONDS)
        elif claim is not None:
            if volume_record.differs(claim, volume):
                draft.actions.append(AnnotateClaim(slot, volume))
            if _may_expand(seen, claim.requested_bytes):
                draft.actions.append(ExpandClaim(slot, seen.spec.storage_bytes))
                draft.changing = True
        _plan_storage_pod(draft, slot, zones[slot], has_claim=claim is not None or makes_claim)
    if opening:
        # Whatever support lacks can wait until somebody has been asked to open.
        draft.actions.append(EnsureSupport(volume))
    if not volume.complete:
        _plan_birth(draft, volume)


def _may_make_claim(seen: ClusterObservation, volume: VolumeFacts, slot: Slot) -> bool:
    """A claim of a volume in birth, or of a copy that is lost and can be filled anew."""
    if not volume.complete:
        return True
    moves = place_anew(seen.nodes, seen.claims, slot).moves
    may_move = seen.spec.allow_zone_move or not moves
    return may_move and repair.may_make_claim(seen, volume, slot)


def _plan_lost_copies(draft: _Draft, volume: VolumeFacts) -> None:
    """Copies that are gone for good, and those that are being filled."""
    planned = plan_lost_copies(draft.seen, volume)
    draft.actions += planned.actions
    draft.notes += planned.notes
    draft.problems += planned.problems
    if planned.sentence:
        draft.say(planned.sentence, 0.0 if planned.hurries else WORKING_SECONDS)


def _may_expand(seen: ClusterObservation, requested_bytes: int) -> bool:
    expandable = seen.storage_class is not None and seen.storage_class.expandable
    return expandable and requested_bytes < seen.spec.storage_bytes


def _plan_storage_pod(draft: _Draft, slot: Slot, zone: str | None, *, has_claim: bool) -> None:
    pod = draft.seen.storage_pods.get(slot)
    if pod is None:
        if has_claim:
            draft.actions.append(CreateStoragePod(slot, zone))
            draft.say("making storage pods", WORKING_SECONDS)
        return
    if pod.ended and not pod.terminating:
        draft.actions.append(DeletePod(pod.name, pod.uid))
        draft.notes.append(
            Note(EventKind.STORAGE_POD_REPLACED, (pod.name, "its pod ended"), key=pod.uid)
        )
    if slot not in draft.seen.copies:
        draft.say(f"waiting for storage pod {pod.name}", WORKING_SECONDS)


def _plan_birth(draft: _Draft, volume: VolumeFacts) -> None:
    step = volume_record.next_birth_step(draft.seen, volume)
    match step:
        case volume_record.Record(grown, sentence):
            draft.actions.append(RecordVolume(grown))
            draft.say(sentence, 0.0)
            if grown.complete:
                draft.notes.append(Note(EventKind.VOLUME_COMPLETE, key=volume.volume_id))
        case volume_record.Format():
            draft.actions.append(FormatVolume(volume))
            draft.say("formatting the volume in slot 0", OPENING_SECONDS)
        case volume_record.Fill(slots):
            draft.actions.append(FillCopies(slots, volume))
            draft.say(f"filling {len(slots)} copies", OPENING_SECONDS)
        case volume_record.Pending(sentence):
            draft.say(sentence, WORKING_SECONDS / 2)
        case Contradiction(reason, sentence):
            draft.problems.append(Problem("VolumeConsistent", reason, sentence))
            draft.say(sentence, WORKING_SECONDS)


def plan_opening(seen: ClusterObservation) -> tuple[Opening, Action | None]:
    """Only the question who opens: also asked alone, at once, when a writer seems to be gone."""
    opening = decide_opening(seen)
    match opening:
        case OpenAt(instance, reason):
            lost = () if seen.recorded is None else seen.recorded.lost
            return opening, AskOpen(instance, reason, lost)
        case HandOverAt(writer, to, request, reason):
            return opening, AskHandOver(writer, to, request, reason)
        case RestartAt(instance, reason):
            return opening, AskRestart(instance, reason)
        case Replace(instance):
            pod = seen.instance_pod(instance)
            return opening, None if pod is None else DeletePod(pod.name, pod.uid)
        case _:
            return opening, None


def _plan_instances(draft: _Draft) -> None:
    seen = draft.seen
    opening, action = plan_opening(seen)
    if action is not None:
        # First of all: an outage counts in milliseconds, everything else can wait for it.
        draft.actions.insert(0, action)
    draft.notes += opening_notes(seen, opening)
    _plan_switchover(draft, opening)
    protected = {view.name for view in seen.instances.values() if view.role is Role.OPENING}
    if isinstance(opening, WriterOpen):
        protected.add(opening.writer)
    else:
        patient = seen.writerless_seconds > OPENING_PATIENCE_SECONDS
        draft.say(opening.reason, WORKING_SECONDS if patient else OPENING_SECONDS)
        if not isinstance(opening, WriterInDoubt):
            draft.actions.append(FillEndpoints())
    _plan_repairs(draft)
    scaling = scale_instances(
        seen.instance_pods, seen.spec.replicas, protected, isinstance(opening, WriterOpen)
    )
    for ordinal in scaling.create:
        draft.actions.append(CreateInstance(ordinal))
        draft.say("making instances", WORKING_SECONDS)
    for ordinal in scaling.remove:
        pod = seen.instance_pods[ordinal]
        draft.actions.append(DeletePod(pod.name, pod.uid))
        draft.notes.append(Note(EventKind.INSTANCE_DELETED, (pod.name,), key=pod.uid))
        draft.say("removing instances", WORKING_SECONDS)
    _plan_roles(draft, opening)
    if isinstance(opening, WriterOpen):
        _plan_rollout(draft)
        ready = ready_replicas(seen)
        if ready != seen.spec.replicas:
            draft.say(f"{ready} of {seen.spec.replicas} replicas ready", WORKING_SECONDS)
        if serving_copies(seen) < SLOT_COUNT:
            draft.say(f"{serving_copies(seen)} of 6 copies follow the writer", WORKING_SECONDS)


def _plan_switchover(draft: _Draft, opening: Opening) -> None:
    """What a person asked for by annotation."""
    step = next_switchover_step(draft.seen, opening)
    match step:
        case Accept(to, term):
            draft.actions.append(AcceptSwitchover(to, term))
            draft.say(f"switching over to {to}", 0.0)
        case HandOver(writer, to, request):
            draft.actions.insert(0, AskHandOver(writer, to, request, "a switchover was asked for"))
            kind = _failover_kind(draft.seen, writer, to)
            draft.notes.append(Note(kind, (to,), key=str(draft.seen.remembered.term or 0)))
            draft.say(f"switching over to {to}", OPENING_SECONDS)
        case Over():
            draft.actions.append(EndSwitchover())
        case Refused(to, reason):
            draft.actions.append(EndSwitchover())
            key = str(draft.seen.resource_version)
            draft.notes.append(Note(EventKind.SWITCHOVER_REFUSED, (to, reason), key=key))
        case None:
            pass


def opening_notes(seen: ClusterObservation, opening: Opening) -> list[Note]:
    """The events that a change of writer tells."""
    before, term = seen.remembered.writer, seen.remembered.term or 0
    match opening:
        case WriterOpen(writer, view):
            key = f"{view.term or 0}"
            if before is None:
                return [Note(EventKind.CLUSTER_CREATED)]
            if writer != before:
                return [Note(EventKind.FAILOVER_COMPLETED, (writer,), key=key)]
            if seen.remembered.status == ClusterPhase.FAILING_OVER:
                return [Note(EventKind.PREVIOUS_PRIMARY, (writer,), key=key)]
            return []
        case OpenAt(instance) if before is not None and instance != before:
            return [Note(_failover_kind(seen, before, instance), (instance,), key=str(term))]
        case HandOverAt(writer, to):
            return [Note(_failover_kind(seen, writer, to), (to,), key=str(term))]
        case RestartAt(instance):
            return [Note(EventKind.INSTANCE_RESTARTED, (instance,), key=str(term))]
        case Replace(instance, reason):
            return [Note(EventKind.INSTANCE_REPLACED, (instance, reason), key=str(term))]
        case Wait(reason) if before is not None and not seen.instances:
            return [Note(EventKind.NO_INSTANCE, (reason,), key=str(term))]
        case _:
            return []


def _failover_kind(
    seen: ClusterObservation, before: InstanceName, after: InstanceName
) -> EventKind:
    zone_before = seen.zone_of(seen.instance_pod(before))
    zone_after = seen.zone_of(seen.instance_pod(after))
    if zone_before is not None and zone_before == zone_after:
        return EventKind.FAILOVER_STARTED_SAME_ZONE
    return EventKind.FAILOVER_STARTED_CROSS_ZONE


def _plan_repairs(draft: _Draft) -> None:
    """Instances that will never serve again go, and come back under their names."""
    seen = draft.seen
    for _, pod in sorted(seen.instance_pods.items()):
        why = _beyond_repair(seen, pod)
        if why is None:
            continue
        draft.actions.append(DeletePod(pod.name, pod.uid, force=seen.node_lost(pod)))
        draft.notes.append(Note(EventKind.INSTANCE_REPLACED, (pod.name, why), key=pod.uid))
        draft.say(f"replacing {pod.name}: {why}", WORKING_SECONDS)


def _beyond_repair(seen: ClusterObservation, pod: PodView) -> str | None:
    if pod.ended and not pod.terminating:
        return "its pod ended"
    node = seen.node(pod.node)
    if pod.node is None or not _unheard(seen, pod):
        return None
    if node is None:
        return "its node is gone"
    if node.unready_seconds >= NODE_LOST_SECONDS:
        return f"its node {node.name} has not been ready for a minute"
    return None


def _unheard(seen: ClusterObservation, pod: PodView) -> bool:
    """Whether nothing but the node's word is left, and there is a node for a new pod.

    Kubelets that cannot report make a node look lost while its pods go on serving: an agent that
    answers proves it wrong. And when no node is ready it is the reporting that failed.
    """
    silent = InstanceName(pod.name) not in seen.instances
    long = seen.silent_seconds.get(pod.name, 0.0) >= WRITER_SILENCE_SECONDS
    return silent and long and any(node.ready and node.name != pod.node for node in seen.nodes)


def _plan_roles(draft: _Draft, opening: Opening) -> None:
    """Labels for people; a writer that is gone loses its label only to the next one."""
    if not isinstance(opening, WriterOpen):
        return
    for _, pod in sorted(draft.seen.instance_pods.items()):
        role = "writer" if pod.name == opening.writer else "replica"
        if pod.role_label != role and not pod.terminating:
            draft.actions.append(LabelRole(pod.name, role))


def _plan_rollout(draft: _Draft) -> None:
    disputed = any(problem.condition == "VolumeConsistent" for problem in draft.problems)
    pod = None if disputed else next_outdated(draft.seen)
    if draft.seen.outdated_pods:
        draft.changing = True
        draft.say(f"pods still to be replaced: {len(draft.seen.outdated_pods)}", WORKING_SECONDS)
    if pod is not None:
        draft.actions.append(DeletePod(pod.name, pod.uid, try_successor=True))
