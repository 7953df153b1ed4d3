"""What an instance's agent says about its own pod: the condition that the operator watches.

``ServerRunning`` turns False in the moment when the server ended while the pod lives; that is the
operator's trigger for a failover. Only the condition is written, with a strategic merge patch by
type, so that the kubelet's own conditions stay as they are.
"""

from __future__ import annotations

from datetime import UTC, datetime

from aurora_operator.api.labels import SERVER_RUNNING
from aurora_operator.kube.in_pod import PodApi


class OwnPod:
    """The pod that this agent is process 1 of."""

    def __init__(self, api: PodApi, namespace: str, name: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods/{name}/status"

    async def set_server_running(self, running: bool, sentence: str) -> None:
        """Set the condition; raises what the API server answers."""
        condition = {
            "type": SERVER_RUNNING,
            "status": "True" if running else "False",
            "reason": "ServerRunning" if running else "ServerEnded",
            "message": sentence,
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        await self._api.merge(self._path, {"status": {"conditions": [condition]}})
