"""Secrets: the cluster's certificate authority, one certificate a pod, and the master user.

The keys are made elsewhere (``reconcile/certificates.py``) and handed in; this module only says
which Secret they lie in, and which names a certificate must hold.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import quote

from aurora_operator.api import labels
from aurora_operator.resources.context import ClusterContext, Manifest


def build_secret(
    cluster: ClusterContext,
    name: str,
    content: Mapping[str, bytes],
    annotations: Mapping[str, str] | None = None,
    kind: str = "Opaque",
) -> Manifest:
    """A Secret of the cluster."""
    metadata = cluster.metadata(name)
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": metadata,
        "data": {key: base64.b64encode(value).decode() for key, value in content.items()},
    }


def secret_content(secret: Manifest) -> dict[str, bytes]:
    """A live Secret's keys, decoded."""
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def build_master_secret(cluster: ClusterContext, password: str, ca_pem: bytes) -> Manifest:
    """What a client needs to connect as the master user, and to know whom it talks to.

    The authority's certificate lies here too, so that no client ever needs the Secret of its key.
    """
    username = cluster.spec.master_username
    host = f"{cluster.name}.{cluster.namespace}.svc"
    port = str(cluster.spec.port)
    database = cluster.spec.database_name or "postgres"
    uri = f"postgresql://{username}:{quote(password, safe='')}@{host}:{port}/{database}"
    return build_secret(
        cluster,
        labels.master_secret_name(cluster.name),
        {
            "username": username.encode(),
            "password": password.encode(),
            "host": host.encode(),
            "port": port.encode(),
            "dbname": database.encode(),
            "ca.crt": ca_pem,
            "uri": f"{uri}?sslmode=require".encode(),
        },
    )


def storage_names(cluster: ClusterContext, pod: str) -> tuple[str, ...]:
    """The names in a storage pod's certificate: the short one first."""
    return _pod_names(cluster, pod, labels.storage_service(cluster.name))


def instance_names(cluster: ClusterContext, pod: str) -> tuple[str, ...]:
    """The names in an instance's certificate: its own, and those of the Services before it."""
    names = _pod_names(cluster, pod, labels.instance_service(cluster.name))
    for service in (cluster.name, labels.reader_service(cluster.name)):
        names += _service_names(cluster, service)
    return names


def _pod_names(cluster: ClusterContext, pod: str, service: str) -> tuple[str, ...]:
    stable = f"{pod}.{service}.{cluster.namespace}.svc"
    return (pod, f"{pod}.{service}", f"{pod}.{service}.{cluster.namespace}", *_both(stable))


def _service_names(cluster: ClusterContext, service: str) -> tuple[str, ...]:
    return (
        service,
        f"{service}.{cluster.namespace}",
        *_both(f"{service}.{cluster.namespace}.svc"),
    )


def _both(name: str) -> tuple[str, str]:
    return (name, f"{name}.cluster.local")
