"""The agents' configuration: one ConfigMap for all pods of a cluster."""

from __future__ import annotations

from aurora_operator.api import labels
from aurora_operator.api.agent_config import AgentConfig, StoragePodAddress
from aurora_operator.api.messages import BirthRecord
from aurora_operator.core.cluster.observation import VolumeFacts
from aurora_operator.core.cluster.parameters import refused_parameters
from aurora_operator.core.names import SLOT_COUNT, Slot
from aurora_operator.resources.context import ClusterContext, Manifest

AGENT_CONFIG_KEY = "agent.json"


def build_agent_config(cluster: ClusterContext, volume: VolumeFacts) -> Manifest:
    """The ConfigMap; its annotations repeat how far the volume's birth has come."""
    overrides = cluster.spec.parameter_overrides
    refused = refused_parameters(overrides)
    config = AgentConfig(
        cluster=cluster.name,
        namespace=cluster.namespace,
        port=cluster.spec.port,
        storage=tuple(
            StoragePodAddress(
                slot=Slot(number),
                pod=labels.storage_pod_name(cluster.name, number),
                host=labels.storage_host(cluster.name, cluster.namespace, Slot(number)),
            )
            for number in range(SLOT_COUNT)
        ),
        birth=BirthRecord(volume_id=volume.volume_id, identities=volume.identities),
        database_name=cluster.spec.database_name,
        master_username=cluster.spec.master_username,
        parameters={name: value for name, value in overrides.items() if name not in refused},
        writer_endpoint_slice=labels.writer_slice(cluster.name),
        reader_endpoint_slice=labels.reader_slice(cluster.name),
        instance_service=labels.instance_service(cluster.name),
        log_level=cluster.log_level,
    )
    metadata = cluster.metadata(labels.agent_config_name(cluster.name))
    metadata["annotations"] = {
        labels.VOLUME_ID: volume.volume_id,
        labels.MEMBERS_VERSION: str(volume.version),
    }
    if volume.system_identifier is not None:
        metadata["annotations"][labels.SYSTEM_IDENTIFIER] = volume.system_identifier
    if volume.complete:
        metadata["annotations"][labels.VOLUME_COMPLETE] = "true"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {AGENT_CONFIG_KEY: config.model_dump_json(indent=2)},
    }
