"""How clients and pods find each other: four Services, and two EndpointSlices of ours.

The writer's and the readers' Services have no selector, because who the writer is is not a label
that lags behind, but a fact that the writer itself knows: its agent moves the slices.
"""

from __future__ import annotations

from aurora_operator.api import labels
from aurora_operator.resources.context import ClusterContext, Manifest

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
SLICE_MANAGER = labels.GROUP


def build_services(cluster: ClusterContext) -> list[Manifest]:
    """The writer's, the readers', and the two headless ones that give pods their names."""
    client_port = [
        {
            "name": "postgresql",
            "port": cluster.spec.port,
            "targetPort": cluster.spec.port,
            "protocol": "TCP",
        }
    ]
    return [
        _service(cluster, cluster.name, {"type": "ClusterIP", "ports": client_port}),
        _service(
            cluster,
            labels.reader_service(cluster.name),
            {"type": "ClusterIP", "ports": client_port},
        ),
        _headless(cluster, labels.instance_service(cluster.name), labels.COMPONENT_INSTANCE),
        _headless(cluster, labels.storage_service(cluster.name), labels.COMPONENT_STORAGE),
    ]


def _service(
    cluster: ClusterContext, name: str, spec: Manifest, component: str | None = None
) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": cluster.metadata(name, component),
        "spec": spec,
    }


def _headless(cluster: ClusterContext, name: str, component: str) -> Manifest:
    return _service(
        cluster,
        name,
        {
            "type": "ClusterIP",
            "clusterIP": "None",
            # Agents find each other before anything is ready; that is how it becomes ready.
            "publishNotReadyAddresses": True,
            "selector": {labels.CLUSTER: cluster.name, labels.APP_COMPONENT: component},
            "ports": [
                {
                    "name": "agent",
                    "port": labels.PORT_AGENT,
                    "targetPort": labels.PORT_AGENT,
                    "protocol": "TCP",
                }
            ],
        },
        component,
    )


def build_endpoint_slices(cluster: ClusterContext) -> list[Manifest]:
    """Both slices, empty: made once and then moved by the writer's agent, never patched by us."""
    pairs = (
        (labels.writer_slice(cluster.name), cluster.name),
        (labels.reader_slice(cluster.name), labels.reader_service(cluster.name)),
    )
    slices = []
    for name, service in pairs:
        metadata = cluster.metadata(name)
        metadata["labels"] |= {SERVICE_NAME_LABEL: service, MANAGED_BY_LABEL: SLICE_MANAGER}
        metadata["annotations"] = {labels.TERM: "0"}
        slices.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": metadata,
                "addressType": "IPv4",
                "ports": [{"name": "postgresql", "port": cluster.spec.port, "protocol": "TCP"}],
                "endpoints": [],
            }
        )
    return slices
