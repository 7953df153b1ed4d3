"""Deleting an AuroraCluster: all of it goes, or the data stays and the same name opens it again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.aurora import CLUSTER_LABEL, KIND, Aurora
from support.kube import CallFailed, Kube
from support.namespaces import MakeNamespace
from support.traffic import StartTraffic
from support.waiting import NotYet, wait_for

GONE_LIMIT_SECONDS = 90.0
KINDS = (
    "pods,persistentvolumeclaims,services,endpointslices,configmaps,secrets,serviceaccounts,"
    "roles,rolebindings,poddisruptionbudgets"
)


def remains(kube: Kube, aurora: Aurora, kinds: str = KINDS) -> list[str]:
    """What still carries the cluster's label, or its name."""
    items = kube.list(kinds, aurora.namespace)
    return [
        f"{item['kind']}/{item['metadata']['name']}"
        for item in items
        if item["metadata"].get("labels", {}).get(CLUSTER_LABEL) == aurora.name
        or item["metadata"]["name"].startswith((f"{aurora.name}-", f"data-{aurora.name}-"))
    ]


def delete_and_wait(
    kube: Kube, aurora: Aurora, expected: Callable[[list[str]], str | None]
) -> None:
    """Delete the AuroraCluster; wait until it is gone and what is left is as expected."""
    kube.delete(KIND, aurora.name, namespace=aurora.namespace)

    def probe() -> None:
        found = kube.find(KIND, aurora.name, aurora.namespace)
        if found is not None:
            summary = aurora.summary(found.get("status", {}))
            raise NotYet(f"the AuroraCluster is still there: {summary}")
        problem = expected(remains(kube, aurora))
        if problem is not None:
            raise NotYet(problem)

    wait_for("the cluster is deleted", probe, timeout_seconds=GONE_LIMIT_SECONDS)


def test_delete_leaves_nothing(kube: Kube, make_namespace: MakeNamespace) -> None:
    """With retainPolicy Delete the claims, and the disks behind them, go too; once unprotected."""
    aurora = Aurora(kube, make_namespace("e2e-delete"))
    aurora.apply(replicas=0, deletionProtection=True)
    aurora.wait_available(replicas=0)
    with pytest.raises(CallFailed, match="so nothing was deleted"):
        kube.delete(KIND, aurora.name, namespace=aurora.namespace)
    assert "deletionTimestamp" not in aurora.object()["metadata"]
    assert len(aurora.pods()) == 7, "a protected cluster lost pods"
    aurora.patch({"deletionProtection": False})
    volumes = {
        item["spec"]["volumeName"] for item in kube.list("persistentvolumeclaims", aurora.namespace)
    }
    assert len(volumes) == 6
    delete_and_wait(kube, aurora, lambda left: ", ".join(left) or None)

    def disks_are_gone() -> None:
        there = {item["metadata"]["name"] for item in kube.list("persistentvolumes")} & volumes
        if there:
            raise NotYet(f"persistent volumes {sorted(there)}")

    wait_for("the disks are gone", disks_are_gone, timeout_seconds=GONE_LIMIT_SECONDS)


def test_retain_and_recreate_keeps_every_row(
    kube: Kube, make_namespace: MakeNamespace, start_traffic: StartTraffic
) -> None:
    """With Retain the claims stay, and a cluster of the same name opens the same volume."""
    aurora = Aurora(kube, make_namespace("e2e-retain"))
    spec = {"replicas": 0, "storage": {"size": "1Gi", "retainPolicy": "Retain"}}
    aurora.apply(**spec)
    before = aurora.wait_available(replicas=0)
    traffic = start_traffic(aurora)
    rows = len(traffic.writes().acked)
    traffic.stop()
    assert rows > 0

    def only_claims(left: list[str]) -> str | None:
        claims = [name for name in left if name.startswith("PersistentVolumeClaim/")]
        others = [name for name in left if name.startswith(("Pod/", "Service/", "Endpoint"))]
        return None if len(claims) == 6 and not others else f"left: {left}"

    delete_and_wait(kube, aurora, only_claims)
    aurora.apply(**spec)
    after = aurora.wait_available(replicas=0)
    assert after["volume"]["volumeID"] == before["volume"]["volumeID"]
    assert after["volume"]["systemIdentifier"] == before["volume"]["systemIdentifier"]
    assert after["term"] > before["term"]
    assert not traffic.verdict()
