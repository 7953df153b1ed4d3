"""Replacing pods whose wanted form has changed, one at a time and only while all is well.

Storage pods first, one and then all six copies full, streaming and caught up again; then replicas;
the writer last, whose deletion is a switchover to a replica that is already new. Whatever is not
well stops the roll, which then goes on by itself when it is well again. Only a pod that serves
nothing (its image is missing, it ends at once) goes without waiting: it may be what is not well.
"""

from __future__ import annotations

from typing import Final

from aurora_operator.core.cluster.failover import open_writer
from aurora_operator.core.cluster.observation import ClusterObservation, InstanceView, PodView
from aurora_operator.core.cluster.phases import full_copies, ready_replicas
from aurora_operator.core.lsn import SEGMENT_BYTES
from aurora_operator.core.names import SLOT_COUNT

LAG_BYTES_MAX: Final = SEGMENT_BYTES
"""How far a copy may be behind the durable point and still count as caught up."""


def stuck_outdated(seen: ClusterObservation) -> tuple[PodView, ...]:
    """Pods of an old form that serve nothing: only a new form may help, so nothing is waited for.

    Such a pod does not start, or its kubelet says it is not ready and its agent is silent. On a
    lost node neither word counts: it may well serve.
    """
    answering = {pod.name for slot, pod in seen.storage_pods.items() if slot in seen.copies}
    answering |= {str(name) for name in seen.instances}
    pods = [*seen.storage_pods.values(), *seen.instance_pods.values()]
    return tuple(
        pod
        for pod in pods
        if pod.name in seen.outdated_pods
        and (pod.waiting or not (pod.ready or pod.name in answering or seen.node_lost(pod)))
        and not (pod.terminating or pod.ended)
    )


def next_outdated(seen: ClusterObservation) -> PodView | None:
    """The one pod to replace now, if any may be."""
    if not seen.outdated_pods:
        return None
    writer = open_writer(seen)
    if writer is None or not _copies_follow(seen, writer):
        return None
    pods = [*seen.storage_pods.values(), *seen.instance_pods.values()]
    if any(pod.terminating or pod.ended or pod.waiting for pod in pods):
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


def _copies_follow(seen: ClusterObservation, writer: InstanceView) -> bool:
    """All six are full, take the writer's log, and hold it up to about the durable point.

    A copy that has just come back is full at once and behind for a while: were the next one taken
    away before it has caught up, three might be behind together, and writes would wait.
    """
    if full_copies(seen) < SLOT_COUNT or writer.copies_streaming < SLOT_COUNT:
        return False
    durable = writer.vdl or 0
    return all((copy.scl or 0) + LAG_BYTES_MAX >= durable for copy in seen.copies.values())
