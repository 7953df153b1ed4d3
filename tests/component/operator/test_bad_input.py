"""What ``kubectl apply`` answers to bad input: the API server refuses, and says why."""

from __future__ import annotations

from typing import Any, Final

import pytest

from aurora_operator.api import labels
from aurora_operator.kube.api import Kind, Refused
from aurora_operator.kube.client import KubeClient

LONG: Final = "a" * 46

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "sixteen-replicas": ("shop", {"replicas": 16}, "less than or equal to 15"),
    "fewer-than-no-replicas": ("shop", {"replicas": -1}, "greater than or equal to 0"),
    "mysql": ("shop", {"engine": "aurora-mysql"}, "not available yet; use aurora-postgresql"),
    "unknown-engine": ("shop", {"engine": "oracle"}, "unknown engine; use aurora-postgresql"),
    "unknown-version": ("shop", {"engineVersion": "12"}, "unknown engineVersion; available: 17"),
    "name-too-long": (LONG, {}, "at most 45 characters"),
    "name-with-dot": ("a.b", {}, "DNS label"),
    "port-of-ours": ("shop", {"port": 8443}, "used by the cluster itself"),
    "port-too-low": ("shop", {"port": 22}, "greater than or equal to 1150"),
    "reserved-user": ("shop", {"masterUsername": "rdsadmin"}, "reserved"),
    "reserved-database": ("shop", {"databaseName": "postgres"}, "reserved"),
    "two-passwords": (
        "shop",
        {"manageMasterUserPassword": True, "masterUserPassword": {"name": "mine"}},
        "exclude each other",
    ),
    "no-password": ("shop", {"manageMasterUserPassword": False}, "has to manage the password"),
    "fsync-off": ("shop", {"parameterOverrides": {"fsync": "off"}}, "fsync cannot be overridden"),
    "no-waiting": (
        "shop",
        {"parameterOverrides": {"synchronous_commit": "local"}},
        "the volume's durability rests on it",
    ),
    "no-name-of-a-setting": (
        "shop",
        {"parameterOverrides": {"no such name": "1"}},
        "the name of a setting is letters",
    ),
    "files-of-the-pod": (
        "shop",
        {"parameterOverrides": {"include": "secret"}},
        "include cannot be overridden",
    ),
    "tiny-volume": ("shop", {"storage": {"size": "512Mi"}}, "at least 1Gi"),
    "size-with-a-fraction": ("shop", {"storage": {"size": "1.1Gi"}}, "must be a whole number"),
    "size-without-sense": ("shop", {"storage": {"size": "big"}}, "should match"),
    "unknown-policy": ("shop", {"storage": {"retainPolicy": "Keep"}}, "supported values"),
}

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "database-name": ({"databaseName": "other"}, "databaseName cannot be changed"),
    "database-name-removed": ({"databaseName": None}, "databaseName cannot be changed"),
    "port": ({"port": 5444}, "port cannot be changed"),
    "user": ({"masterUsername": "other"}, "masterUsername cannot be changed"),
    "class": (
        {"storage": {"storageClassName": "other"}},
        "storage.storageClassName cannot be changed",
    ),
    "shrinking": ({"storage": {"size": "5Gi"}}, "cannot shrink"),
}


def cluster(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": labels.API_VERSION,
        "kind": labels.KIND,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


@pytest.mark.parametrize("case", REFUSED)
async def test_refused_at_the_door(admin: KubeClient, case: str) -> None:
    name, spec, message = REFUSED[case]
    with pytest.raises(Refused) as refusal:
        await admin.create(Kind.CLUSTER, "default", cluster(name, spec))
    assert message in str(refusal.value)


@pytest.mark.parametrize("case", CHANGES)
async def test_a_change_is_refused(admin: KubeClient, case: str) -> None:
    change, message = CHANGES[case]
    name = f"change-{case}"
    spec = {"databaseName": "shop", "storage": {"size": "10Gi"}}
    await admin.create(Kind.CLUSTER, "default", cluster(name, spec))
    try:
        with pytest.raises(Refused) as refusal:
            await admin.patch(Kind.CLUSTER, "default", name, {"spec": change})
        assert message in str(refusal.value)
    finally:
        await admin.delete(Kind.CLUSTER, "default", name)


async def test_what_may_change_may_change(admin: KubeClient) -> None:
    await admin.create(Kind.CLUSTER, "default", cluster("may-change", {}))
    try:
        changed = await admin.patch(
            Kind.CLUSTER,
            "default",
            "may-change",
            {
                "spec": {
                    "replicas": 15,
                    "deletionProtection": True,
                    "storage": {"size": "20Gi", "retainPolicy": "Delete"},
                    "parameterOverrides": {"work_mem": "8MB"},
                    "instanceTemplate": {"resources": {"requests": {"cpu": 1}}},
                }
            },
        )
        assert changed["spec"]["replicas"] == 15
    finally:
        await admin.delete(Kind.CLUSTER, "default", "may-change")
