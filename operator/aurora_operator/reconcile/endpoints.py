"""The EndpointSlices while no writer is open.

Then nobody else moves them, and two things may go wrong: a reader slice that lacks replicas which
are ready, and either slice naming a pod that is gone, whose address Kubernetes may give to somebody
else. The term annotation is left as it is, and the resourceVersion read before the agents were
asked is sent along: a writer that opened meanwhile wins.
"""

from __future__ import annotations

from typing import Any

from aurora_operator.api import labels
from aurora_operator.reconcile.sight import Sight

Manifest = dict[str, Any]


def wanted_slices(sight: Sight) -> list[Manifest]:
    """The slices that must be replaced, as they should be."""
    name = sight.observation.name
    changed = []
    for slice_name, endpoints in (
        (labels.writer_slice(name), _without_gone(sight, labels.writer_slice(name))),
        (labels.reader_slice(name), _ready_replicas(sight)),
    ):
        live = sight.slices.get(slice_name)
        if live is None:
            continue
        if _pods(live.get("endpoints") or []) != _pods(endpoints):
            changed.append({**live, "endpoints": endpoints})
    return changed


def _pods(endpoints: list[Manifest]) -> set[tuple[str, str]]:
    return {
        ((entry.get("targetRef") or {}).get("uid", ""), address)
        for entry in endpoints
        for address in entry.get("addresses") or ()
    }


def _without_gone(sight: Sight, slice_name: str) -> list[Manifest]:
    alive = {pod.uid for pod in sight.observation.instance_pods.values() if not pod.ended}
    live = sight.slices.get(slice_name) or {}
    return [
        entry
        for entry in live.get("endpoints") or []
        if (entry.get("targetRef") or {}).get("uid") in alive
    ]


def _ready_replicas(sight: Sight) -> list[Manifest]:
    endpoints = []
    for pod in sorted(sight.observation.instance_pods.values(), key=lambda pod: pod.name):
        address = sight.addresses.get(pod.name)
        if address is None or not pod.ready or pod.terminating:
            continue
        endpoints.append(
            {
                "addresses": [address.host],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": pod.node,
                "targetRef": {
                    "kind": "Pod",
                    "namespace": sight.observation.namespace,
                    "name": pod.name,
                    "uid": pod.uid,
                },
            }
        )
    return endpoints
