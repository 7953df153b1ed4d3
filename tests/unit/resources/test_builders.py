"""What the builders make: restricted pods, certificates' names, least rights, and the diff."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from aurora_operator.agent.instance import pod as instance_pod
from aurora_operator.api import labels
from aurora_operator.api.agent_config import AgentConfig
from aurora_operator.api.cluster import ClusterSpec
from aurora_operator.core.names import Slot
from aurora_operator.resources.access import build_accounts, build_instance_role
from aurora_operator.resources.config import build_agent_config
from aurora_operator.resources.context import ClusterContext
from aurora_operator.resources.diff import differing_fields
from aurora_operator.resources.disruption import build_disruption_budgets
from aurora_operator.resources.network import build_endpoint_slices, build_services
from aurora_operator.resources.pods import build_instance_pod, build_storage_pod
from aurora_operator.resources.secrets import (
    build_master_secret,
    instance_names,
    secret_content,
    storage_names,
)
from aurora_operator.resources.storage import build_claim
from aurora_operator.resources.support import build_support
from support.observations import VOLUME


def context(**spec: Any) -> ClusterContext:
    return ClusterContext("shop", "ns", "uid-1", ClusterSpec.model_validate(spec), "engine:1")


def pods() -> list[dict[str, Any]]:
    cluster = context()
    return [build_storage_pod(cluster, Slot(3), "zone-b"), build_instance_pod(cluster, 2)]


@pytest.mark.parametrize("pod", pods(), ids=["storage", "instance"])
def test_pods_meet_the_restricted_standard(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("pod", pods(), ids=["storage", "instance"])
def test_no_node_condition_evicts_a_pod_before_the_operator_decides(pod: dict[str, Any]) -> None:
    tolerated = {
        entry["key"]
        for entry in pod["spec"]["tolerations"]
        if entry["effect"] == "NoExecute" and "tolerationSeconds" not in entry
    }
    assert tolerated == {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}


def test_a_storage_pod_carries_no_token_and_stays_in_its_zone() -> None:
    spec = pods()[0]["spec"]
    assert spec["automountServiceAccountToken"] is False
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] == ["zone-b"]


def test_a_storage_pod_never_sees_the_masters_password() -> None:
    text = json.dumps(build_storage_pod(context(), Slot(0), None))
    assert labels.master_secret_name("shop") not in text


def test_the_template_of_instances_is_followed_and_cannot_take_our_labels() -> None:
    cluster = context(
        port=5444,
        instanceTemplate={
            "labels": {"team": "a", labels.CLUSTER: "other"},
            "annotations": {"note": "b"},
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "db", "operator": "Exists", "tolerationSeconds": 3}],
            "resources": {"limits": {"memory": "1Gi"}},
            "affinity": {"nodeAffinity": {}},
        },
    )
    pod = build_instance_pod(cluster, 1)
    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["metadata"]["labels"][labels.CLUSTER] == "shop"
    assert pod["metadata"]["annotations"]["note"] == "b"
    assert pod["spec"]["nodeSelector"] == {"disk": "fast"}
    assert {"key": "db", "operator": "Exists", "tolerationSeconds": 3} in pod["spec"]["tolerations"]
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}
    assert pod["spec"]["containers"][0]["ports"][0]["containerPort"] == 5444
    assert pod["spec"]["affinity"] == {"nodeAffinity": {}}
    assert "topologySpreadConstraints" not in pod["spec"]


def test_a_pods_hash_changes_with_its_form_only() -> None:
    def hash_of(cluster: ClusterContext) -> str:
        pod = build_instance_pod(cluster, 1)
        return str(pod["metadata"]["annotations"][labels.TEMPLATE_HASH])

    assert hash_of(context()) == hash_of(context(replicas=5, deletionProtection=True))
    assert hash_of(context()) != hash_of(context(instanceTemplate={"labels": {"team": "b"}}))


def test_a_claim_survives_its_cluster_and_carries_the_record() -> None:
    claim = build_claim(context(), Slot(4), "zone-c", VOLUME)
    assert "ownerReferences" not in claim["metadata"]
    notes = claim["metadata"]["annotations"]
    assert notes[labels.VOLUME_ID] == VOLUME.volume_id
    assert notes[labels.IDENTITY] == VOLUME.identities[4]
    assert notes[labels.IDENTITIES].split(",") == list(VOLUME.identities)
    assert notes[labels.VOLUME_COMPLETE] == "true"
    assert notes[labels.ZONE] == "zone-c"


def test_everything_but_claims_goes_with_its_cluster() -> None:
    cluster = context()
    for manifest in [
        *build_support(cluster, VOLUME),
        *pods(),
        build_master_secret(cluster, "x", b"ca"),
    ]:
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == ("uid-1", True)
        assert manifest["metadata"]["labels"][labels.CLUSTER] == "shop"


def test_endpoints_have_no_selector_and_slices_belong_to_their_services() -> None:
    services = {one["metadata"]["name"]: one["spec"] for one in build_services(context())}
    assert "selector" not in services["shop"]
    assert "selector" not in services["shop-ro"]
    assert services["shop-instances"]["publishNotReadyAddresses"] is True
    assert services["shop-storage"]["clusterIP"] == "None"
    pairs = {
        one["metadata"]["name"]: one["metadata"]["labels"]["kubernetes.io/service-name"]
        for one in build_endpoint_slices(context())
    }
    assert pairs == {"shop-writer": "shop", "shop-reader": "shop-ro"}


def test_an_instance_may_touch_its_own_clusters_objects_only() -> None:
    for rule in build_instance_role(context())["rules"]:
        if rule["verbs"] != ["get", "list"]:
            assert all(one.startswith("shop-") for one in rule["resourceNames"])
    tokens = {
        one["metadata"]["name"]: one["automountServiceAccountToken"]
        for one in build_accounts(context())
    }
    assert tokens == {"shop-instance": True, "shop-storage": False}


def test_refused_parameters_never_reach_an_agent() -> None:
    cluster = context(parameterOverrides={"FSYNC": "off", "work_mem": "8MB"})
    text = build_agent_config(cluster, VOLUME)["data"]["agent.json"]
    config = AgentConfig.model_validate_json(text)
    assert config.parameters == {"work_mem": "8MB"}
    assert config.birth.identities == VOLUME.identities
    assert config.storage[0].host == "shop-storage-0.shop-storage.ns.svc"


def test_certificates_hold_the_short_name_first_and_the_services_for_instances() -> None:
    assert storage_names(context(), "shop-storage-0")[0] == "shop-storage-0"
    names = instance_names(context(), "shop-instance-1")
    assert names[0] == "shop-instance-1"
    assert {"shop", "shop-ro.ns.svc", "shop.ns.svc.cluster.local"} <= set(names)


def test_the_masters_secret_tells_how_to_connect() -> None:
    secret = secret_content(build_master_secret(context(databaseName="orders"), "p/w", b"ca"))
    assert secret["uri"] == b"postgresql://postgres:p%2Fw@shop.ns.svc:5432/orders?sslmode=require"
    assert secret["password"] == b"p/w"
    assert secret["ca.crt"] == b"ca"
    assert "ca.key" not in secret


def test_pods_pull_their_image_with_the_secrets_that_the_operator_was_given() -> None:
    cluster = replace(context(), engine_pull_secrets=("mine", "other"))
    for pod in (build_storage_pod(cluster, Slot(3), None), build_instance_pod(cluster, 2)):
        assert pod["spec"]["imagePullSecrets"] == [{"name": "mine"}, {"name": "other"}]
    assert "imagePullSecrets" not in build_instance_pod(context(), 2)["spec"]


def test_a_broken_pod_never_keeps_a_node_from_being_drained() -> None:
    for budget in build_disruption_budgets(context()):
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize(("replicas", "kept"), [(0, 0), (1, 1), (15, 1)])
def test_a_writer_may_be_evicted_when_a_replica_is_well(replicas: int, kept: int) -> None:
    cluster = context()
    spec = cluster.spec.model_copy(update={"replicas": replicas})
    storage, instance = build_disruption_budgets(
        replace(cluster, spec=spec, storage_pods_to_keep=4)
    )
    assert instance["spec"]["minAvailable"] == kept
    assert storage["spec"]["minAvailable"] == 4


def test_a_pod_has_the_time_that_its_end_may_take() -> None:
    """A switchover at its slowest, then the orderly stop."""
    grace = build_instance_pod(context(), 1)["spec"]["terminationGracePeriodSeconds"]
    assert grace > instance_pod.GRACE_SECONDS


@pytest.mark.parametrize("pod", pods(), ids=["storage", "instance"])
def test_what_lies_in_memory_is_bounded(pod: dict[str, Any]) -> None:
    in_memory = [
        volume["emptyDir"]
        for volume in pod["spec"]["volumes"]
        if volume.get("emptyDir", {}).get("medium") == "Memory"
    ]
    assert len(in_memory) == 2
    assert all("sizeLimit" in volume for volume in in_memory)


def test_a_request_for_the_caches_disk_is_the_users_to_make() -> None:
    requests = {"cpu": "1", "memory": "2Gi", "ephemeral-storage": "20Gi"}
    pod = build_instance_pod(context(instanceTemplate={"resources": {"requests": requests}}), 1)
    assert pod["spec"]["containers"][0]["resources"]["requests"] == requests
    plain = build_instance_pod(context(), 1)
    assert "ephemeral-storage" not in plain["spec"]["containers"][0]["resources"]["requests"]


DIFFS = {
    "equal": ({"spec": {"a": 1}}, {"spec": {"a": 1, "defaulted": True}}, ()),
    "changed": ({"spec": {"a": 1, "b": 2}}, {"spec": {"a": 1, "b": 3}}, ("spec.b",)),
    "missing": ({"spec": {"a": {"b": 1}}}, {"spec": {}}, ("spec.a",)),
    "empty-is-absent": ({"spec": {"a": {}, "b": []}}, {"spec": {}}, ()),
    "list-changed": ({"rules": [{"a": 1}]}, {"rules": [{"a": 2}]}, ("rules",)),
    "list-defaulted": ({"ports": [{"a": 1}]}, {"ports": [{"a": 1, "z": 9}]}, ()),
    "list-longer": ({"rules": [1]}, {"rules": [1, 2]}, ("rules",)),
}


@pytest.mark.parametrize("case", DIFFS)
def test_the_diff_names_the_field(case: str) -> None:
    wanted, live, fields = DIFFS[case]
    assert differing_fields(wanted, live) == fields
