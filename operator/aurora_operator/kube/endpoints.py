"""The two EndpointSlices of a cluster, moved by the agent of the open writer.

A slice is read, compared and replaced with the resourceVersion that was read, so that two writers
of different terms cannot undo each other: the annotation holds the term of the writer that set it
and never falls. The operator makes the slices and fills them only while no writer is open. When
the API server is away the data is safe; the slices follow once it is back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aurora_operator.api.labels import COMPONENT_INSTANCE, TERM, cluster_selector
from aurora_operator.core.lsn import Term
from aurora_operator.kube.in_pod import ApiRefused, PodApi

_CONFLICTS_MAX: Final = 5


@dataclass(frozen=True, order=True)
class EndpointTarget:
    """A pod that clients may be sent to."""

    pod: str
    ip: str
    uid: str | None = None
    node: str | None = None


@dataclass(frozen=True)
class SliceOutcome:
    """What became of one slice."""

    moved: bool
    superseded: bool
    """A writer of a higher term set it."""
    sentence: str


class EndpointSlices:
    """Reads and writes the slices of one namespace."""

    def __init__(self, api: PodApi, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    async def point(
        self, name: str, targets: Sequence[EndpointTarget], port: int, term: Term
    ) -> SliceOutcome:
        """Let the slice ``name`` name exactly ``targets``, unless a higher term set it."""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices/{name}"
        for _ in range(_CONFLICTS_MAX):
            found = await self._api.get(path)
            set_by = int((found["metadata"].get("annotations") or {}).get(TERM) or 0)
            if set_by > term:
                return SliceOutcome(False, True, f"{name} belongs to term {set_by} already")
            wanted = wanted_slice(found, targets, port, term)
            if wanted == found:
                return SliceOutcome(False, False, f"{name} is as it should be")
            try:
                await self._api.replace(path, wanted)
            except ApiRefused as error:
                if not error.is_conflict:
                    raise
                continue
            pods = ", ".join(target.pod for target in targets) or "nobody"
            return SliceOutcome(True, False, f"{name} names {pods} for term {term}")
        return SliceOutcome(False, False, f"{name} kept changing under our hands; trying later")

    async def ready_instances(self, cluster: str) -> list[EndpointTarget]:
        """The cluster's instance pods that Kubernetes calls ready, in order of name."""
        pods = await self._api.get(
            f"/api/v1/namespaces/{self._namespace}/pods",
            {"labelSelector": cluster_selector(cluster, COMPONENT_INSTANCE)},
        )
        return sorted(
            EndpointTarget(
                pod["metadata"]["name"],
                pod["status"]["podIP"],
                pod["metadata"]["uid"],
                pod["spec"].get("nodeName"),
            )
            for pod in pods["items"]
            if _is_ready(pod)
        )


def wanted_slice(
    found: dict[str, Any], targets: Sequence[EndpointTarget], port: int, term: Term
) -> dict[str, Any]:
    """``found`` with the endpoints, port and term that it should have; all else is kept."""
    metadata = dict(found["metadata"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), TERM: str(term)}
    return {
        **found,
        "metadata": metadata,
        "ports": [{"name": "postgresql", "port": port, "protocol": "TCP"}],
        "endpoints": [_endpoint(target, metadata["namespace"]) for target in sorted(targets)],
    }


def _endpoint(target: EndpointTarget, namespace: str) -> dict[str, Any]:
    reference = {"kind": "Pod", "name": target.pod, "namespace": namespace}
    if target.uid is not None:
        reference["uid"] = target.uid
    endpoint: dict[str, Any] = {
        "addresses": [target.ip],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "targetRef": reference,
    }
    if target.node is not None:
        endpoint["nodeName"] = target.node
    return endpoint


def _is_ready(pod: dict[str, Any]) -> bool:
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp") or not status.get("podIP"):
        return False
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in status.get("conditions") or ()
    )
