"""From `kubectl apply` to rows: how long it takes, what people see, and what clients get."""

from __future__ import annotations

import time
from collections.abc import Callable

from support.aurora import Aurora
from support.kube import Kube
from support.traffic import StartTraffic
from support.waiting import NotYet, wait_for

AVAILABLE_LIMIT_SECONDS = 90.0


def test_apply_to_available(
    creation: tuple[Aurora, float], measured: Callable[[str, float], None]
) -> None:
    """A new cluster takes clients within 90 s."""
    aurora, seconds = creation
    measured("apply to available", seconds)
    assert seconds <= AVAILABLE_LIMIT_SECONDS
    status = aurora.status()
    assert status["copiesReady"] == "6/6"
    assert status["term"] == 2, "formatting is term 1, the first writer opens term 2"
    assert status["writer"] in [pod["metadata"]["name"] for pod in aurora.pods("instance")]


def test_printer_columns_tell_whether_it_is_well(kube: Kube, shop: Aurora) -> None:
    """`kubectl get auroracluster` answers in one line; `ac` is short for it."""
    text = kube.run("get", "ac", shop.name, "--namespace", shop.namespace)
    header, row = (line.split() for line in text.splitlines())
    shown = dict(zip(header, row, strict=True))
    assert shown["STATUS"] == "available"
    assert shown["WRITER"] == shop.writer()
    assert shown["REPLICAS"] == "1/1"
    assert shown["COPIES"] == "6/6"
    assert shown["AGE"]


def test_describe_tells_the_story(kube: Kube, shop: Aurora) -> None:
    """The Events speak the words of RDS."""

    def probe() -> None:
        text = kube.run("describe", "auroracluster", shop.name, "--namespace", shop.namespace)
        _, _, events = text.partition("\nEvents:")
        if "DB cluster created" not in events:
            raise NotYet(f"events: {events.strip()[-500:] or 'none'}")

    wait_for("describe shows that the cluster was created", probe, timeout_seconds=20)


def test_storage_pods_stand_two_in_each_zone(shop: Aurora) -> None:
    """Six copies over three zones: the loss of one leaves four."""
    counts = {zone: len(shop.storage_nodes(zone)) for zone in ("zone-a", "zone-b", "zone-c")}
    assert counts == {"zone-a": 2, "zone-b": 2, "zone-c": 2}


def test_pods_meet_the_restricted_standard(kube: Kube, shop: Aurora) -> None:
    """The namespace enforces it, so that they run is the proof; it must not have been relaxed."""
    labels = kube.get("namespace", shop.namespace, shop.namespace)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert len(shop.pods()) == 8


def test_rows_written_are_read_through_the_reader_endpoint(
    shop: Aurora, start_traffic: StartTraffic
) -> None:
    """A row committed through the writer's Service shows through the reader's, on a replica."""
    traffic = start_traffic(shop)
    written = traffic.wait_acked(time.monotonic(), timeout_seconds=5)
    traffic.wait_read(written.id, timeout_seconds=5)
    violations = traffic.verdict()
    assert not violations
    servers = {look.server for look in traffic.reads().reads if look.server}
    writers = {attempt.server for attempt in traffic.writes().acked}
    assert servers, "nothing was read"
    assert servers.isdisjoint(writers), "the reader endpoint led to the writer"
