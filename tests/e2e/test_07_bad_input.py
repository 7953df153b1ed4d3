"""Bad input is answered by the API server or by a condition, and nothing is built by half."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.aurora import KIND, Aurora, manifest
from support.kube import CallFailed, Kube
from support.namespaces import MakeNamespace
from support.waiting import NotYet, wait_for

CONDITION_LIMIT_SECONDS = 30.0


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        pytest.param({"replicas": 16}, "less than or equal to 15", id="16-replicas"),
        pytest.param({"replicas": -1}, "greater than or equal to 0", id="negative-replicas"),
        pytest.param({"engine": "oracle"}, "unknown engine", id="unknown-engine"),
        pytest.param({"engine": "aurora-mysql"}, "aurora-mysql", id="mysql-not-yet"),
        pytest.param({"engineVersion": "9.6"}, "engineVersion", id="unknown-version"),
        pytest.param({"storage": {"size": "100Mi"}}, "1Gi", id="too-small"),
        pytest.param(
            {"parameterOverrides": {"synchronous_commit": "off"}},
            "synchronous_commit",
            id="refused-parameter",
        ),
    ],
)
def test_refused_at_apply(kube: Kube, shop: Aurora, spec: dict[str, Any], complaint: str) -> None:
    """The API server answers with a sentence; the object never exists."""
    with pytest.raises(CallFailed, match=complaint):
        kube.apply(manifest("refused", shop.namespace, **spec))
    assert kube.find(KIND, "refused", shop.namespace) is None


def test_name_too_long(kube: Kube, shop: Aurora) -> None:
    """Names of pods and Services are made from it, so it has a limit of its own."""
    with pytest.raises(CallFailed, match="45"):
        kube.apply(manifest("a" * 46, shop.namespace))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"storage": {"size": "1000Mi"}}, "shrink|at least 1Gi", id="shrinking"),
        pytest.param({"masterUsername": "boss"}, "cannot be changed", id="immutable-user"),
        pytest.param({"databaseName": "other"}, "cannot be changed", id="immutable-database"),
        pytest.param(
            {"storage": {"storageClassName": "local-fixed"}},
            "cannot be changed",
            id="immutable-class",
        ),
    ],
)
def test_refused_change(kube: Kube, shop: Aurora, change: dict[str, Any], complaint: str) -> None:
    """What cannot be changed says so; the cluster goes on as it was."""
    words = ("patch", KIND, shop.name, "--namespace", shop.namespace, "--type", "merge")
    with pytest.raises(CallFailed, match=complaint):
        kube.run(*words, "--patch", json.dumps({"spec": change}))
    assert shop.status()["status"] == "available"


def wait_condition(aurora: Aurora, *mentions: str) -> dict[str, Any]:
    """The condition that is not well and whose text mentions all of this."""

    def probe() -> dict[str, Any]:
        conditions = aurora.status().get("conditions", [])
        for condition in conditions:
            text = f"{condition['reason']} {condition['message']}".lower()
            if condition["status"] == "False" and all(word in text for word in mentions):
                found: dict[str, Any] = condition
                return found
        raise NotYet(f"conditions: {conditions}")

    return wait_for(
        f"a condition that mentions {mentions}", probe, timeout_seconds=CONDITION_LIMIT_SECONDS
    )


def test_missing_password_secret(kube: Kube, make_namespace: MakeNamespace) -> None:
    """It names the Secret; once that is there, the cluster is built."""
    aurora = Aurora(kube, make_namespace("e2e-no-secret"))
    aurora.apply(replicas=0, masterUserPassword={"name": "absent", "key": "password"})
    condition = wait_condition(aurora, "absent")
    assert condition["reason"]
    assert not aurora.pods(), "nothing is half built"


def test_missing_storage_class(kube: Kube, make_namespace: MakeNamespace) -> None:
    """It names the class."""
    aurora = Aurora(kube, make_namespace("e2e-no-class"))
    storage = {"size": "1Gi", "retainPolicy": "Delete", "storageClassName": "absent"}
    aurora.apply(replicas=0, storage=storage)
    wait_condition(aurora, "absent")
    assert not aurora.pods(), "nothing is half built"


def test_two_zones_are_reported(kube: Kube, make_namespace: MakeNamespace) -> None:
    """Fewer than three zones is allowed and never silent."""
    nodes = ("node-c1", "node-c2")
    kube.run("cordon", *nodes)
    try:
        aurora = Aurora(kube, make_namespace("e2e-two-zones"))
        aurora.apply(replicas=0)
        wait_condition(aurora, "zone")
    finally:
        kube.run("uncordon", *nodes)
