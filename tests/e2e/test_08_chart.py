"""The operator's own life: it runs twice, is killed, upgraded and removed, and nothing stops."""

from __future__ import annotations

import time

from support.aurora import KIND, Aurora
from support.install import NAMESPACE, RELEASE, Images, install_chart, uninstall_chart
from support.kube import Kube
from support.traffic import StartTraffic
from support.waiting import NotYet, wait_for

TAKE_OVER_LIMIT_SECONDS = 60.0


def test_two_operators_in_two_zones(kube: Kube) -> None:
    """The loss of a zone leaves one."""
    zones = {
        node["metadata"]["name"]: node["metadata"]["labels"].get("topology.kubernetes.io/zone")
        for node in kube.list("nodes")
    }
    pods = kube.list("pods", NAMESPACE, f"app.kubernetes.io/instance={RELEASE}")
    running = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    assert len(running) == 2
    assert len({zones[pod["spec"]["nodeName"]] for pod in running}) == 2


def test_the_other_operator_takes_over(kube: Kube, shop: Aurora) -> None:
    """The pod that holds the Lease is killed without a goodbye; the other one goes on."""
    holder = lease_holder(kube)
    kube.run("delete", "pod", holder, "--namespace", NAMESPACE, "--grace-period=0", "--force")

    def another() -> None:
        now = lease_holder(kube)
        if now == holder:
            raise NotYet(f"{holder} still holds the Lease")

    wait_for("another operator holds the Lease", another, timeout_seconds=TAKE_OVER_LIMIT_SECONDS)
    words = ("scale", "auroracluster", shop.name, "--namespace", shop.namespace)
    kube.run(*words, "--replicas=0")
    shop.wait_available(replicas=0)
    kube.run(*words, "--replicas=1")
    shop.wait_available(replicas=1)


def lease_holder(kube: Kube) -> str:
    """The pod that holds the operators' Lease."""
    lease = kube.get("lease", RELEASE, NAMESPACE)
    holder: str = lease["spec"].get("holderIdentity") or ""
    return holder


def test_upgrade_and_removal_leave_the_data_path_alone(
    kube: Kube, images: Images, shop: Aurora, start_traffic: StartTraffic
) -> None:
    """Writes go on while the operator is upgraded, and while there is none at all."""
    traffic = start_traffic(shop)
    install_chart(kube, images, "--set", "logLevel=debug")
    traffic.wait_acked(time.monotonic(), timeout_seconds=10)
    uninstall_chart(kube)
    try:
        assert kube.find(KIND, shop.name, shop.namespace) is not None, "the CRD went with the chart"
        traffic.wait_acked(time.monotonic(), timeout_seconds=10)
    finally:
        install_chart(kube, images)
    shop.wait_available(replicas=1)
    assert not traffic.verdict()
