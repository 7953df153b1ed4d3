"""What an instance's agent says about its own pod: the condition that the operator watches.

``ServerRunning`` turns False in the moment when the server ended while the pod lives; that is the
operator's trigger for a failover. Only the condition is written, with a strategic merge patch by
type, so that the kubelet's own conditions stay as they are.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

from kubernetes.aio.client import ApiClient, CoreV1Api

from aurora_operator.api.labels import SERVER_RUNNING

_CALL_TIMEOUT_SECONDS: Final = 3.0


class OwnPod:
    """The pod that this agent is process 1 of."""

    def __init__(self, api: ApiClient, namespace: str, name: str) -> None:
        self._core = CoreV1Api(api)
        self._namespace = namespace
        self._name = name

    async def set_server_running(self, running: bool, sentence: str) -> None:
        """Set the condition; raises what the API server answers."""
        condition = {
            "type": SERVER_RUNNING,
            "status": "True" if running else "False",
            "reason": "ServerRunning" if running else "ServerEnded",
            "message": sentence,
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        async with asyncio.timeout(_CALL_TIMEOUT_SECONDS):
            await self._core.patch_namespaced_pod_status(
                self._name,
                self._namespace,
                {"status": {"conditions": [condition]}},
                _content_type="application/strategic-merge-patch+json",
            )
