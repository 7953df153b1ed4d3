"""Who may do what: the two ServiceAccounts of a cluster, and the Role of its instances.

A storage pod's agent talks to nobody's API server, so its account holds nothing and no token is
mounted. An instance moves the endpoints and reports about itself: the objects are named one by
one, so that an agent can touch its own cluster's only.
"""

from __future__ import annotations

from aurora_operator.api import labels
from aurora_operator.resources.context import ClusterContext, Manifest

_RBAC = "rbac.authorization.k8s.io"


def instance_account_name(cluster: str) -> str:
    """``shop-instance``, also the name of its Role and RoleBinding."""
    return f"{cluster}-instance"


def storage_account_name(cluster: str) -> str:
    """``shop-storage``."""
    return f"{cluster}-storage"


def build_accounts(cluster: ClusterContext) -> list[Manifest]:
    """Both ServiceAccounts."""
    accounts = (
        (instance_account_name(cluster.name), labels.COMPONENT_INSTANCE, True),
        (storage_account_name(cluster.name), labels.COMPONENT_STORAGE, False),
    )
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": cluster.metadata(name, component),
            "automountServiceAccountToken": token,
        }
        for name, component, token in accounts
    ]


def build_instance_role(cluster: ClusterContext) -> Manifest:
    """What an instance's agent may do."""
    slices = [labels.writer_slice(cluster.name), labels.reader_slice(cluster.name)]
    pods = [
        labels.instance_name(cluster.name, ordinal)
        for ordinal in range(1, labels.INSTANCE_COUNT_MAX + 1)
    ]
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "Role",
        "metadata": cluster.metadata(
            instance_account_name(cluster.name), labels.COMPONENT_INSTANCE
        ),
        "rules": [
            {
                "apiGroups": ["discovery.k8s.io"],
                "resources": ["endpointslices"],
                "resourceNames": slices,
                "verbs": ["get", "update"],
            },
            # Which replicas are ready; a list cannot be restricted to names.
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
            {
                "apiGroups": [""],
                "resources": ["pods/status"],
                "resourceNames": pods,
                "verbs": ["patch"],
            },
        ],
    }


def build_instance_role_binding(cluster: ClusterContext) -> Manifest:
    """Gives the Role to the account."""
    name = instance_account_name(cluster.name)
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": cluster.metadata(name, labels.COMPONENT_INSTANCE),
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": cluster.namespace}],
    }
