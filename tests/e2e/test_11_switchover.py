"""The writer is asked to go: by deletion, eviction, drain and annotation. It hands over first."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator

import pytest

from support.aurora import CLUSTER_LABEL, Aurora
from support.checker import last_server
from support.kube import Kube
from support.opening import openings
from support.traffic import StartTraffic
from support.waiting import NotYet, wait_for

SWITCHOVER = "aurora-operator.io/switchover"
ROUNDS = 5
LIMIT_SECONDS = 5.0
DRAIN_SECONDS = 120
GIVE_UP_SECONDS = 90.0

Strike = Callable[[Kube, Aurora, str], None]


def delete_pod(kube: Kube, aurora: Aurora, writer: str) -> None:
    """`kubectl delete pod` of the writer, with its grace period."""
    kube.delete("pod", writer, namespace=aurora.namespace)


def evict(kube: Kube, aurora: Aurora, writer: str) -> None:
    """What a drain or an autoscaler of nodes asks for: the budget is heard."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": writer, "namespace": aurora.namespace},
    }
    path = f"/api/v1/namespaces/{aurora.namespace}/pods/{writer}/eviction"
    kube.run("create", "--raw", path, "--filename", "-", input_text=json.dumps(eviction))


def annotate(kube: Kube, aurora: Aurora, _writer: str) -> None:
    """A person asks for it."""
    words = ("annotate", "auroracluster", aurora.name, "--namespace", aurora.namespace)
    kube.run(*words, f"{SWITCHOVER}=any")


@pytest.mark.parametrize(
    ("strike", "rounds"),
    [(delete_pod, ROUNDS), (evict, 1), (annotate, 2)],
    ids=["delete-pod", "evict", "annotation"],
)
def test_the_writer_hands_over(
    kube: Kube,
    shop: Aurora,
    start_traffic: StartTraffic,
    measured: Callable[[str, float], None],
    strike: Strike,
    rounds: int,
) -> None:
    traffic = start_traffic(shop)
    outages: list[float] = []
    for number in range(1, rounds + 1):
        shop.wait_available(replicas=1, timeout_seconds=GIVE_UP_SECONDS)
        before = shop.status()
        old = last_server(traffic.writes())
        traffic.wait_acked(time.monotonic(), timeout_seconds=LIMIT_SECONDS)
        moment = time.monotonic()
        strike(kube, shop, before["writer"])
        acked = traffic.wait_acked(moment, timeout_seconds=GIVE_UP_SECONDS, not_by=old)
        outages.append(traffic.longest_outage_seconds(moment, acked.end_seconds))
        measured(f"switchover by {strike.__name__} {number}: write outage", outages[-1])
        wait_for_new_writer(shop, before)
        opened = openings(kube, shop, shop.writer())
        assert opened[-1]["reason"].startswith("switchover"), opened[-1]
    measured(f"switchover by {strike.__name__}: p50", statistics.median(outages))
    assert not traffic.verdict()
    assert max(outages) <= LIMIT_SECONDS, f"write outages, s: {outages}"


def test_the_annotation_is_taken_away_and_not_carried_out_again(kube: Kube, shop: Aurora) -> None:
    before = shop.status()
    annotate(kube, shop, before["writer"])
    wait_for_new_writer(shop, before)
    wait_for("the annotation is gone", lambda: no_annotation(shop), timeout_seconds=30)
    shop.wait_available(replicas=1, timeout_seconds=GIVE_UP_SECONDS)
    assert shop.status()["term"] == before["term"] + 1


def test_a_target_that_is_not_there_is_answered(kube: Kube, shop: Aurora) -> None:
    before = shop.status()
    words = ("annotate", "auroracluster", shop.name, "--namespace", shop.namespace)
    kube.run(*words, f"{SWITCHOVER}=shop-instance-15")
    wait_for("the annotation is gone", lambda: no_annotation(shop), timeout_seconds=30)

    def told() -> None:
        events = kube.list("events", shop.namespace)
        if not any(event["reason"] == "SwitchoverRefused" for event in events):
            raise NotYet(sorted({event["reason"] for event in events}))

    wait_for("an Event says why", told, timeout_seconds=30)
    assert shop.status()["term"] == before["term"]


@pytest.fixture
def drained(kube: Kube) -> Iterator[list[str]]:
    """Nodes to make schedulable again, whatever happens."""
    nodes: list[str] = []
    yield nodes
    for node in nodes:
        kube.run("uncordon", node)


def test_a_drain_of_the_writers_node_ends(
    kube: Kube,
    shop: Aurora,
    start_traffic: StartTraffic,
    measured: Callable[[str, float], None],
    drained: list[str],
) -> None:
    traffic = start_traffic(shop)
    before = shop.status()
    node = kube.get("pod", before["writer"], shop.namespace)["spec"]["nodeName"]
    moment = time.monotonic()
    drained.append(node)
    kube.run(
        "drain",
        node,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        f"--timeout={DRAIN_SECONDS}s",
        f"--pod-selector={CLUSTER_LABEL}={shop.name}",
        timeout_seconds=DRAIN_SECONDS + 10,
    )
    measured("drain of the writer's node", time.monotonic() - moment)
    acked = traffic.wait_acked(time.monotonic(), timeout_seconds=GIVE_UP_SECONDS)
    outage = traffic.longest_outage_seconds(moment, acked.end_seconds)
    measured("drain of the writer's node: write outage", outage)
    wait_for_new_writer(shop, before)
    kube.run("uncordon", node)
    shop.wait_available(replicas=1, timeout_seconds=GIVE_UP_SECONDS)
    assert not traffic.verdict()
    assert outage <= LIMIT_SECONDS


def wait_for_new_writer(aurora: Aurora, before: dict[str, object]) -> None:
    """The status follows: another writer in a higher term."""

    def probe() -> None:
        status = aurora.status()
        if status.get("writer") in (None, before["writer"]) or status["term"] <= before["term"]:
            raise NotYet(f"writer {status.get('writer')} in term {status.get('term')}")

    wait_for("the status names the new writer", probe, timeout_seconds=GIVE_UP_SECONDS)


def no_annotation(aurora: Aurora) -> None:
    """The request was carried out, or answered."""
    annotations = aurora.object()["metadata"].get("annotations") or {}
    if SWITCHOVER in annotations:
        raise NotYet(annotations[SWITCHOVER])
