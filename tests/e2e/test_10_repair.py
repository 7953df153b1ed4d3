"""Copies that are gone for good: their disks come back filled, while clients write."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from localkube import cluster, faults
from support.aurora import Aurora
from support.kube import Kube, Object
from support.namespaces import MakeNamespace
from support.traffic import StartTraffic
from support.waiting import NotYet, wait_for

REPAIR_LIMIT_SECONDS = 180.0
REPLACE_AFTER_SECONDS = 30
NOTICE_LIMIT_SECONDS = 120.0


def identities(aurora: Aurora) -> list[str]:
    """The members, as the status tells them."""
    found: list[str] = aurora.status()["volume"]["identities"]
    return found


def lose_disks(kube: Kube, aurora: Aurora, *slots: int) -> None:
    """Claim and pod of these slots are deleted: their disks go with them."""
    for slot in slots:
        pod = f"{aurora.name}-storage-{slot}"
        kube.delete("persistentvolumeclaim", f"data-{pod}", namespace=aurora.namespace)
    for slot in slots:
        kube.delete("pod", f"{aurora.name}-storage-{slot}", namespace=aurora.namespace)


def wait_replaced(aurora: Aurora, before: list[str], *slots: int, seconds: float) -> Object:
    """Six copies again, these slots under new identities and no others."""

    def problem(status: Object) -> str | None:
        now = status["volume"]["identities"]
        changed = tuple(slot for slot in range(6) if now[slot] != before[slot])
        if changed != slots or status.get("copiesReady") != "6/6":
            return f"slots {changed} changed, copies {status.get('copiesReady')}"
        if status.get("status") != "available":
            return f"{status.get('status')}"
        return None

    return aurora.wait(f"has replaced slots {slots}", problem, timeout_seconds=seconds)


def events(kube: Kube, aurora: Aurora) -> set[str]:
    """Reasons of the events about it."""
    return {
        event["reason"]
        for event in kube.list("events", aurora.namespace)
        if event["involvedObject"].get("name") == aurora.name
    }


def test_a_wiped_disk_is_filled_while_clients_write(
    kube: Kube,
    shop: Aurora,
    start_traffic: StartTraffic,
    measured: Callable[[str, float], None],
) -> None:
    """The claim is deleted: made anew, filled, a member; the status tells it all along."""
    traffic = start_traffic(shop)
    before = identities(shop)
    begun = time.monotonic()
    lose_disks(kube, shop, 2)
    seen: set[str] = set()

    def noticed() -> None:
        status = shop.status()
        seen.add(str(status.get("copiesReady")))
        if "5/6" not in seen:
            raise NotYet(f"copies: {seen}")

    wait_for("the status says 5/6", noticed, timeout_seconds=REPAIR_LIMIT_SECONDS)
    wait_replaced(shop, before, 2, seconds=REPAIR_LIMIT_SECONDS)
    ended = time.monotonic()
    measured("wiped copy: whole again after", ended - begun)
    traffic.wait_acked(ended, timeout_seconds=10)
    outage = traffic.longest_outage_seconds(begun, ended)
    measured("wiped copy: longest write outage", outage)
    assert outage <= 3.0, f"writes paused for {outage:.1f} s"
    assert not traffic.verdict()
    assert "StorageRepairCompleted" in events(kube, shop)


@pytest.mark.full
def test_three_wiped_disks_open_with_the_other_three(
    kube: Kube, make_namespace: MakeNamespace, start_traffic: StartTraffic
) -> None:
    """Rule 10: recorded once, opened with three, six again; every acknowledged row is there."""
    aurora = Aurora(kube, make_namespace("e2e-three-left"))
    aurora.apply(replicas=1)
    aurora.wait_available(replicas=1)
    traffic = start_traffic(aurora)
    traffic.wait_acked(time.monotonic(), timeout_seconds=30)
    before = identities(aurora)
    lose_disks(kube, aurora, 1, 2, 4)
    wait_replaced(aurora, before, 1, 2, 4, seconds=2 * REPAIR_LIMIT_SECONDS)
    traffic.wait_acked(time.monotonic(), timeout_seconds=30)
    assert not traffic.verdict()
    assert "StorageCopiesLost" in events(kube, aurora)


@pytest.mark.full
def test_a_copy_whose_node_is_gone_for_good_moves_within_its_zone(
    kube: Kube, make_namespace: MakeNamespace, start_traffic: StartTraffic
) -> None:
    """Its claim is bound to the node; both are made anew on the zone's other node."""
    aurora = Aurora(kube, make_namespace("e2e-node-gone"))
    storage = {
        "size": "1Gi",
        "retainPolicy": "Delete",
        "replaceAfterSeconds": REPLACE_AFTER_SECONDS,
    }
    aurora.apply(replicas=1, storage=storage)
    aurora.wait_available(replicas=1)
    traffic = start_traffic(aurora)
    before = identities(aurora)
    taken = {pod["spec"]["nodeName"] for pod in aurora.pods("instance")}
    pod = next(p for p in aurora.pods("storage") if p["spec"]["nodeName"] not in taken)
    slot = int(pod["metadata"]["name"].rsplit("-", 1)[1])
    zone = cluster.node_of_pod(aurora.namespace, pod["metadata"]["name"]).zone
    with faults.killed_nodes(pod["spec"]["nodeName"]):
        limit = NOTICE_LIMIT_SECONDS + REPLACE_AFTER_SECONDS + REPAIR_LIMIT_SECONDS
        wait_replaced(aurora, before, slot, seconds=limit)
        moved = cluster.node_of_pod(aurora.namespace, pod["metadata"]["name"])
        assert moved.name != pod["spec"]["nodeName"]
        assert moved.zone == zone
        traffic.wait_acked(time.monotonic(), timeout_seconds=10)
    assert not traffic.verdict()
    assert "StorageCopyReplaced" in events(kube, aurora)
