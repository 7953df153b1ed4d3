"""Builders of snapshots for the operator's decisions: a healthy cluster, and ways to spoil it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aurora_operator.core.cluster.observation import (
    ClaimView,
    ClusterObservation,
    CopyGrade,
    CopyView,
    InstanceView,
    NodeView,
    PodView,
    Remembered,
    Role,
    SpecFacts,
    StorageClassView,
    VolumeFacts,
)
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.names import SLOT_COUNT, Identity, InstanceName, Slot, VolumeId

SYSTEM = "7300000000000000001"
VOLUME = VolumeFacts(
    VolumeId("vol-1"),
    tuple(Identity(f"s{slot}_aaaaaaaa") for slot in range(SLOT_COUNT)),
    SYSTEM,
    complete=True,
)
NEW_VOLUME = replace(VOLUME, system_identifier=None, complete=False)
NODES = tuple(NodeView(f"node-{zone}{number}", f"zone-{zone}") for zone in "abc" for number in "12")
CLASS = StorageClassView("local", expandable=True)


def name(ordinal: int) -> InstanceName:
    """``shop-instance-1``."""
    return InstanceName(f"shop-instance-{ordinal}")


def pod(pod_name: str, node: str = "node-a1", **changes: Any) -> PodView:
    """A pod that runs and is ready."""
    return PodView(pod_name, uid=f"uid-{pod_name}", ready=True, node=node, **changes)


def instance(ordinal: int, role: Role = Role.REPLICA, **changes: Any) -> InstanceView:
    """An instance that serves in its role."""
    serving = role in {Role.REPLICA, Role.WRITER}
    facts: dict[str, Any] = {
        "healthy": serving,
        "can_open": role is Role.REPLICA,
        "term": Term(2) if role is Role.WRITER else None,
        "applied_lsn": Lsn(0x2000000) if serving else None,
        "vdl": Lsn(0x2000000) if role is Role.WRITER else None,
        "door_open": serving,
        "copies_streaming": SLOT_COUNT if role is Role.WRITER else 0,
        "slots_streaming": frozenset(map(Slot, range(SLOT_COUNT)))
        if role is Role.WRITER
        else frozenset(),
    }
    return InstanceView(name(ordinal), role, **(facts | changes))


def copy(slot: int, grade: CopyGrade = CopyGrade.FULL, **changes: Any) -> CopyView:
    """A storage agent's answer."""
    full = grade is CopyGrade.FULL
    facts: dict[str, Any] = {
        "volume_id": VOLUME.volume_id if full else None,
        "system_identifier": SYSTEM if full else None,
        "log_term": Term(2) if full else None,
        "scl": Lsn(0x2000000) if full else None,
    }
    return CopyView(Slot(slot), VOLUME.identities[slot], grade, **(facts | changes))


def claim(slot: int, volume: VolumeFacts = VOLUME, **changes: Any) -> ClaimView:
    """One slot's claim, carrying the record."""
    facts: dict[str, Any] = {
        "volume_id": volume.volume_id,
        "identity": volume.identities[slot],
        "identities": volume.identities,
        "system_identifier": volume.system_identifier,
        "complete": volume.complete,
        "version": volume.version,
        "zone": f"zone-{'abc'[slot // 2]}",
        "requested_bytes": 10 * 2**30,
    }
    return ClaimView(Slot(slot), **(facts | changes))


def storage_pods() -> dict[Slot, PodView]:
    """All six storage pods."""
    return {Slot(slot): pod(f"shop-storage-{slot}", NODES[slot].name) for slot in range(SLOT_COUNT)}


def claims(volume: VolumeFacts = VOLUME) -> dict[Slot, ClaimView]:
    """All six claims."""
    return {Slot(slot): claim(slot, volume) for slot in range(SLOT_COUNT)}


def instances(*views: InstanceView) -> dict[InstanceName, InstanceView]:
    """Answers by name."""
    return {view.name: view for view in views}


def healthy(replicas: int = 1, **changes: Any) -> ClusterObservation:
    """An available cluster: instance 1 writes, the others replicate."""
    pods = {
        ordinal: pod(
            name(ordinal),
            NODES[2 * (ordinal - 1) % len(NODES)].name,
            server_running=True,
            role_label="writer" if ordinal == 1 else "replica",
        )
        for ordinal in range(1, replicas + 2)
    }
    facts: dict[str, Any] = {
        "spec": SpecFacts(replicas=replicas),
        "recorded": VOLUME,
        "configured": VOLUME,
        "remembered": Remembered("available", name(1), Term(2)),
        "storage_pods": storage_pods(),
        "instance_pods": pods,
        "claims": claims(),
        "nodes": NODES,
        "storage_class": CLASS,
        "copies": {Slot(slot): copy(slot) for slot in range(SLOT_COUNT)},
        "instances": instances(
            *(instance(ordinal, Role.WRITER if ordinal == 1 else Role.REPLICA) for ordinal in pods)
        ),
    }
    return ClusterObservation("shop", "default", **(facts | changes))


def unborn(**changes: Any) -> ClusterObservation:
    """A cluster of which nothing exists but its AuroraCluster."""
    facts: dict[str, Any] = {"nodes": NODES, "storage_class": CLASS}
    return ClusterObservation("shop", "default", **(facts | changes))


def in_birth(volume: VolumeFacts = NEW_VOLUME, **changes: Any) -> ClusterObservation:
    """A recorded volume with claims and pods, whose copies answer that they are blank."""
    facts: dict[str, Any] = {
        "recorded": volume,
        "configured": volume,
        "claims": claims(volume),
        "storage_pods": storage_pods(),
        "copies": {Slot(slot): copy(slot, CopyGrade.BLANK) for slot in range(SLOT_COUNT)},
    }
    return unborn(**(facts | changes))


def without(mapping: dict[Any, Any] | Any, *keys: object) -> dict[Any, Any]:
    """A mapping without some keys."""
    return {key: value for key, value in mapping.items() if key not in keys}
