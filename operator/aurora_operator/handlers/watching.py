"""The operator as Kopf runs it: watches of AuroraClusters, of their pods, and of nodes.

Kopf is used for what it does best, watching reliably, with server-side label selectors. Its
handlers write nothing: no finalizer, no annotation, no progress; the loop owns the object. So
Kopf needs no state of its own, and an operator can be killed between any two calls.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import kopf

from aurora_operator.api import labels
from aurora_operator.handlers.loops import Loops
from aurora_operator.reconcile import views
from aurora_operator.reconcile.observe import ClusterName, Surroundings
from aurora_operator.reconcile.triggers import is_urgent


def build_registry(loops: Loops) -> kopf.OperatorRegistry:
    """The handlers."""
    registry = kopf.OperatorRegistry()
    nodes_ready: dict[str, bool] = {}

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:  # noqa: ANN401 - Kopf's own kwargs
        """The pod's own account, or a kubeconfig's current context."""
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(labels.GROUP, labels.VERSION, labels.PLURAL, registry=registry)
    async def cluster_changed(event: kopf.RawEvent, **_: object) -> None:
        """A cluster is new, gone, or what is wanted of it changed."""
        metadata = cast("dict[str, Any]", event["object"])["metadata"]
        cluster = ClusterName(metadata["namespace"], metadata["name"])
        if event["type"] == "DELETED":
            loops.wake(cluster)
            return
        keys = ("uid", "generation", "deletionTimestamp")
        asked = (metadata.get("annotations") or {}).get(labels.SWITCHOVER)
        loops.changed(cluster, (*(metadata.get(key) for key in keys), asked))

    @kopf.on.event("", "v1", "pods", labels={labels.CLUSTER: kopf.PRESENT}, registry=registry)
    async def pod_changed(event: kopf.RawEvent, **_: object) -> None:
        """A pod of a cluster came, went or changed."""
        pod = cast("dict[str, Any]", event["object"])
        metadata = pod["metadata"]
        cluster = ClusterName(metadata["namespace"], metadata["labels"][labels.CLUSTER])
        loops.wake(cluster, urgent=is_urgent(event["type"], pod))

    @kopf.on.event("", "v1", "nodes", registry=registry)
    async def node_changed(event: kopf.RawEvent, **_: object) -> None:
        """A node went or came back; its heartbeats are no news."""
        node = cast("dict[str, Any]", event["object"])
        name = node["metadata"]["name"]
        ready = event["type"] != "DELETED" and views.node_is_ready(node)
        if nodes_ready.get(name) not in {None, ready}:
            loops.wake_all()
        nodes_ready[name] = ready

    return registry


def build_settings() -> kopf.OperatorSettings:
    """Settings under which Kopf writes nothing and watches only what is ours."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.finalizer = f"{labels.GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=labels.GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=labels.GROUP)
    settings.watching.label_selectors["", "v1", "pods"] = labels.CLUSTER
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = (0.2, 0.5, 1, 2, 5)
    settings.queueing.exit_timeout = 1.0
    return settings


async def run_watching(around: Surroundings, watching: asyncio.Event) -> None:
    """Watch, and run a loop for each cluster, until cancelled; sets ``watching`` once it does."""
    loops = Loops(around)
    try:
        await kopf.operator(
            registry=build_registry(loops),
            settings=build_settings(),
            standalone=True,
            clusterwide=True,
            ready_flag=watching,
        )
    finally:
        await loops.close()
