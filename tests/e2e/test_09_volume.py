"""The volume outlives what Kubernetes knows of it: its status, a claim, its size."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from localkube import cluster, faults
from support.aurora import KIND, Aurora
from support.checker import last_server
from support.kube import Kube, Object
from support.namespaces import MakeNamespace
from support.traffic import StartTraffic
from support.waiting import NotYet, wait_for

LIMIT_SECONDS = 90.0
NOTICE_LIMIT_SECONDS = 120.0


def test_storage_grows(kube: Kube, shop: Aurora) -> None:
    """A larger storage.size reaches every claim, and the file systems behind them."""
    shop.patch({"storage": {"size": "1200Mi"}})

    def grown() -> None:
        claims = kube.list("persistentvolumeclaims", shop.namespace)
        sizes = {c["metadata"]["name"]: c["status"]["capacity"]["storage"] for c in claims}
        small = {name: size for name, size in sizes.items() if size != "1200Mi"}
        if small or len(sizes) != 6:
            raise NotYet(f"still at {small}")

    wait_for("all six claims have grown", grown, timeout_seconds=LIMIT_SECONDS)
    shop.wait_available()


def test_lost_status_and_claim_never_lead_to_a_second_initdb(
    kube: Kube, make_namespace: MakeNamespace, start_traffic: StartTraffic
) -> None:
    """The record is rebuilt from claims and copies; the lost copy is filled from the others."""
    aurora = Aurora(kube, make_namespace("e2e-lost-status"))
    aurora.apply(replicas=0)
    before = aurora.wait_available(replicas=0)
    traffic = start_traffic(aurora)
    lost = f"{aurora.name}-storage-5"
    kube.delete("persistentvolumeclaim", f"data-{lost}", namespace=aurora.namespace)
    kube.delete("pod", lost, namespace=aurora.namespace)
    words = ("patch", KIND, aurora.name, "--namespace", aurora.namespace, "--type", "merge")
    kube.run(*words, "--subresource=status", "--patch", json.dumps({"status": {"volume": None}}))

    def problem(status: Object) -> str | None:
        volume = status.get("volume") or {}
        if not volume.get("systemIdentifier") or status.get("copiesReady") != "6/6":
            return f"volume {volume}, copies {status.get('copiesReady')}"
        return None

    after = aurora.wait("is whole again", problem, timeout_seconds=2 * LIMIT_SECONDS)
    assert after["volume"]["identities"][:5] == before["volume"]["identities"][:5]
    assert after["volume"]["volumeID"] == before["volume"]["volumeID"]
    assert after["volume"]["systemIdentifier"] == before["volume"]["systemIdentifier"]
    traffic.wait_acked(time.monotonic(), timeout_seconds=10)
    assert not traffic.verdict()


@pytest.mark.full
def test_a_zone_loses_power_and_writes_go_on(shop: Aurora, start_traffic: StartTraffic) -> None:
    """Both nodes of a zone without instances are off, then on again; their copies come back."""
    traffic = start_traffic(shop)
    nodes = {pod["spec"]["nodeName"][:-1] for pod in shop.pods("instance")}
    zone = min({"node-a", "node-b", "node-c"} - nodes).replace("node-", "zone-")
    with faults.killed_nodes(zone):
        off = time.monotonic()
        traffic.wait_acked(off + 20, timeout_seconds=40)
    shop.wait_available(timeout_seconds=LIMIT_SECONDS)
    assert traffic.longest_outage_seconds(off, off + 20) < 3.0
    assert not traffic.verdict()


@pytest.mark.full
def test_the_writers_zone_loses_power(
    shop: Aurora, start_traffic: StartTraffic, measured: Callable[[str, float], None]
) -> None:
    """The writer and two copies are gone at once: a replica opens once Kubernetes has noticed."""
    traffic = start_traffic(shop)
    before = shop.status()
    old = last_server(traffic.writes())
    zone = cluster.node_of_pod(shop.namespace, before["writer"]).zone
    assert zone is not None
    off = time.monotonic()
    with faults.killed_nodes(zone):
        acked = traffic.wait_acked(off, timeout_seconds=NOTICE_LIMIT_SECONDS, not_by=old)
        measured("writer's zone off: first acknowledged write", acked.end_seconds - off)
    shop.wait_available(timeout_seconds=LIMIT_SECONDS)
    assert not traffic.verdict()
