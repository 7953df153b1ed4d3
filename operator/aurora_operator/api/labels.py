"""Names that stand on Kubernetes objects: labels, annotations, finalizer, ports, object names.

One module, so that a name is written once: what the operator puts on an object is what agents,
Services and people select by. Once released, none of these may change.
"""

from __future__ import annotations

from typing import Final

from aurora_operator.core.names import InstanceName, Slot

GROUP: Final = "aurora-operator.io"
VERSION: Final = "v1alpha1"
PLURAL: Final = "auroraclusters"
KIND: Final = "AuroraCluster"
API_VERSION: Final = f"{GROUP}/{VERSION}"

# Recommended labels of Kubernetes.
APP_NAME: Final = "app.kubernetes.io/name"
APP_INSTANCE: Final = "app.kubernetes.io/instance"
APP_COMPONENT: Final = "app.kubernetes.io/component"
APP_PART_OF: Final = "app.kubernetes.io/part-of"
APP_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "aurora-operator"

# Ours.
CLUSTER: Final = f"{GROUP}/cluster"
"""Label: the AuroraCluster that an object belongs to. The operator watches nothing without it."""
SLOT: Final = f"{GROUP}/slot"
"""Label of storage pods and claims: the slot, 0 to 5."""
ORDINAL: Final = f"{GROUP}/ordinal"
"""Label of instance pods: the number at the end of the name."""
ROLE: Final = f"{GROUP}/instance-role"
"""Label of instance pods, writer or replica: for people; nothing is decided by it."""

COMPONENT_STORAGE: Final = "storage"
COMPONENT_INSTANCE: Final = "instance"

TERM: Final = f"{GROUP}/term"
"""Annotation of both EndpointSlices: the term of the writer that set them; it never falls."""
VOLUME_ID: Final = f"{GROUP}/volume-id"
IDENTITY: Final = f"{GROUP}/identity"
IDENTITIES: Final = f"{GROUP}/identities"
"""Annotation of claims: all six identities in slot order; one claim can restore the list."""
MEMBERS_VERSION: Final = f"{GROUP}/members-version"
"""Annotation beside the identities: the version of the member list they are of, ``<term>.<n>``."""
LOST_COPIES: Final = f"{GROUP}/lost-copies"
"""Annotation of an AuroraCluster, set by a person: the identities of three copies that are gone for
good, separated by commas. The volume is then opened with the other three (rule 10)."""
SYSTEM_IDENTIFIER: Final = f"{GROUP}/system-identifier"
VOLUME_COMPLETE: Final = f"{GROUP}/volume-complete"
"""Annotation of claims: "true" from the moment six full copies were seen; nothing formats after."""
ZONE: Final = f"{GROUP}/zone"
"""Annotation of claims: the zone that the slot was placed in."""
TEMPLATE_HASH: Final = f"{GROUP}/template-hash"
"""Annotation of what the operator rebuilds or patches: a hash of what it last wanted."""
RENEW_AFTER: Final = f"{GROUP}/renew-after"
"""Annotation of certificate Secrets: when two thirds of the certificate's life are over."""

SWITCHOVER: Final = f"{GROUP}/switchover"
"""Annotation of the AuroraCluster: switch over to this instance, or to ``any``. The operator adds
the term of the writer that is to hand over, and removes it when that is done or cannot be done."""

FINALIZER: Final = f"{GROUP}/volume"
SERVER_RUNNING: Final = f"{GROUP}/ServerRunning"
"""Pod condition, set by the instance's agent."""
ZONE_LABEL: Final = "topology.kubernetes.io/zone"
HOSTNAME_LABEL: Final = "kubernetes.io/hostname"

PORT_PAGE_STORE: Final = 5432
PORT_GATE: Final = 5433
PORT_AGENT: Final = 8443
PORT_METRICS: Final = 9187
PORT_OPERATOR: Final = 8080

INSTANCE_COUNT_MAX: Final = 16
"""One writer and fifteen replicas."""


def storage_pod_name(cluster: str, slot: int) -> str:
    """``shop-storage-0``."""
    return f"{cluster}-storage-{slot}"


def claim_name(cluster: str, slot: int) -> str:
    """``data-shop-storage-0``."""
    return f"data-{storage_pod_name(cluster, slot)}"


def instance_name(cluster: str, ordinal: int) -> InstanceName:
    """``shop-instance-1``."""
    return InstanceName(f"{cluster}-instance-{ordinal}")


def storage_service(cluster: str) -> str:
    """The headless Service that gives storage pods their names."""
    return f"{cluster}-storage"


def instance_service(cluster: str) -> str:
    """The headless Service that gives instances their names."""
    return f"{cluster}-instances"


def reader_service(cluster: str) -> str:
    """The Service of the reader endpoint; the writer's carries the cluster's own name."""
    return f"{cluster}-ro"


def writer_slice(cluster: str) -> str:
    """The EndpointSlice of the cluster endpoint."""
    return f"{cluster}-writer"


def reader_slice(cluster: str) -> str:
    """The EndpointSlice of the reader endpoint."""
    return f"{cluster}-reader"


def agent_config_name(cluster: str) -> str:
    """The ConfigMap that holds ``agent.json``."""
    return f"{cluster}-agent"


def master_secret_name(cluster: str) -> str:
    """The Secret that clients connect with."""
    return f"{cluster}-master"


def ca_secret_name(cluster: str) -> str:
    """The Secret of the cluster's own certificate authority."""
    return f"{cluster}-ca"


def tls_secret_name(pod: str) -> str:
    """The Secret of one pod's certificate."""
    return f"{pod}-tls"


def storage_host(cluster: str, namespace: str, slot: Slot) -> str:
    """A storage pod's stable DNS name."""
    return f"{storage_pod_name(cluster, slot)}.{storage_service(cluster)}.{namespace}.svc"


def instance_host(cluster: str, namespace: str, pod: str) -> str:
    """An instance's stable DNS name."""
    return f"{pod}.{instance_service(cluster)}.{namespace}.svc"


def cluster_labels(cluster: str, component: str | None = None) -> dict[str, str]:
    """The labels of every object of a cluster; ``component`` for one kind of pod's objects."""
    labels = {
        APP_NAME: "aurora-postgresql",
        APP_INSTANCE: cluster,
        APP_PART_OF: "aurora-operator",
        APP_MANAGED_BY: MANAGER,
        CLUSTER: cluster,
    }
    if component is not None:
        labels[APP_COMPONENT] = component
    return labels


def cluster_selector(cluster: str, component: str | None = None) -> str:
    """The label selector that finds them again."""
    selector = f"{CLUSTER}={cluster}"
    if component is not None:
        selector += f",{APP_COMPONENT}={component}"
    return selector
