"""What every builder needs to know of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aurora_operator.api import labels
from aurora_operator.api.cluster import ClusterSpec
from aurora_operator.core.cluster.draining import KEEP

Manifest = dict[str, Any]
"""A Kubernetes object as plain data, as it travels."""


@dataclass(frozen=True)
class ClusterContext:
    """One AuroraCluster: its name, its identity in Kubernetes, and what it asks for."""

    name: str
    namespace: str
    uid: str
    spec: ClusterSpec
    engine_image: str
    log_level: str = "info"
    engine_pull_secrets: tuple[str, ...] = ()
    """Secrets of the cluster's namespace with which nodes pull the engine image."""
    storage_pods_to_keep: int = KEEP
    """What no eviction may go below."""

    def owner_reference(self) -> Manifest:
        """What makes Kubernetes delete an object with its cluster."""
        return {
            "apiVersion": labels.API_VERSION,
            "kind": labels.KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def metadata(self, name: str, component: str | None = None) -> Manifest:
        """Metadata of an object that goes with the cluster."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": labels.cluster_labels(self.name, component),
            "ownerReferences": [self.owner_reference()],
        }
