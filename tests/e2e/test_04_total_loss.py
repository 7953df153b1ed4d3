"""Every instance is gone at once; the volume opens again, by the same function as always."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from support.aurora import Aurora
from support.kube import Kube
from support.opening import EVENT, openings
from support.traffic import StartTraffic

LIMIT_SECONDS = 90.0
ROOT = Path(__file__).resolve().parents[2]


def test_all_instances_deleted_at_once(
    kube: Kube,
    shop: Aurora,
    start_traffic: StartTraffic,
    measured: Callable[[str, float], None],
) -> None:
    """All acknowledged rows are there again, under a new term."""
    traffic = start_traffic(shop)
    term = shop.status()["term"]
    instances = [pod["metadata"]["name"] for pod in shop.pods("instance")]
    moment = time.monotonic()
    kube.delete("pod", *instances, namespace=shop.namespace, wait=True)
    gone = time.monotonic()
    acked = traffic.wait_acked(gone, timeout_seconds=LIMIT_SECONDS)
    measured("all instances deleted: first acknowledged write", acked.end_seconds - moment)
    status = shop.wait_available(timeout_seconds=LIMIT_SECONDS)
    assert status["term"] > term
    assert not traffic.verdict()
    assert openings(kube, shop, status["writer"]), "the new writer's log shows no opening"


def test_one_function_opens_every_time(kube: Kube, make_namespace: Callable[[str], str]) -> None:
    """Creation, failover and total loss leave the same entry in the log, with other reasons."""
    aurora = Aurora(kube, make_namespace("e2e-one-path"))
    aurora.apply(replicas=0)
    first = aurora.wait_available(replicas=0)
    entries = openings(kube, aurora, first["writer"])
    aurora.patch({"replicas": 1})
    aurora.wait_available(replicas=1)
    for wanted in ("failover", "total loss"):
        before = aurora.status()
        victims = [before["writer"]]
        if wanted == "total loss":
            victims = [pod["metadata"]["name"] for pod in aurora.pods("instance")]
        kube.delete("pod", *victims, namespace=aurora.namespace, wait=True)
        after = aurora.wait(
            f"has a new writer after {wanted}",
            lambda status, term=before["term"]: (  # type: ignore[misc]
                None if (status.get("term") or 0) > term and status.get("writer") else "no new term"
            ),
            timeout_seconds=LIMIT_SECONDS,
        )
        entries += openings(kube, aurora, after["writer"])
        aurora.wait_available(replicas=1, timeout_seconds=LIMIT_SECONDS)
    assert len(entries) >= 3
    assert len({entry["term"] for entry in entries}) >= 3
    assert len({entry["reason"] for entry in entries}) >= 2, f"reasons: {entries}"
    sources = (ROOT / "operator").rglob("*.py")
    places = [path for path in sources if f'"{EVENT}"' in path.read_text()]
    assert len(places) == 1, f"the entry is written in several places: {places}"
