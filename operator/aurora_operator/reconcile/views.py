"""From objects and messages, as they travel, to the views that decisions read.

Every function here is pure and forgiving: an object that lacks a field is one in which nothing is
known yet, never a reason to stop a whole cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aurora_operator.api import labels
from aurora_operator.api.cluster import (
    AuroraCluster,
    ClusterSpec,
    LostCopies,
    RetainPolicy,
    VolumeRecord,
)
from aurora_operator.api.convert import members_from_text
from aurora_operator.api.messages import FillPhase, FillProgress, InstanceStatus, StorageStatus
from aurora_operator.core.cluster.observation import (
    ClaimView,
    CopyGrade,
    CopyView,
    InstanceView,
    NodeView,
    PodView,
    Remembered,
    Role,
    SpecFacts,
    StorageClassView,
    SwitchoverRequest,
    VolumeFacts,
)
from aurora_operator.core.cluster.quantity import parse_quantity_bytes
from aurora_operator.core.lsn import Term
from aurora_operator.core.members import BIRTH_VERSION, MemberVersion
from aurora_operator.core.names import Identity, InstanceName, Slot, VolumeId

Manifest = dict[str, Any]

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_TOLERATED_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def labels_of(manifest: Manifest) -> Mapping[str, str]:
    """An object's labels."""
    return manifest["metadata"].get("labels") or {}


def annotations_of(manifest: Manifest) -> Mapping[str, str]:
    """An object's annotations."""
    return manifest["metadata"].get("annotations") or {}


def spec_facts(spec: ClusterSpec) -> SpecFacts:
    """The part of the spec that decisions read."""
    return SpecFacts(
        replicas=spec.replicas,
        storage_bytes=parse_quantity_bytes(spec.storage.size),
        delete_volume=spec.storage.retain_policy is RetainPolicy.DELETE,
        replace_after_seconds=spec.storage.replace_after_seconds,
        allow_zone_move=spec.storage.allow_zone_move,
        deletion_protection=spec.deletion_protection,
        parameter_overrides=spec.parameter_overrides,
        engine_version=spec.engine_version,
    )


def volume_facts(record: VolumeRecord | None) -> VolumeFacts | None:
    """The record in the status."""
    if record is None:
        return None
    return VolumeFacts(
        VolumeId(record.volume_id),
        tuple(Identity(identity) for identity in record.identities),
        record.system_identifier,
        record.complete,
        members_version(record.members_version),
        () if record.lost is None else tuple(map(Identity, record.lost.identities)),
        "" if record.lost is None else record.lost.reason,
    )


def members_version(text: str | None) -> MemberVersion:
    """``<term>.<n>``; that of the birth when there is none, or none that can be read."""
    term, _, number = (text or "").partition(".")
    if not (term.isdigit() and number.isdigit()):
        return BIRTH_VERSION
    return MemberVersion(Term(int(term)), int(number))


def lost_by_word(manifest: Manifest) -> tuple[Identity, ...]:
    """The copies that a person declared lost on the AuroraCluster."""
    text = annotations_of(manifest).get(labels.LOST_COPIES) or ""
    return tuple(Identity(name.strip()) for name in text.split(",") if name.strip())


def volume_record(volume: VolumeFacts) -> VolumeRecord:
    """And back."""
    return VolumeRecord(
        volume_id=volume.volume_id,
        identities=volume.identities,
        system_identifier=volume.system_identifier,
        complete=volume.complete,
        members_version=str(volume.version),
        lost=LostCopies(identities=volume.lost, reason=volume.lost_reason) if volume.lost else None,
    )


def configured_volume(
    config_map: Manifest | None, identities: tuple[str, ...]
) -> VolumeFacts | None:
    """The record in the agents' configuration."""
    if config_map is None:
        return None
    notes = annotations_of(config_map)
    volume_id = notes.get(labels.VOLUME_ID)
    if volume_id is None:
        return None
    return VolumeFacts(
        VolumeId(volume_id),
        tuple(Identity(identity) for identity in identities),
        notes.get(labels.SYSTEM_IDENTIFIER),
        notes.get(labels.VOLUME_COMPLETE) == "true",
        members_version(notes.get(labels.MEMBERS_VERSION)),
    )


def remembered(cluster: AuroraCluster) -> Remembered:
    """What the status said."""
    status = cluster.status
    return Remembered(
        status=status.status,
        writer=None if status.writer is None else InstanceName(status.writer),
        term=None if status.term is None else Term(status.term),
    )


def switchover_request(manifest: Manifest) -> SwitchoverRequest | None:
    """What the AuroraCluster's annotation asks for; see ``accepted_switchover``."""
    words = annotations_of(manifest).get(labels.SWITCHOVER, "").split()
    if not words:
        return None
    details = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    term = details.get("term", "")
    return SwitchoverRequest(
        to=words[0],
        term=Term(int(term)) if term.isdigit() else None,
        request=details.get("request", ""),
    )


def accepted_switchover(to: InstanceName, term: Term, resource_version: str) -> str:
    """The annotation of a request that was accepted as it stood in ``resource_version``."""
    return f"{to} term={term} request={resource_version}"


def pod_view(pod: Manifest) -> PodView:
    """One pod."""
    status = pod.get("status") or {}
    conditions = {entry["type"]: entry for entry in status.get("conditions") or ()}
    running = conditions.get(labels.SERVER_RUNNING, {}).get("status")
    return PodView(
        name=pod["metadata"]["name"],
        uid=pod["metadata"]["uid"],
        phase=status.get("phase") or "Pending",
        ready=conditions.get("Ready", {}).get("status") == "True",
        terminating="deletionTimestamp" in pod["metadata"],
        node=(pod.get("spec") or {}).get("nodeName"),
        server_running=None if running is None else running == "True",
        waiting=_waiting(status, conditions),
        template_hash=annotations_of(pod).get(labels.TEMPLATE_HASH),
        role_label=labels_of(pod).get(labels.ROLE),
    )


def _waiting(status: Manifest, conditions: Mapping[str, Manifest]) -> str:
    """Why a pod does not run, when the reason is one that does not go away by itself."""
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return f"cannot be scheduled: {scheduled.get('message', '')}"
    patient = {"ContainerCreating", "PodInitializing", ""}
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason", "") not in patient:
            return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    return ""


def claim_view(claim: Manifest) -> ClaimView | None:
    """One claim; ``None`` when it carries no slot."""
    slot = labels_of(claim).get(labels.SLOT)
    if slot is None or not slot.isdigit():
        return None
    notes = annotations_of(claim)
    requested = claim["spec"].get("resources", {}).get("requests", {}).get("storage", "0")
    identity, volume_id = notes.get(labels.IDENTITY), notes.get(labels.VOLUME_ID)
    identities = notes.get(labels.IDENTITIES) or ""
    return ClaimView(
        slot=Slot(int(slot)),
        volume_id=None if volume_id is None else VolumeId(volume_id),
        identity=None if identity is None else Identity(identity),
        identities=tuple(Identity(name) for name in identities.split(",") if name),
        system_identifier=notes.get(labels.SYSTEM_IDENTIFIER),
        complete=notes.get(labels.VOLUME_COMPLETE) == "true",
        version=members_version(notes.get(labels.MEMBERS_VERSION)),
        zone=notes.get(labels.ZONE),
        requested_bytes=parse_quantity_bytes(requested),
        terminating="deletionTimestamp" in claim["metadata"],
        owned_by_other=volume_id is None,
    )


def node_view(node: Manifest, unready_seconds: float) -> NodeView:
    """One node."""
    spec = node.get("spec") or {}
    taints = [
        taint
        for taint in spec.get("taints") or ()
        if taint.get("effect") != "PreferNoSchedule" and taint.get("key") not in _TOLERATED_TAINTS
    ]
    return NodeView(
        name=node["metadata"]["name"],
        zone=labels_of(node).get(labels.ZONE_LABEL),
        schedulable=not spec.get("unschedulable") and not taints,
        ready=node_is_ready(node),
        unready_seconds=unready_seconds,
    )


def node_is_ready(node: Manifest) -> bool:
    """Whether the node's Ready condition is true."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def storage_class_view(
    name: str | None, classes: list[Manifest]
) -> tuple[StorageClassView | None, str | None]:
    """The class that claims use, or why there is none."""
    if name is not None:
        found = next((entry for entry in classes if entry["metadata"]["name"] == name), None)
        if found is None:
            known = ", ".join(sorted(entry["metadata"]["name"] for entry in classes)) or "none"
            return None, (
                f"storage class {name} does not exist, so the volume cannot be made (there are: "
                f"{known}). Create the class, or delete this AuroraCluster and name another one"
            )
    else:
        found = next(
            (entry for entry in classes if annotations_of(entry).get(_DEFAULT_CLASS) == "true"),
            None,
        )
        if found is None:
            return None, (
                "storage.storageClassName is not set and there is no default storage class, so the "
                "volume cannot be made. Mark a class as default, or name one"
            )
    return StorageClassView(
        found["metadata"]["name"], bool(found.get("allowVolumeExpansion"))
    ), None


def copy_view(status: StorageStatus) -> CopyView:
    """A storage agent's answer."""
    known = status.known_vdl
    return CopyView(
        slot=status.slot,
        identity=status.identity,
        grade=CopyGrade(status.state.value),
        volume_id=status.volume_id,
        system_identifier=status.system_identifier,
        log_term=status.history[-1].term if status.history else None,
        promised_term=status.promise.term if status.promise else None,
        scl=status.scl,
        members=None if status.members is None else members_from_text(status.members),
        progress=_progress(status.fill),
        vdl_term=known.term if known else None,
        vdl=known.lsn if known else None,
        pressure=status.pressure.state,
        pressure_sentence=status.pressure.sentence,
        sentence=status.sentence,
    )


def _progress(fill: FillProgress | None) -> str:
    if fill is None:
        return ""
    if fill.phase is FillPhase.LOG:
        return "pages are here, taking the rest of the log"
    here, total = fill.base_bytes >> 20, fill.base_bytes_total >> 20
    return f"{here} of about {total} MiB of pages" if total else "pages are on their way"


def instance_view(status: InstanceStatus) -> InstanceView:
    """An instance agent's answer."""
    asked = status.hand_over
    return InstanceView(
        name=status.name,
        role=Role(status.role.value),
        healthy=status.healthy,
        can_open=status.can_open,
        restartable=status.restartable,
        term=status.term,
        applied_lsn=status.applied_lsn,
        vdl=status.vdl.lsn if status.vdl else None,
        door_open=status.door_open,
        copies_streaming=sum(1 for copy in status.copies if copy.streaming),
        slots_streaming=frozenset(copy.slot for copy in status.copies if copy.streaming),
        server_version=status.server_version,
        handing_over_to=asked.to if asked is not None and asked.running else None,
        hand_over_request=asked.request if asked is not None else "",
        sentence=status.sentence,
        hand_over_sentence=asked.sentence if asked is not None else "",
    )
