"""The claims of the volume.

A claim belongs to the volume, not to the AuroraCluster: it carries no owner reference, so that it
survives the cluster's deletion when ``storage.retainPolicy`` is Retain, and it carries the birth
record, so that the cluster can be found again from its claims alone.
"""

from __future__ import annotations

from aurora_operator.api import labels
from aurora_operator.core.cluster.observation import VolumeFacts
from aurora_operator.core.cluster.quantity import whole_quantity
from aurora_operator.core.names import Slot
from aurora_operator.resources.context import ClusterContext, Manifest


def build_claim(
    cluster: ClusterContext, slot: Slot, zone: str | None, volume: VolumeFacts
) -> Manifest:
    """The claim of one slot."""
    metadata = cluster.metadata(labels.claim_name(cluster.name, slot), labels.COMPONENT_STORAGE)
    del metadata["ownerReferences"]
    metadata["labels"][labels.SLOT] = str(slot)
    metadata["annotations"] = claim_annotations(slot, volume)
    if zone is not None:
        metadata["annotations"][labels.ZONE] = zone
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": whole_quantity(cluster.spec.storage.size)}},
    }
    if cluster.spec.storage.storage_class_name is not None:
        spec["storageClassName"] = cluster.spec.storage.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": spec,
    }


def claim_annotations(slot: Slot, volume: VolumeFacts) -> dict[str, str]:
    """The record of the volume as a claim carries it."""
    annotations = {
        labels.VOLUME_ID: volume.volume_id,
        labels.IDENTITY: volume.identities[slot],
        labels.IDENTITIES: ",".join(volume.identities),
        labels.MEMBERS_VERSION: str(volume.version),
    }
    if volume.system_identifier is not None:
        annotations[labels.SYSTEM_IDENTIFIER] = volume.system_identifier
    if volume.complete:
        annotations[labels.VOLUME_COMPLETE] = "true"
    return annotations
