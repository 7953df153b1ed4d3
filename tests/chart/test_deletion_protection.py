"""The policy that keeps a protected AuroraCluster, asked of a real API server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aurora_operator.kube.api import KubeError, NotFound
from aurora_operator.kube.client import KubeClient
from support.api_server import raw
from support.helm import render

CHART = Path(__file__).resolve().parents[2] / "charts" / "aurora-operator"
TEMPLATE = "templates/deletion-protection.yaml"
CLUSTERS = "/apis/aurora-operator.io/v1alpha1/namespaces/default/auroraclusters"
POLICIES = "/apis/admissionregistration.k8s.io/v1"
PLURALS = {
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}
IN_FORCE_LIMIT_SECONDS = 30.0
FOREGROUND: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "DeleteOptions",
    "propagationPolicy": "Foreground",
}


@pytest.fixture
async def policy(admin: KubeClient) -> AsyncIterator[None]:
    """The chart's policy and its binding, in force; gone afterwards."""
    made = []
    for document in yaml.safe_load_all(render(CHART, "--show-only", TEMPLATE)):
        path = f"{POLICIES}/{PLURALS[document['kind']]}"
        await raw(admin, "POST", path, document)
        made.append(f"{path}/{document['metadata']['name']}")
    await make(admin, "probe", protected=True)
    deadline = time.monotonic() + IN_FORCE_LIMIT_SECONDS
    while await refusal(admin, "probe", dry_run=True) is None:
        assert time.monotonic() < deadline, "a protected cluster may still be deleted"
        await asyncio.sleep(0.1)
    yield
    for path in made:
        await raw(admin, "DELETE", path)


async def make(admin: KubeClient, name: str, *, protected: bool | None) -> None:
    """An AuroraCluster; None leaves the field out."""
    spec = {} if protected is None else {"deletionProtection": protected}
    body = {
        "apiVersion": "aurora-operator.io/v1alpha1",
        "kind": "AuroraCluster",
        "metadata": {"name": name},
        "spec": spec,
    }
    await raw(admin, "POST", CLUSTERS, body)


async def refusal(
    admin: KubeClient,
    name: str,
    options: dict[str, Any] | None = None,
    *,
    dry_run: bool = False,
) -> str | None:
    """Delete it: what the API server says against it, or None when it was done."""
    path = f"{CLUSTERS}/{name}" + ("?dryRun=All" if dry_run else "")
    try:
        await raw(admin, "DELETE", path, options)
    except KubeError as error:
        return str(error)
    return None


async def test_a_protected_cluster_stays_until_it_is_unprotected(
    admin: KubeClient, policy: None
) -> None:
    await make(admin, "kept", protected=True)
    told = await refusal(admin, "kept")
    assert told is not None
    assert "spec.deletionProtection: true, so nothing was deleted" in told
    assert "kubectl -n default patch auroracluster kept --type merge -p" in told
    assert await refusal(admin, "kept", FOREGROUND) is not None
    kept = await raw(admin, "GET", f"{CLUSTERS}/kept")
    assert "deletionTimestamp" not in kept["metadata"]

    kept["spec"]["deletionProtection"] = False
    await raw(admin, "PUT", f"{CLUSTERS}/kept", kept)
    assert await refusal(admin, "kept") is None
    with pytest.raises(NotFound):
        await raw(admin, "GET", f"{CLUSTERS}/kept")

    for name, protected in (("plain", None), ("open", False)):
        await make(admin, name, protected=protected)
        assert await refusal(admin, name) is None
    # All at once, the way `kubectl delete --all` does not ask but a collection does.
    with pytest.raises(KubeError, match="deletionProtection"):
        await raw(admin, "DELETE", CLUSTERS)
    assert await raw(admin, "GET", f"{CLUSTERS}/probe")
