"""Disks of storage pods fill: one or two stop nothing, three make commits wait, and it is said."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from support.aurora import Aurora
from support.kube import Object
from support.traffic import StartTraffic
from support.waiting import NotYet, wait_for

BALLAST = "/var/lib/aurora/ballast"
TOLD_SECONDS = 60.0
QUIET_SECONDS = 10.0
BACK_SECONDS = 60.0


@contextmanager
def filled(aurora: Aurora, pods: Sequence[str]) -> Iterator[None]:
    """No byte is free on the disks of these storage pods; afterwards there is room again."""
    try:
        for pod in pods:
            _in_pod(aurora, pod, f"dd if=/dev/zero of={BALLAST} bs=1M 2>/dev/null; true")
            _in_pod(aurora, pod, f"dd if=/dev/zero of={BALLAST}2 bs=4k 2>/dev/null; true")
        yield
    finally:
        for pod in pods:
            _in_pod(aurora, pod, f"rm -f {BALLAST} {BALLAST}2")


def _in_pod(aurora: Aurora, pod: str, command: str) -> None:
    words = ("exec", pod, "--namespace", aurora.namespace, "--", "sh", "-c", command)
    aurora.kube.run(*words, timeout_seconds=120)


def condition(status: Object, kind: str) -> Object:
    """One condition, or an empty one."""
    found: Object = next((c for c in status.get("conditions", ()) if c["type"] == kind), {})
    return found


def pressures(status: Object) -> list[str | None]:
    """What each copy's disk does to it."""
    return [copy.get("pressure") for copy in status.get("copies", ())]


def test_a_full_disk_is_told_and_stops_nothing(shop: Aurora, start_traffic: StartTraffic) -> None:
    traffic = start_traffic(shop)
    with filled(shop, [f"{shop.name}-storage-5"]):
        status = shop.wait(
            "says that a disk is full",
            lambda seen: None if pressures(seen)[5:] == ["no-room"] else f"{pressures(seen)}",
            timeout_seconds=TOLD_SECONDS,
        )
        assert condition(status, "StorageHealthy")["reason"] == "StorageFull"
        assert condition(status, "Available")["status"] == "True"
        traffic.wait_acked(time.monotonic(), timeout_seconds=10)
    shop.wait_available(timeout_seconds=BACK_SECONDS)
    wait_well(shop)
    assert not traffic.verdict()


def test_three_full_disks_make_commits_wait_and_nothing_is_lost(
    shop: Aurora, start_traffic: StartTraffic
) -> None:
    traffic = start_traffic(shop)
    writer = shop.status()["writer"]
    with filled(shop, [f"{shop.name}-storage-{slot}" for slot in (0, 2, 4)]):
        status = shop.wait(
            "says that commits wait",
            lambda seen: (
                None
                if condition(seen, "Available").get("reason") == "WritesWait"
                else f"{condition(seen, 'Available')}"
            ),
            timeout_seconds=TOLD_SECONDS,
        )
        assert condition(status, "StorageHealthy")["reason"] == "WritesWait"
        full = time.monotonic()

        def quiet() -> None:
            acked = [a for a in traffic.writes().acked if a.begin_seconds > full + 1]
            assert not acked, f"acknowledged with three full disks: {acked[0]}"
            reads = [look for look in traffic.reads().reads if look.at_seconds > full and look.ok]
            if not reads or time.monotonic() < full + QUIET_SECONDS:
                raise NotYet(f"{len(reads)} reads so far")

        wait_for("reads go on, commits wait", quiet, timeout_seconds=3 * QUIET_SECONDS)
    traffic.wait_acked(time.monotonic(), timeout_seconds=BACK_SECONDS)
    shop.wait_available(timeout_seconds=BACK_SECONDS)
    wait_well(shop)
    assert shop.status()["writer"] == writer, "a full disk is no failover"
    assert not traffic.verdict()


def wait_well(shop: Aurora) -> None:
    """The condition is well again."""
    shop.wait(
        "has storage without pressure",
        lambda seen: (
            None
            if condition(seen, "StorageHealthy").get("status") == "True"
            else f"{condition(seen, 'StorageHealthy')}"
        ),
        timeout_seconds=BACK_SECONDS,
    )
