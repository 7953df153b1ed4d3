"""Failover without the operator and without Kubernetes: copies and replicas do it alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from localkube import cluster, faults
from support.aurora import Aurora
from support.checker import last_server
from support.install import operator_away
from support.kube import Kube
from support.opening import openings
from support.traffic import StartTraffic, Traffic
from support.waiting import NotYet, wait_for

GIVE_UP_SECONDS = 60.0
LIMIT_SECONDS = 5.0
SILENT_LIMIT_SECONDS = 10.0
POSTMASTER = r"(^|/)postgres\b.* -D|^postgres$"


def kill_server(aurora: Aurora, writer: str) -> None:
    """SIGKILL of the postmaster; its pod lives."""
    faults.kill_process(aurora.namespace, writer, POSTMASTER)


def kill_pod(aurora: Aurora, writer: str) -> None:
    """SIGKILL of the agent, and with it of everything in the pod's container."""
    faults.kill_process(aurora.namespace, writer, r"agent instance")


@pytest.mark.parametrize("strike", [kill_server, kill_pod])
def test_a_killed_writer_is_replaced_with_no_operator(
    kube: Kube,
    shop: Aurora,
    start_traffic: StartTraffic,
    measured: Callable[[str, float], None],
    strike: Callable[[Aurora, str], None],
) -> None:
    traffic = start_traffic(shop)
    before = shop.status()
    old = last_server(traffic.writes())
    with operator_away(kube):
        traffic.wait_acked(time.monotonic(), timeout_seconds=LIMIT_SECONDS)
        moment = time.monotonic()
        strike(shop, before["writer"])
        acked = traffic.wait_acked(moment, timeout_seconds=GIVE_UP_SECONDS, not_by=old)
        seconds = acked.end_seconds - moment
        measured(f"no operator, {strike.__name__}: first acknowledged write", seconds)
    shop.wait_available(timeout_seconds=90)
    assert not traffic.verdict()
    assert seconds <= LIMIT_SECONDS
    successor = next(p for p in shop.pods("instance") if p["status"]["podIP"] == acked.server)
    reasons = [o["reason"] for o in openings(kube, shop, successor["metadata"]["name"])]
    assert reasons[-1].startswith("failover: "), "the operator was away, so a replica saw it"


def test_a_frozen_node_is_noticed_by_the_copies(
    shop: Aurora, start_traffic: StartTraffic, measured: Callable[[str, float], None]
) -> None:
    """Kubernetes would take 20 s to miss the node; the copies miss their writer after one."""
    traffic = start_traffic(shop)
    writer = shop.writer()
    old = last_server(traffic.writes())
    traffic.wait_acked(time.monotonic(), timeout_seconds=LIMIT_SECONDS)
    with faults.frozen_nodes(cluster.node_of_pod(shop.namespace, writer).name):
        moment = time.monotonic()
        acked = traffic.wait_acked(moment, timeout_seconds=GIVE_UP_SECONDS, not_by=old)
    seconds = acked.end_seconds - moment
    measured("writer's node frozen: first acknowledged write", seconds)
    shop.wait_available(timeout_seconds=90)
    assert not traffic.verdict()
    assert seconds <= SILENT_LIMIT_SECONDS


def test_the_volume_fails_over_with_no_api_server(
    shop: Aurora, start_traffic: StartTraffic, measured: Callable[[str, float], None]
) -> None:
    """Clients that try the instances find the writer; the endpoint follows when the API is back."""
    traffic = start_traffic(shop)
    before = shop.status()
    old = last_server(traffic.writes())
    addresses = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in shop.pods("instance")}
    others = {name: ip for name, ip in addresses.items() if name != before["writer"]}
    with faults.cut_off(*cluster.zones(), peers=["control"]):
        moment = time.monotonic()
        kill_server(shop, before["writer"])
        found = wait_for_writer_among(traffic, others)
        measured("no API server: an instance takes writes after", time.monotonic() - moment)
    healed = time.monotonic()
    traffic.wait_acked(healed, timeout_seconds=GIVE_UP_SECONDS, not_by=old)
    measured("API server back: the endpoint follows after", time.monotonic() - healed)
    shop.wait_available(timeout_seconds=120)
    assert found in others
    assert not traffic.verdict()


def wait_for_writer_among(traffic: Traffic, addresses: dict[str, str]) -> str:
    """The instance that takes writes."""

    def probe() -> str:
        for name, address in addresses.items():
            if traffic.takes_writes(address):
                return name
        raise NotYet(f"none of {', '.join(addresses)} takes writes")

    return wait_for("an instance takes writes", probe, timeout_seconds=30)
