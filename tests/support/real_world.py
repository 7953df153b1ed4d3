"""The operator's small world on a real API server: what it does not allow to be faked is done."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aurora_operator.kube.api import Kind, Manifest
from aurora_operator.kube.client import KubeClient
from support.api_server import raw
from support.operator_world import World

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@dataclass
class RealWorld(World):
    """A namespace under the restricted pod security standard; the kubelets' side acts as admin."""

    async def tick(self) -> None:
        await super().tick()
        for claim in self.claims.values():
            if (claim.get("status") or {}).get("phase") != "Bound":
                bound = {**claim, "status": {"phase": "Bound"}}
                await self.kube.replace_status(Kind.CLAIM, self.namespace, bound)

    async def abandon(self) -> None:
        """Take the AuroraCluster away, so that no later operator looks after it."""
        for cluster in await self.kube.list(Kind.CLUSTER, self.namespace):
            name = cluster["metadata"]["name"]
            await self.kube.patch(
                Kind.CLUSTER, self.namespace, name, {"metadata": {"finalizers": []}}
            )
            await self.kube.delete(Kind.CLUSTER, self.namespace, name)

    async def bind(self, pod: Manifest, node: str) -> None:
        name = pod["metadata"]["name"]
        assert isinstance(self.kube, KubeClient)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": self.namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/binding"
        await raw(self.kube, "POST", path, binding)


@asynccontextmanager
async def real_world(admin: KubeClient, name: str = "test") -> AsyncIterator[RealWorld]:
    """A world in a namespace of its own, abandoned at the end."""
    namespace = f"{name}-{uuid.uuid4().hex[:8]}"
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "labels": RESTRICTED},
    }
    await raw(admin, "POST", "/api/v1/namespaces", manifest)
    world = RealWorld(admin, namespace)
    await world.prepare()
    try:
        yield world
    finally:
        await world.abandon()
