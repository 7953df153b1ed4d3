"""Replicas come and go by one number; every one of them streams."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from support.aurora import Aurora
from support.kube import Kube
from support.traffic import StartTraffic, Traffic
from support.waiting import NotYet, wait_for

LIMIT_SECONDS = 180.0
LIMIT_FIFTEEN_SECONDS = 600.0


def scale(kube: Kube, aurora: Aurora, replicas: int) -> None:
    """By the /scale subresource, as autoscalers do it."""
    words = ("scale", "auroracluster", aurora.name, "--namespace", aurora.namespace)
    kube.run(*words, f"--replicas={replicas}")


def wait_pods(aurora: Aurora, count: int) -> None:
    """Wait until exactly this many instance pods are left."""

    def probe() -> None:
        names = [pod["metadata"]["name"] for pod in aurora.pods("instance")]
        if len(names) != count:
            raise NotYet(f"there are {names}")

    wait_for(f"{count} instance pods", probe, timeout_seconds=60)


def assert_all_stream(aurora: Aurora, traffic: Traffic) -> None:
    """A row written now is soon on every instance, asked at its own address."""
    written = traffic.wait_acked(time.monotonic(), timeout_seconds=10)
    for pod in aurora.pods("instance"):
        address = pod["status"]["podIP"]

        def probe(address: str = address) -> None:
            ids = traffic.table_ids(host=address)
            if written.id not in ids:
                raise NotYet(f"row {written.id} is not there; the highest is {max(ids, default=0)}")

        wait_for(f"{pod['metadata']['name']} streams", probe, timeout_seconds=15)


def test_two_four_one(
    kube: Kube,
    shop: Aurora,
    start_traffic: StartTraffic,
    measured: Callable[[str, float], None],
) -> None:
    """Up to four replicas and down to one; the writer is never the one that goes."""
    traffic = start_traffic(shop)
    writer = shop.writer()
    for replicas in (2, 4, 1):
        begun = time.monotonic()
        scale(kube, shop, replicas)
        shop.wait_available(replicas=replicas, timeout_seconds=LIMIT_SECONDS)
        wait_pods(shop, replicas + 1)
        measured(f"scale to {replicas}", time.monotonic() - begun)
        assert_all_stream(shop, traffic)
    assert shop.writer() == writer
    assert not traffic.verdict()


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_fifteen(
    kube: Kube,
    shop: Aurora,
    start_traffic: StartTraffic,
    measured: Callable[[str, float], None],
) -> None:
    """As many as Aurora has."""
    traffic = start_traffic(shop)
    begun = time.monotonic()
    scale(kube, shop, 15)
    shop.wait_available(replicas=15, timeout_seconds=LIMIT_FIFTEEN_SECONDS)
    wait_pods(shop, 16)
    measured("scale to 15", time.monotonic() - begun)
    assert_all_stream(shop, traffic)
    scale(kube, shop, 1)
    shop.wait_available(replicas=1, timeout_seconds=LIMIT_SECONDS)
    assert not traffic.verdict()
