"""Storage pods and instance pods: bare pods, in the restricted form of the pod security standards.

Bare, because which pod may go, and when, is a decision about a quorum and not about a count. They
tolerate a node that is not ready for ever: the operator decides what a lost node means, not the
node lifecycle controller. The agent is process 1 and decides what a restart means, so containers
always restart. Liveness asks only whether the agent's loop runs.
"""

from __future__ import annotations

from typing import Any, Final

from aurora_operator.api import labels
from aurora_operator.core.names import Slot
from aurora_operator.resources.access import instance_account_name, storage_account_name
from aurora_operator.resources.context import ClusterContext, Manifest
from aurora_operator.resources.diff import with_template_hash

USER_ID: Final = 26
"""The user of the engine image."""

_GRACE_SECONDS: Final = 30

_STORAGE_REQUESTS: Final = {"cpu": "50m", "memory": "192Mi"}
_INSTANCE_REQUESTS: Final = {"cpu": "50m", "memory": "256Mi"}

_RUN_SIZE: Final = "64Mi"
"""Sockets and the door: a few bytes."""
_SHM_SIZE: Final = "1Gi"
"""What parallel queries share; PostgreSQL's own buffers do not lie here."""

_NODE_CONDITIONS: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def build_storage_pod(cluster: ClusterContext, slot: Slot, zone: str | None) -> Manifest:
    """The pod of one slot, bound to the slot's zone."""
    name = labels.storage_pod_name(cluster.name, slot)
    metadata = cluster.metadata(name, labels.COMPONENT_STORAGE)
    metadata["labels"][labels.SLOT] = str(slot)
    ports = [
        _port("page-store", labels.PORT_PAGE_STORE),
        _port("gate", labels.PORT_GATE),
        _port("agent", labels.PORT_AGENT),
        _port("metrics", labels.PORT_METRICS),
    ]
    container = _container(
        cluster,
        labels.COMPONENT_STORAGE,
        ports,
        {"requests": dict(_STORAGE_REQUESTS)},
        readiness_period_seconds=5,
    )
    data = {
        "name": "data",
        "persistentVolumeClaim": {"claimName": labels.claim_name(cluster.name, slot)},
    }
    spec = _spec(cluster, name, container, [data, *_volumes(cluster, name, with_master=False)])
    spec |= {
        "subdomain": labels.storage_service(cluster.name),
        "serviceAccountName": storage_account_name(cluster.name),
        "automountServiceAccountToken": False,
        "affinity": _storage_affinity(cluster, zone),
        "tolerations": _tolerations(),
    }
    return with_template_hash(_pod(metadata, spec))


def build_instance_pod(cluster: ClusterContext, ordinal: int) -> Manifest:
    """The pod of one instance, as the spec's template wants it."""
    name = labels.instance_name(cluster.name, ordinal)
    template = cluster.spec.instance_template
    metadata = cluster.metadata(name, labels.COMPONENT_INSTANCE)
    metadata["labels"] = {
        **template.labels,
        **metadata["labels"],
        labels.ORDINAL: str(ordinal),
    }
    metadata["annotations"] = dict(template.annotations)
    ports = [
        _port("postgresql", cluster.spec.port),
        _port("agent", labels.PORT_AGENT),
        _port("metrics", labels.PORT_METRICS),
    ]
    resources = {
        "requests": template.resources.requests or dict(_INSTANCE_REQUESTS),
        "limits": template.resources.limits,
    }
    container = _container(
        cluster, labels.COMPONENT_INSTANCE, ports, resources, readiness_period_seconds=2
    )
    # As large as the database, on the node's disk. How much of it to reserve is for the user to
    # say (ephemeral-storage in the template's requests): a size of ours would keep small nodes out.
    cache: Manifest = {"name": "data", "emptyDir": {}}
    spec = _spec(cluster, name, container, [cache, *_volumes(cluster, name, with_master=True)])
    spec |= {
        "subdomain": labels.instance_service(cluster.name),
        "serviceAccountName": instance_account_name(cluster.name),
        "nodeSelector": template.node_selector,
        "tolerations": [
            *_tolerations(),
            *(entry.model_dump(by_alias=True, exclude_none=True) for entry in template.tolerations),
        ],
    }
    if template.affinity is not None:
        spec["affinity"] = template.affinity
    else:
        spec["topologySpreadConstraints"] = _instance_spread(cluster)
    return with_template_hash(_pod(metadata, spec))


def _pod(metadata: Manifest, spec: Manifest) -> Manifest:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _spec(
    cluster: ClusterContext, name: str, container: Manifest, volumes: list[Manifest]
) -> Manifest:
    spec: Manifest = {
        "hostname": name,
        "restartPolicy": "Always",
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    if cluster.engine_pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret} for secret in cluster.engine_pull_secrets]
    return spec


def _container(
    cluster: ClusterContext,
    component: str,
    ports: list[Manifest],
    resources: Manifest,
    *,
    readiness_period_seconds: int,
) -> Manifest:
    return {
        "name": component,
        "image": cluster.engine_image,
        "imagePullPolicy": "IfNotPresent",
        "args": [component],
        "env": [
            _field("POD_NAME", "metadata.name"),
            _field("POD_NAMESPACE", "metadata.namespace"),
            _field("POD_UID", "metadata.uid"),
            _field("POD_IP", "status.podIP"),
        ],
        "ports": ports,
        "resources": {kind: amounts for kind, amounts in resources.items() if amounts},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "livenessProbe": {
            **_probe("/livez"),
            "initialDelaySeconds": 10,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "readinessProbe": {
            **_probe("/readyz"),
            "periodSeconds": readiness_period_seconds,
            "timeoutSeconds": 3,
            "failureThreshold": 2,
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/var/lib/aurora"},
            {"name": "etc", "mountPath": "/etc/aurora", "readOnly": True},
            {"name": "run", "mountPath": "/run/aurora"},
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _volumes(cluster: ClusterContext, pod: str, *, with_master: bool) -> list[Manifest]:
    """Configuration, certificate and (for instances) the master user, in one projected folder.

    One folder, so that the kubelet swaps all of it atomically when something changes.
    """
    sources: list[Manifest] = [
        {
            "configMap": {
                "name": labels.agent_config_name(cluster.name),
                "items": [{"key": "agent.json", "path": "agent.json"}],
            }
        },
        _secret_files(labels.tls_secret_name(pod), "tls", ("ca.crt", "tls.crt", "tls.key")),
    ]
    if with_master:
        sources.append(
            _secret_files(
                labels.master_secret_name(cluster.name), "master", ("username", "password")
            )
        )
    return [
        # Group-readable and owned by root: PostgreSQL takes a key like that.
        {"name": "etc", "projected": {"defaultMode": 0o440, "sources": sources}},
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": _RUN_SIZE}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _SHM_SIZE}},
        {"name": "tmp", "emptyDir": {}},
    ]


def _secret_files(secret: str, folder: str, keys: tuple[str, ...]) -> Manifest:
    items = [{"key": key, "path": f"{folder}/{key}"} for key in keys]
    return {"secret": {"name": secret, "items": items}}


def _storage_affinity(cluster: ClusterContext, zone: str | None) -> Manifest:
    affinity: dict[str, Any] = {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 100,
                    "podAffinityTerm": {
                        "topologyKey": labels.HOSTNAME_LABEL,
                        "labelSelector": _selector(cluster, labels.COMPONENT_STORAGE),
                    },
                }
            ]
        }
    }
    if zone is not None:
        expression = {"key": labels.ZONE_LABEL, "operator": "In", "values": [zone]}
        affinity["nodeAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [expression]}]
            }
        }
    return affinity


def _instance_spread(cluster: ClusterContext) -> list[Manifest]:
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": _selector(cluster, labels.COMPONENT_INSTANCE),
        }
        for key in (labels.ZONE_LABEL, labels.HOSTNAME_LABEL)
    ]


def _selector(cluster: ClusterContext, component: str) -> Manifest:
    return {"matchLabels": {labels.CLUSTER: cluster.name, labels.APP_COMPONENT: component}}


def _tolerations() -> list[Manifest]:
    return [{"key": key, "operator": "Exists", "effect": "NoExecute"} for key in _NODE_CONDITIONS]


def _port(name: str, number: int) -> Manifest:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _field(name: str, path: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _probe(path: str) -> Manifest:
    return {"httpGet": {"path": path, "port": labels.PORT_METRICS, "scheme": "HTTP"}}
