"""Storage pods stand still: a zone stops nothing, three stop writes but neither reads nor data."""

from __future__ import annotations

import time
from collections.abc import Callable

from localkube import cluster, faults
from support.aurora import Aurora
from support.traffic import StartTraffic, Traffic
from support.waiting import NotYet, wait_for

HOLD_SECONDS = 30.0
SILENCE_SECONDS = 10.0
RESUME_LIMIT_SECONDS = 30.0


def zone_without_instances(aurora: Aurora) -> str:
    """The zone that holds storage pods only, so that a fault there is a fault of storage."""
    taken = {cluster.node_of_pod(aurora.namespace, name).zone for name in names(aurora)}
    free = sorted(set(cluster.zones()) - taken)
    assert free, "writer and replica should leave one of three zones free"
    return free[0]


def names(aurora: Aurora) -> list[str]:
    """The instances' pods."""
    return [pod["metadata"]["name"] for pod in aurora.pods("instance")]


def wait_until_past(moment: float, traffic: Traffic) -> None:
    """Hold a fault for its time, with writes going on all the while."""

    def probe() -> None:
        if time.monotonic() < moment:
            raise NotYet(f"{moment - time.monotonic():.0f} s to go")

    wait_for("the fault has been held", probe, timeout_seconds=HOLD_SECONDS + 10)
    traffic.wait_acked(moment - 5, timeout_seconds=10)


def test_a_zone_stands_still_and_writes_go_on(
    shop: Aurora, start_traffic: StartTraffic, measured: Callable[[str, float], None]
) -> None:
    """Both nodes of a zone are frozen for 30 s: four copies are a write quorum."""
    traffic = start_traffic(shop)
    zone = zone_without_instances(shop)
    begun = time.monotonic()
    with faults.frozen_nodes(zone):
        frozen = time.monotonic()
        wait_until_past(frozen + HOLD_SECONDS, traffic)
        ended = time.monotonic()
    outage = traffic.longest_outage_seconds(frozen, ended)
    measured("zone frozen: longest write outage", outage)
    shop.wait_available(timeout_seconds=90)
    assert not traffic.verdict()
    assert outage <= 3.0, f"writes paused for {outage:.1f} s"
    assert begun < ended


def test_three_copies_down_stop_writes_not_reads(
    shop: Aurora, start_traffic: StartTraffic, measured: Callable[[str, float], None]
) -> None:
    """Three of six is a read quorum only; one more back and writes resume by themselves."""
    traffic = start_traffic(shop)
    zone = zone_without_instances(shop)
    others = [
        pod["metadata"]["name"]
        for pod in shop.pods("storage")
        if cluster.node_of_pod(shop.namespace, pod["metadata"]["name"]).zone != zone
    ]
    third = min(others)
    with faults.frozen_pod(shop.namespace, third):
        with faults.frozen_nodes(zone):
            stopped = time.monotonic()
            assert_silence(traffic, stopped)
            assert_reads_go_on(traffic, time.monotonic())
        thawed = time.monotonic()
        acked = traffic.wait_acked(stopped, timeout_seconds=RESUME_LIMIT_SECONDS)
        measured("three down: writes resumed after the thaw", acked.end_seconds - thawed)
    shop.wait_available(timeout_seconds=90)
    assert not traffic.verdict()


def assert_silence(traffic: Traffic, since: float) -> None:
    """No write begun a second after the fault is acknowledged for ten seconds."""
    end = since + SILENCE_SECONDS

    def probe() -> None:
        acked = [a for a in traffic.writes().acked if a.begin_seconds > since + 1]
        assert not acked, f"acknowledged with three copies down: {acked[0]}"
        if time.monotonic() < end:
            raise NotYet("watching")

    wait_for("writes stay silent", probe, timeout_seconds=SILENCE_SECONDS + 10)
    tried = [a for a in traffic.writes().attempts if a.begin_seconds > since]
    assert tried, "the client did not even try"


def assert_reads_go_on(traffic: Traffic, since: float) -> None:
    """A replica answers while no write can be acknowledged."""

    def probe() -> None:
        reads = [look for look in traffic.reads().reads if look.at_seconds > since]
        if not any(look.ok for look in reads):
            raise NotYet(f"last look: {reads[-1] if reads else None}")

    wait_for("a replica answers", probe, timeout_seconds=10)
