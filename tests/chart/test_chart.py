"""The chart as helm renders it: what stands in it, and what its schema refuses. No cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from aurora_operator.api.cluster import ClusterSpec
from aurora_operator.kube.api import EXTRA_RIGHTS, Kind
from aurora_operator.resources.access import build_instance_role
from aurora_operator.resources.context import ClusterContext
from support.helm import render
from support.waiting import Failed

CHART = Path(__file__).resolve().parents[2] / "charts" / "aurora-operator"


def rendered(*options: str) -> dict[str, dict[str, Any]]:
    """Manifests by kind; those of which there are several by kind and name."""
    documents = [doc for doc in yaml.safe_load_all(render(CHART, *options)) if doc]
    return {f"{doc['kind']}/{doc['metadata']['name']}": doc for doc in documents}


@pytest.fixture(scope="module")
def manifests() -> dict[str, dict[str, Any]]:
    return rendered()


def test_operator_runs_twice_spread_over_zones(manifests: dict[str, dict[str, Any]]) -> None:
    spec = manifests["Deployment/aurora-operator"]["spec"]
    assert spec["replicas"] == 2
    keys = [c["topologyKey"] for c in spec["template"]["spec"]["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]


def test_operator_pod_meets_the_restricted_standard(manifests: dict[str, dict[str, Any]]) -> None:
    pod = manifests["Deployment/aurora-operator"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_engine_image_reaches_the_operator() -> None:
    manifests = rendered("--set", "engineImage.repository=example/engine,engineImage.tag=v7")
    pod = manifests["Deployment/aurora-operator"]["spec"]["template"]["spec"]
    env = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert env["AURORA_ENGINE_IMAGE"] == "example/engine:v7"


def test_pull_secrets_reach_the_operator_and_the_pods_it_makes(
    manifests: dict[str, dict[str, Any]],
) -> None:
    secrets = rendered("--set", "imagePullSecrets[0].name=one,imagePullSecrets[1].name=two")
    pod = secrets["Deployment/aurora-operator"]["spec"]["template"]["spec"]
    env = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert pod["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]
    assert env["AURORA_ENGINE_PULL_SECRETS"] == "one,two"

    without = manifests["Deployment/aurora-operator"]["spec"]["template"]["spec"]
    assert "imagePullSecrets" not in without
    names = {entry["name"] for entry in without["containers"][0]["env"]}
    assert "AURORA_ENGINE_PULL_SECRETS" not in names


def test_the_lease_role_names_the_lease_that_the_operator_uses(
    manifests: dict[str, dict[str, Any]],
) -> None:
    pod = manifests["Deployment/aurora-operator"]["spec"]["template"]["spec"]
    env = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    rules = manifests["Role/aurora-operator-lease"]["rules"]
    assert [rule.get("resourceNames") for rule in rules] == [None, [env["AURORA_LEASE_NAME"]]]


def test_one_replica_has_no_disruption_budget() -> None:
    assert "PodDisruptionBudget/aurora-operator" in rendered()
    assert "PodDisruptionBudget/aurora-operator" not in rendered("--set", "replicas=1")


def rights_of(role: dict[str, Any]) -> set[tuple[str, str, str]]:
    """A role as (group, resource, verb)."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_operator_may_do_what_its_code_does_and_nothing_else(
    manifests: dict[str, dict[str, Any]],
) -> None:
    facts = [kind.value for kind in Kind if kind is not Kind.LEASE]
    used = {(fact.group, fact.plural, verb) for fact in facts for verb in fact.verbs}
    used |= {(group, resource, verb) for group, resource, verbs in EXTRA_RIGHTS for verb in verbs}
    assert rights_of(manifests["ClusterRole/aurora-operator"]) == used


def test_the_lease_role_allows_what_leader_election_does(
    manifests: dict[str, dict[str, Any]],
) -> None:
    fact = Kind.LEASE.value
    used = {(fact.group, fact.plural, verb) for verb in fact.verbs}
    assert rights_of(manifests["Role/aurora-operator-lease"]) == used


def test_the_operator_holds_what_it_grants_to_instances(
    manifests: dict[str, dict[str, Any]],
) -> None:
    granted = rights_of(build_instance_role(a_cluster()))
    assert granted <= rights_of(manifests["ClusterRole/aurora-operator"])


def a_cluster() -> ClusterContext:
    """Any cluster: the rights do not depend on it."""
    return ClusterContext(
        name="shop", namespace="ns", uid="u", spec=ClusterSpec(), engine_image="engine"
    )


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("replicas=0", "/replicas"),
        ("logLevel=loud", "/logLevel"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("engineImage.repository=", "/engineImage/repository"),
        ("replcias=2", "replcias"),
    ],
)
def test_the_schema_refuses(value: str, complaint: str) -> None:
    with pytest.raises(Failed, match=complaint):
        rendered("--set", value)
