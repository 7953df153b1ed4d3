"""One AuroraCluster as tests and the demo see it: apply it, wait for it, ask it, name its parts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.kube import Kube, Object
from support.waiting import NotYet, wait_for

KIND = "auroraclusters.aurora-operator.io"
CLUSTER_LABEL = "aurora-operator.io/cluster"
COMPONENT_LABEL = "app.kubernetes.io/component"
SLOT_LABEL = "aurora-operator.io/slot"
AVAILABLE_TIMEOUT_SECONDS = 180.0


def manifest(name: str, namespace: str, **spec: Any) -> Object:
    """A small AuroraCluster; keywords are fields of its spec."""
    wanted: Object = {
        "engine": "aurora-postgresql",
        "replicas": 1,
        "storage": {"size": "1Gi", "retainPolicy": "Delete"},
    }
    return {
        "apiVersion": "aurora-operator.io/v1alpha1",
        "kind": "AuroraCluster",
        "metadata": {"name": name, "namespace": namespace},
        "spec": wanted | spec,
    }


@dataclass(frozen=True)
class Aurora:
    """A handle on one AuroraCluster."""

    kube: Kube
    namespace: str
    name: str = "shop"

    def apply(self, **spec: Any) -> None:
        """Create it, or change it to this spec."""
        self.kube.apply(manifest(self.name, self.namespace, **spec))

    def object(self) -> Object:
        """The whole object as it is now."""
        return self.kube.get(KIND, self.name, self.namespace)

    def status(self) -> Object:
        """Its status; empty before the operator saw it."""
        found: Object = self.object().get("status", {})
        return found

    def patch(self, spec: Object) -> None:
        """Merge into the spec."""
        body = json.dumps({"spec": spec})
        words = ("patch", KIND, self.name, "--namespace", self.namespace, "--type", "merge")
        self.kube.run(*words, "--patch", body)

    def wait(
        self, what: str, problem: Callable[[Object], str | None], *, timeout_seconds: float
    ) -> Object:
        """Wait until `problem(status)` is None; the error tells the last status in one line."""

        def probe() -> Object:
            status = self.status()
            missing = problem(status)
            if missing is not None:
                raise NotYet(f"{missing}; {self.summary(status)}")
            return status

        return wait_for(
            f"{self.namespace}/{self.name}: {what}",
            probe,
            timeout_seconds=timeout_seconds,
            interval_seconds=0.5,
        )

    def wait_available(
        self,
        *,
        replicas: int = 1,
        copies: int = 6,
        timeout_seconds: float = AVAILABLE_TIMEOUT_SECONDS,
    ) -> Object:
        """Wait until it is available with this many ready replicas and full copies."""

        def problem(status: Object) -> str | None:
            wanted = (
                ("status", "available"),
                ("replicasReady", f"{replicas}/{replicas}"),
                ("copiesReady", f"{copies}/6"),
            )
            wrong = [f"{key}={status.get(key)}" for key, word in wanted if status.get(key) != word]
            return ", ".join(wrong) or None

        return self.wait("is available", problem, timeout_seconds=timeout_seconds)

    def summary(self, status: Object) -> str:
        """One line for an error: status, conditions that are not well, pods that are not ready."""
        conditions = [
            f"{c['type']}={c['status']} {c['reason']}: {c['message']}"
            for c in status.get("conditions", [])
            if c["status"] != "True"
        ]
        pods = [
            f"{pod['metadata']['name']}={pod['status'].get('phase')}"
            for pod in self.pods()
            if not is_ready(pod)
        ]
        words = [f"status={status.get('status')}", f"writer={status.get('writer')}"]
        return "; ".join([*words, *conditions, "not ready: " + (", ".join(pods) or "none")])

    def pods(self, component: str | None = None) -> list[Object]:
        """Its pods: all, or those of `storage` or `instance`."""
        selector = f"{CLUSTER_LABEL}={self.name}"
        if component is not None:
            selector += f",{COMPONENT_LABEL}={component}"
        return self.kube.list("pods", self.namespace, selector)

    def writer(self) -> str:
        """The name of the writer's pod."""

        def probe() -> str:
            writer = self.status().get("writer")
            if not writer:
                raise NotYet("status.writer is empty")
            return str(writer)

        return wait_for(f"{self.name} has a writer", probe, timeout_seconds=30)

    def service_address(self, *, reader: bool = False) -> str:
        """The address of the cluster endpoint's Service, or of the reader endpoint's."""
        service = f"{self.name}-ro" if reader else self.name
        return str(self.kube.get("service", service, self.namespace)["spec"]["clusterIP"])

    def secret(self) -> dict[str, str]:
        """What stands in the master user's Secret."""
        data = self.kube.get("secret", f"{self.name}-master", self.namespace)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def storage_nodes(self, zone: str) -> list[str]:
        """Names of the storage pods that stand in a zone."""
        zones = {
            node["metadata"]["name"]: node["metadata"]["labels"].get("topology.kubernetes.io/zone")
            for node in self.kube.list("nodes")
        }
        return sorted(
            pod["metadata"]["name"]
            for pod in self.pods("storage")
            if zones.get(pod["spec"].get("nodeName", "")) == zone
        )


def is_ready(pod: Object) -> bool:
    """Whether a pod's Ready condition is true."""
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
