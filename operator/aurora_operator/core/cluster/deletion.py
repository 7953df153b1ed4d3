"""Deleting a cluster, in order: instances, storage pods, objects, and the claims if that is wanted.

Each step waits until the one before it is seen to be done, so that no instance outlives its volume
and no pod holds a claim that is being deleted. The finalizer goes last: an operator that is killed
half-way finds the AuroraCluster again and goes on.
"""

from __future__ import annotations

from collections.abc import Iterable

from aurora_operator.core.cluster.actions import (
    Action,
    DeleteClaims,
    DeleteObjects,
    DeletePod,
    RemoveFinalizer,
)
from aurora_operator.core.cluster.observation import ClusterObservation, PodView
from aurora_operator.core.cluster.volume_record import Known, find_volume
from aurora_operator.core.names import Slot


def next_deletion(seen: ClusterObservation) -> tuple[tuple[Action, ...], str]:
    """The actions of this step of the deletion, and its sentence."""
    if not seen.has_finalizer:
        return (), "the cluster is gone"
    if seen.instance_pods:
        return _delete(seen, seen.instance_pods.values()), "waiting for the instances to end"
    if seen.storage_pods:
        return _delete(seen, seen.storage_pods.values()), "waiting for the storage pods to end"
    if seen.other_objects:
        return (DeleteObjects(),), "deleting Services, Secrets and accounts"
    mine = _own_claims(seen) if seen.spec.delete_volume else ()
    if mine:
        return (DeleteClaims(mine),), "deleting the volume"
    return (RemoveFinalizer(),), f"the cluster is deleted, {_fate(seen)}"


def _fate(seen: ClusterObservation) -> str:
    if not seen.spec.delete_volume:
        return "its volume is kept"
    if seen.claims:
        slots = ", ".join(str(slot) for slot in sorted(seen.claims))
        return (
            f"and the claims of slots {slots} stay: they do not tell that they are its volume. "
            "Look at them, and delete them by hand"
        )
    return "its volume is deleted"


def _own_claims(seen: ClusterObservation) -> tuple[Slot, ...]:
    """The slots whose claims hold this cluster's volume: no other claim is ever deleted."""
    finding = find_volume(seen)
    volume = finding.volume if isinstance(finding, Known) else seen.recorded
    if volume is None:
        return ()
    return tuple(
        slot for slot, claim in sorted(seen.claims.items()) if claim.volume_id == volume.volume_id
    )


def _delete(seen: ClusterObservation, pods: Iterable[PodView]) -> tuple[Action, ...]:
    return tuple(
        DeletePod(pod.name, pod.uid, force=seen.node_lost(pod))
        for pod in pods
        if not pod.terminating or seen.node_lost(pod)
    )
