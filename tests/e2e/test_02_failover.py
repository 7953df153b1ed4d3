"""The writer is killed again and again; nothing acknowledged is lost, and it is quick."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from localkube import faults
from support.aurora import Aurora
from support.checker import last_server
from support.kube import Kube
from support.opening import openings
from support.traffic import StartTraffic
from support.waiting import NotYet, wait_for

ROUNDS = 5
LIMIT_SECONDS = 5.0
GIVE_UP_SECONDS = 90.0


def kill_postgres(_kube: Kube, aurora: Aurora, writer: str) -> None:
    """SIGKILL of the postmaster; its pod lives."""
    faults.kill_process(aurora.namespace, writer, r"(^|/)postgres\b.* -D|^postgres$")


def delete_pod(kube: Kube, aurora: Aurora, writer: str) -> None:
    """`kubectl delete pod` of the writer."""
    kube.delete("pod", writer, namespace=aurora.namespace)


@pytest.mark.parametrize("strike", [kill_postgres, delete_pod], ids=["sigkill", "delete-pod"])
def test_writer_is_replaced(
    kube: Kube,
    shop: Aurora,
    start_traffic: StartTraffic,
    measured: Callable[[str, float], None],
    strike: Callable[[Kube, Aurora, str], None],
) -> None:
    """Five times: the first acknowledged write of another writer within 5 s."""
    traffic = start_traffic(shop)
    seconds: list[float] = []
    for number in range(1, ROUNDS + 1):
        shop.wait_available(timeout_seconds=GIVE_UP_SECONDS)
        before = shop.status()
        old = last_server(traffic.writes())
        traffic.wait_acked(time.monotonic(), timeout_seconds=LIMIT_SECONDS)
        moment = time.monotonic()
        strike(kube, shop, before["writer"])
        acked = traffic.wait_acked(moment, timeout_seconds=GIVE_UP_SECONDS, not_by=old)
        seconds.append(acked.end_seconds - moment)
        outage = traffic.longest_outage_seconds(moment, acked.end_seconds)
        measured(f"{strike.__name__} {number}: first acknowledged write", seconds[-1])
        measured(f"{strike.__name__} {number}: write outage", outage)
        wait_for_new_writer(shop, before)
        assert openings(kube, shop, shop.writer()), "the new writer's log shows no opening"
    violations = traffic.verdict()
    assert not violations
    assert max(seconds) <= LIMIT_SECONDS, f"seconds to the first acknowledged write: {seconds}"


def wait_for_new_writer(aurora: Aurora, before: dict[str, object]) -> None:
    """The status follows: another writer in a higher term."""

    def probe() -> None:
        status = aurora.status()
        if status.get("writer") in (None, before["writer"]) or status["term"] <= before["term"]:
            raise NotYet(f"writer {status.get('writer')} in term {status.get('term')}")

    wait_for("the status names the new writer", probe, timeout_seconds=GIVE_UP_SECONDS)
