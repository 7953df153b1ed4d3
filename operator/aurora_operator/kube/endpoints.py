"""The two EndpointSlices of a cluster, moved by the agent of the open writer.

A slice is read, compared and replaced with the resourceVersion that was read, so that two writers
of different terms cannot undo each other: the annotation holds the term of the writer that set it
and never falls. The operator makes the slices and fills them only while no writer is open. When
the API server is away the data is safe; the slices follow once it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from kubernetes.aio.client import (
    ApiClient,
    ApiException,
    CoreV1Api,
    DiscoveryV1Api,
    V1EndpointSlice,
)

from aurora_operator.api.labels import COMPONENT_INSTANCE, TERM, cluster_selector
from aurora_operator.core.lsn import Term

_CALL_TIMEOUT_SECONDS: Final = 3.0
_CONFLICTS_MAX: Final = 5
UNREACHABLE: Final = (ApiException, aiohttp.ClientError, OSError, TimeoutError)
"""What a call to the API server may raise."""


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

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self._discovery = DiscoveryV1Api(api)
        self._core = CoreV1Api(api)
        self._namespace = namespace

    async def point(
        self, name: str, targets: Sequence[EndpointTarget], port: int, term: Term
    ) -> SliceOutcome:
        """Let the slice ``name`` name exactly ``targets``, unless a higher term set it."""
        for _ in range(_CONFLICTS_MAX):
            async with asyncio.timeout(_CALL_TIMEOUT_SECONDS):
                found = await self._discovery.read_namespaced_endpoint_slice(name, self._namespace)
            body = self._discovery.api_client.sanitize_for_serialization(found)
            set_by = int((body["metadata"].get("annotations") or {}).get(TERM) or 0)
            if set_by > term:
                return SliceOutcome(False, True, f"{name} belongs to term {set_by} already")
            wanted = wanted_slice(body, targets, port, term)
            if wanted == body:
                return SliceOutcome(False, False, f"{name} is as it should be")
            try:
                async with asyncio.timeout(_CALL_TIMEOUT_SECONDS):
                    await self._discovery.replace_namespaced_endpoint_slice(
                        name, self._namespace, V1EndpointSlice.model_validate(wanted)
                    )
            except ApiException as error:
                if error.status != HTTPStatus.CONFLICT:
                    raise
                continue
            pods = ", ".join(target.pod for target in targets) or "nobody"
            return SliceOutcome(True, False, f"{name} names {pods} for term {term}")
        return SliceOutcome(False, False, f"{name} kept changing under our hands; trying later")

    async def ready_instances(self, cluster: str) -> list[EndpointTarget]:
        """The cluster's instance pods that Kubernetes calls ready, in order of name."""
        async with asyncio.timeout(_CALL_TIMEOUT_SECONDS):
            pods = await self._core.list_namespaced_pod(
                self._namespace, label_selector=cluster_selector(cluster, COMPONENT_INSTANCE)
            )
        body = self._core.api_client.sanitize_for_serialization(pods)
        return sorted(
            EndpointTarget(
                pod["metadata"]["name"],
                pod["status"]["podIP"],
                pod["metadata"]["uid"],
                pod["spec"].get("nodeName"),
            )
            for pod in body["items"]
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
