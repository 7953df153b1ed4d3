"""Replacing pods whose wanted form has changed, one at a time and only while all is well.

Storage pods first, one and then all six copies full again; then replicas; the writer last, whose
deletion is a failover to a replica that is already new. Whatever is not well stops the roll, which
then goes on by itself when it is well again.
"""

from __future__ import annotations

from aurora_operator.core.cluster.failover import open_writer
from aurora_operator.core.cluster.observation import ClusterObservation, PodView
from aurora_operator.core.cluster.phases import full_copies, ready_replicas
from aurora_operator.core.names import SLOT_COUNT


def next_outdated(seen: ClusterObservation) -> PodView | None:
    """The one pod to replace now, if any may be."""
    if not seen.outdated_pods:
        return None
    writer = open_writer(seen)
    if writer is None or full_copies(seen) < SLOT_COUNT:
        return None
    pods = [*seen.storage_pods.values(), *seen.instance_pods.values()]
    if any(pod.terminating or pod.ended for pod in pods):
        return None
    storage = [
        pod for _, pod in sorted(seen.storage_pods.items()) if pod.name in seen.outdated_pods
    ]
    if storage:
        return storage[0]
    if ready_replicas(seen) < seen.spec.replicas:
        return None
    instances = [pod for _, pod in sorted(seen.instance_pods.items())]
    outdated = [pod for pod in instances if pod.name in seen.outdated_pods]
    replicas = [pod for pod in outdated if pod.name != writer.name]
    return next(iter(replicas or outdated), None)
