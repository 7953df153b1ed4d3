"""The status that a cycle leaves behind, made from what it saw and what it planned."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from aurora_operator.api import labels
from aurora_operator.api.cluster import (
    ClusterMember,
    ClusterStatus,
    Condition,
    MasterUserSecret,
    VolumeCopy,
)
from aurora_operator.core.cluster.failover import open_writer
from aurora_operator.core.cluster.observation import ClusterObservation, VolumeFacts
from aurora_operator.core.cluster.phases import (
    Verdict,
    instance_phase,
    ready_replicas,
    serving_copies,
)
from aurora_operator.core.cluster.plan import Plan
from aurora_operator.core.names import SLOT_COUNT, Slot
from aurora_operator.core.pressure import Pressure
from aurora_operator.kube.api import Kind
from aurora_operator.reconcile.sight import Sight

Manifest = dict[str, Any]


def build_status(
    sight: Sight,
    plan: Plan,
    refusals: Sequence[str],
    now: datetime,
    foreign: Collection[tuple[Kind, str]] = (),
) -> dict[str, Any]:
    """``status`` as it should be now; ``foreign`` objects are in the way of ours."""
    seen = sight.observation
    before = sight.cluster.status
    writer = open_writer(seen)
    spec = sight.cluster.spec
    alive = [pod for pod in seen.instance_pods.values() if not pod.terminating]
    ready = ready_replicas(seen)
    # The record stands in the manifest as last written, which an action of this cycle may have
    # changed; it is never taken from anywhere else.
    record = (sight.manifest.get("status") or {}).get("volume")
    status = ClusterStatus(
        status=plan.phase.value,
        endpoint=_endpoint(seen, seen.name, foreign),
        reader_endpoint=_endpoint(seen, labels.reader_service(seen.name), foreign),
        port=spec.port,
        writer=writer.name if writer is not None else before.writer,
        term=_term(seen, before.term),
        vdl=_vdl(seen, before.vdl),
        replicas=max(0, len(alive) - 1),
        ready_replicas=ready,
        replicas_ready=f"{ready}/{spec.replicas}",
        copies_ready=f"{serving_copies(seen)}/{SLOT_COUNT}",
        selector=labels.cluster_selector(seen.name, labels.COMPONENT_INSTANCE),
        db_cluster_members=_members(seen),
        copies=_copies(seen, plan.volume),
        volume=None,
        master_user_secret=MasterUserSecret(name=labels.master_secret_name(seen.name)),
        server_version=writer.server_version if writer is not None else before.server_version,
        observed_generation=seen.generation,
        conditions=_conditions(
            _with_refusals(plan.conditions, refusals), before.conditions, seen.generation, now
        ),
    )
    built = status.model_dump(by_alias=True, mode="json", exclude_none=True)
    if record is not None:
        built["volume"] = record
    return built


def _term(seen: ClusterObservation, before: int | None) -> int | None:
    writer = open_writer(seen)
    if writer is not None and writer.term is not None:
        return writer.term
    return before


def _vdl(seen: ClusterObservation, before: str | None) -> str | None:
    """The writer's own word; without one the highest point that a copy knows, in its term."""
    writer = open_writer(seen)
    if writer is not None and writer.vdl is not None:
        return str(writer.vdl)
    known = [
        (copy.vdl_term or 0, copy.vdl) for copy in seen.copies.values() if copy.vdl is not None
    ]
    return str(max(known)[1]) if known else before


def _members(seen: ClusterObservation) -> tuple[ClusterMember, ...]:
    writer = open_writer(seen)
    return tuple(
        ClusterMember(
            db_instance_identifier=pod.name,
            is_cluster_writer=writer is not None and pod.name == writer.name,
            db_instance_status=instance_phase(seen, pod).value,
            zone=seen.zone_of(pod),
            node=pod.node,
        )
        for _, pod in sorted(seen.instance_pods.items())
    )


def _copies(seen: ClusterObservation, volume: VolumeFacts | None) -> tuple[VolumeCopy, ...]:
    if volume is None:
        return ()
    copies = []
    for number in range(SLOT_COUNT):
        slot = Slot(number)
        pod, answer = seen.storage_pods.get(slot), seen.copies.get(slot)
        claim = seen.claims.get(slot)
        copies.append(
            VolumeCopy(
                slot=slot,
                identity=answer.identity if answer is not None else volume.identities[slot],
                pod=labels.storage_pod_name(seen.name, slot),
                zone=seen.zone_of(pod) or (claim.zone if claim is not None else None),
                node=pod.node if pod is not None else None,
                state=answer.grade.value if answer is not None else "silent",
                progress=answer.progress or None if answer is not None else None,
                scl=str(answer.scl) if answer is not None and answer.scl is not None else None,
                pressure=None
                if answer is None or answer.pressure is Pressure.NONE
                else answer.pressure.value,
            )
        )
    return tuple(copies)


def _with_refusals(verdicts: Sequence[Verdict], refusals: Sequence[str]) -> list[Verdict]:
    """The plan's conditions and Reconciled; nothing is ready that could not be carried out."""
    if not refusals:
        done = "every action of the last cycle was carried out"
        return [*verdicts, Verdict("Reconciled", True, "Done", done)]
    told = "; ".join(refusals)[:1024]
    judged = [
        Verdict("Ready", False, "NotReady", told)
        if verdict.type == "Ready" and verdict.status
        else verdict
        for verdict in verdicts
    ]
    return [*judged, Verdict("Reconciled", False, "ActionRefused", told)]


def _endpoint(
    seen: ClusterObservation, service: str, foreign: Collection[tuple[Kind, str]]
) -> str | None:
    """Where clients connect; nowhere while somebody else's Service has the name."""
    if (Kind.SERVICE, service) in foreign or service in seen.foreign_services:
        return None
    return f"{service}.{seen.namespace}.svc"


def _conditions(
    verdicts: Sequence[Verdict], before: Sequence[Condition], generation: int, now: datetime
) -> tuple[Condition, ...]:
    known = {condition.type: condition for condition in before}
    moment = _moment(now)
    conditions = []
    for verdict in verdicts:
        word = "True" if verdict.status else "False"
        old = known.get(verdict.type)
        unchanged = old is not None and old.status == word
        conditions.append(
            Condition(
                type=verdict.type,
                status=word,
                reason=verdict.reason,
                message=verdict.message,
                last_transition_time=old.last_transition_time if old and unchanged else moment,
                observed_generation=generation,
            )
        )
    return tuple(conditions)


def with_trouble(
    before: Sequence[Manifest], condition: str, reason: str, message: str, now: datetime
) -> list[Manifest]:
    """Conditions as they were, but for the one in trouble, and Ready, which cannot hold then.

    A time stays as long as the word beside it does, so that nothing changes while trouble lasts.
    """
    known = {entry["type"]: entry for entry in before}
    wanted = {condition: (reason, message), "Ready": ("NotReady", message)}
    changed = []
    for kind, (why, told) in wanted.items():
        old = known.get(kind, {})
        lasts = old.get("status") == "False" and "lastTransitionTime" in old
        changed.append(
            {
                **old,
                "type": kind,
                "status": "False",
                "reason": why,
                "message": told,
                "lastTransitionTime": old["lastTransitionTime"] if lasts else _moment(now),
            }
        )
    by_kind = {entry["type"]: entry for entry in changed}
    kept = [by_kind.pop(entry["type"], entry) for entry in before]
    return [*kept, *by_kind.values()]


def _moment(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
