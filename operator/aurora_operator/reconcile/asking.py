"""Ask all agents of a cluster at once how they are; who does not answer in time is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from aurora_operator.core.cluster.observation import CopyView, InstanceView, PodView
from aurora_operator.core.names import InstanceName, Slot
from aurora_operator.reconcile import views
from aurora_operator.reconcile.agents import AgentAddress, Agents, AgentUnreachable

_LOG = structlog.get_logger(__name__)


def addresses_of(pods: Sequence[dict[str, Any]]) -> dict[str, AgentAddress]:
    """Where the agents of running pods listen."""
    return {
        pod["metadata"]["name"]: AgentAddress(pod["metadata"]["name"], pod["status"]["podIP"])
        for pod in pods
        if (pod.get("status") or {}).get("podIP") and pod["status"].get("phase") == "Running"
    }


async def ask_copies(
    agents: Agents | None,
    pods: Mapping[Slot, PodView],
    addresses: Mapping[str, AgentAddress],
    timeout_seconds: float,
) -> dict[Slot, CopyView]:
    """What the storage pods answer, by slot."""
    if agents is None:
        return {}

    async def ask(slot: Slot, pod: PodView) -> CopyView | None:
        if pod.name not in addresses:
            return None
        try:
            status = await agents.fetch_storage_status(addresses[pod.name], timeout_seconds)
        except AgentUnreachable as error:
            _LOG.debug("storage agent silent", pod=pod.name, error=str(error))
            return None
        return replace(views.copy_view(status), slot=slot)

    answers = await asyncio.gather(*(ask(slot, pod) for slot, pod in pods.items()))
    return {answer.slot: answer for answer in answers if answer is not None}


async def ask_instances(
    agents: Agents | None,
    pods: Mapping[int, PodView],
    addresses: Mapping[str, AgentAddress],
    timeout_seconds: float,
    writer: InstanceName | None,
) -> dict[InstanceName, InstanceView]:
    """What the instances answer, by name; ``writer`` is the last one known."""
    if agents is None:
        return {}

    async def ask(pod: PodView) -> InstanceView | None:
        # One that ends is no candidate: nobody waits for its answer, unless it may hand over.
        if pod.name not in addresses or (pod.terminating and pod.name != writer):
            return None
        try:
            status = await agents.fetch_instance_status(addresses[pod.name], timeout_seconds)
        except AgentUnreachable as error:
            _LOG.debug("instance agent silent", pod=pod.name, error=str(error))
            return None
        return views.instance_view(status)

    answers = await asyncio.gather(*(ask(pod) for pod in pods.values()))
    return {answer.name: answer for answer in answers if answer is not None}
