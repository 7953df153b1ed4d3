"""Everything around the pods that has no secret in it, in the order in which it is made."""

from __future__ import annotations

from aurora_operator.core.cluster.observation import VolumeFacts
from aurora_operator.resources.access import (
    build_accounts,
    build_instance_role,
    build_instance_role_binding,
)
from aurora_operator.resources.config import build_agent_config
from aurora_operator.resources.context import ClusterContext, Manifest
from aurora_operator.resources.disruption import build_disruption_budgets
from aurora_operator.resources.network import build_endpoint_slices, build_services

CREATED_ONCE = frozenset({"EndpointSlice"})
"""Kinds that are made and then left to others: the writer's agent moves the slices."""


def build_support(cluster: ClusterContext, volume: VolumeFacts) -> list[Manifest]:
    """The objects that a cluster's pods and clients rely on."""
    return [
        build_agent_config(cluster, volume),
        *build_accounts(cluster),
        build_instance_role(cluster),
        build_instance_role_binding(cluster),
        *build_services(cluster),
        *build_endpoint_slices(cluster),
        *build_disruption_budgets(cluster),
    ]
