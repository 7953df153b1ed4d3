"""Gather one snapshot of a cluster: from the API server, then from the agents.

EndpointSlices are read before any agent is asked: whoever says after that it is no writer cannot
have moved them in between unnoticed. All agents are asked at once and each has its own time limit,
so that one frozen pod delays a cycle by that limit and no more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from aurora_operator.api import labels
from aurora_operator.api.agent_config import AgentConfig
from aurora_operator.api.cluster import AuroraCluster, ClusterSpec
from aurora_operator.core.cluster.observation import (
    ClaimView,
    ClusterObservation,
    CopyView,
    InstanceView,
    NodeView,
    PodView,
    VolumeFacts,
)
from aurora_operator.core.cluster.placement import place_slots
from aurora_operator.core.names import InstanceName, Slot
from aurora_operator.kube.api import Kind, KubeApi, NotFound
from aurora_operator.reconcile import views
from aurora_operator.reconcile.agents import AgentAddress, AgentsFactory, AgentUnreachable
from aurora_operator.reconcile.certificates import Authority
from aurora_operator.reconcile.sight import Memory, Sight
from aurora_operator.resources.config import AGENT_CONFIG_KEY
from aurora_operator.resources.context import ClusterContext
from aurora_operator.resources.pods import build_instance_pod, build_storage_pod
from aurora_operator.resources.secrets import secret_content

Manifest = dict[str, Any]

AGENT_SECONDS: Final = 2.0
"""Time limit of a status question in an ordinary cycle."""
REFLEX_AGENT_SECONDS: Final = 0.3
"""And when only the question is who opens: whoever is slower is not a candidate this time."""

_PASSWORD_LENGTH_MIN: Final = 8
_PASSWORD_LENGTH_MAX: Final = 128
_OTHER_KINDS: Final = (
    Kind.SERVICE,
    Kind.CONFIG_MAP,
    Kind.SECRET,
    Kind.ACCOUNT,
    Kind.SLICE,
    Kind.BUDGET,
    Kind.ROLE,
    Kind.BINDING,
)
_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ClusterName:
    """Which cluster."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Surroundings:
    """What all cycles of all clusters share."""

    kube: KubeApi
    connect_agents: AgentsFactory
    engine_image: str
    log_level: str = "info"


class Observer:
    """Takes snapshots of one cluster."""

    def __init__(self, around: Surroundings, cluster: ClusterName, memory: Memory) -> None:
        self._around = around
        self._kube = around.kube
        self._cluster = cluster
        self._memory = memory

    async def observe(self) -> Sight | None:
        """The whole snapshot; ``None`` when the AuroraCluster is gone."""
        name, namespace = self._cluster.name, self._cluster.namespace
        try:
            manifest = await self._kube.get(Kind.CLUSTER, namespace, name)
        except NotFound:
            return None
        cluster = AuroraCluster.model_validate(manifest)
        selector = labels.cluster_selector(name)
        pods, claims, slices, nodes, classes = await asyncio.gather(
            self._kube.list(Kind.POD, namespace, selector),
            self._kube.list(Kind.CLAIM, namespace, selector),
            self._kube.list(Kind.SLICE, namespace, selector),
            self._kube.list(Kind.NODE, None),
            self._kube.list(Kind.STORAGE_CLASS, None),
        )
        config, authority = await asyncio.gather(
            self._find(Kind.CONFIG_MAP, labels.agent_config_name(name)),
            self._find(Kind.SECRET, labels.ca_secret_name(name)),
        )
        password, password_problem = await self._user_password(cluster.spec)
        storage_class, class_problem = views.storage_class_view(
            cluster.spec.storage.storage_class_name, list(classes)
        )
        await self._connect(authority)
        context = ClusterContext(
            name,
            namespace,
            manifest["metadata"]["uid"],
            cluster.spec,
            self._around.engine_image,
            self._around.log_level,
        )
        deleting = "deletionTimestamp" in manifest["metadata"]
        observation = ClusterObservation(
            name=name,
            namespace=namespace,
            generation=manifest["metadata"].get("generation", 1),
            deleting=deleting,
            has_finalizer=labels.FINALIZER in (manifest["metadata"].get("finalizers") or ()),
            spec=views.spec_facts(cluster.spec),
            recorded=views.volume_facts(cluster.status.volume),
            configured=_configured(config),
            remembered=views.remembered(cluster),
            storage_pods=_storage_pods(pods),
            instance_pods=_instance_pods(pods),
            claims=_claims(claims),
            nodes=self._nodes(nodes),
            storage_class=storage_class,
            storage_class_problem=class_problem,
            password_problem=password_problem,
            openings_asked=self._memory.openings_asked,
            other_objects=await self._count_others(selector) if deleting else 0,
        )
        observation = replace(observation, outdated_pods=_outdated(context, observation))
        addresses = _addresses(pods)
        copies, instances = await asyncio.gather(
            self._ask_copies(observation.storage_pods, addresses),
            self._ask_instances(observation.instance_pods, addresses, AGENT_SECONDS),
        )
        observation = replace(
            observation,
            copies=copies,
            instances=instances,
            silent_seconds=self._silence(observation.instance_pods, instances),
        )
        return Sight(
            observation=observation,
            context=context,
            cluster=cluster,
            manifest=manifest,
            agents=self._memory.agents,
            addresses=addresses,
            slices={entry["metadata"]["name"]: entry for entry in slices},
            instance_pods={
                pod["metadata"]["name"]: pod
                for pod in pods
                if labels.ORDINAL in views.labels_of(pod)
            },
            user_password=password,
        )

    async def glance(self, before: Sight) -> Sight:
        """Only the instances anew: enough to decide who opens, and as fast as can be."""
        pods = await self._kube.list(
            Kind.POD,
            self._cluster.namespace,
            labels.cluster_selector(self._cluster.name, labels.COMPONENT_INSTANCE),
        )
        addresses = _addresses(pods)
        instance_pods = _instance_pods(pods)
        instances = await self._ask_instances(instance_pods, addresses, REFLEX_AGENT_SECONDS)
        observation = replace(
            before.observation,
            instance_pods=instance_pods,
            instances=instances,
            silent_seconds=self._silence(instance_pods, instances),
            openings_asked=self._memory.openings_asked,
        )
        return replace(before, observation=observation, addresses={**before.addresses, **addresses})

    async def _find(self, kind: Kind, name: str) -> Manifest | None:
        try:
            return await self._kube.get(kind, self._cluster.namespace, name)
        except NotFound:
            return None

    async def _user_password(self, spec: ClusterSpec) -> tuple[str | None, str | None]:
        """The user's own password, or what is wrong with it."""
        reference = spec.master_user_password
        if reference is None:
            return None, None
        where = f"Secret {reference.name}, key {reference.key}"
        secret = await self._find(Kind.SECRET, reference.name)
        if secret is None:
            return None, (
                f"masterUserPassword names {where}, and there is no such Secret in this namespace. "
                "Create it, or leave masterUserPassword out to have a password made"
            )
        value = secret_content(secret).get(reference.key)
        if value is None:
            return None, (
                f"masterUserPassword names {where}, and the Secret has no such key. Add the key"
            )
        password = value.decode(errors="replace").rstrip("\n")
        fits = _PASSWORD_LENGTH_MIN <= len(password) <= _PASSWORD_LENGTH_MAX
        if not fits or any(not "!" <= sign <= "~" or sign in '/"@' for sign in password):
            return None, (
                f"the password in {where} cannot be used: it needs 8 to 128 printable ASCII "
                'characters, and none of / " @ or blank'
            )
        return password, None

    async def _connect(self, secret: Manifest | None) -> None:
        """A client for the agents, made anew when the cluster's authority is another one."""
        memory = self._memory
        if secret is None:
            return
        content = secret_content(secret)
        if "ca.crt" not in content or "ca.key" not in content:
            return
        authority = Authority(content["ca.crt"], content["ca.key"])
        if authority == memory.authority:
            return
        if memory.agents is not None:
            await memory.agents.close()
        memory.agents = self._around.connect_agents(
            self._cluster.namespace, self._cluster.name, authority
        )
        memory.authority = authority

    async def _count_others(self, selector: str) -> int:
        found = await asyncio.gather(
            *(self._kube.list(kind, self._cluster.namespace, selector) for kind in _OTHER_KINDS)
        )
        return sum(len(objects) for objects in found)

    def _nodes(self, nodes: Sequence[Manifest]) -> tuple[NodeView, ...]:
        return tuple(
            views.node_view(
                node,
                self._memory.unready_seconds(
                    node["metadata"]["name"], unready=not views.node_is_ready(node)
                ),
            )
            for node in nodes
        )

    async def _ask_copies(
        self, pods: Mapping[Slot, PodView], addresses: Mapping[str, AgentAddress]
    ) -> dict[Slot, CopyView]:
        agents = self._memory.agents
        if agents is None:
            return {}

        async def ask(slot: Slot, pod: PodView) -> CopyView | None:
            if pod.name not in addresses:
                return None
            try:
                status = await agents.fetch_storage_status(addresses[pod.name], AGENT_SECONDS)
            except AgentUnreachable as error:
                _LOG.debug("storage agent silent", pod=pod.name, error=str(error))
                return None
            return replace(views.copy_view(status), slot=slot)

        answers = await asyncio.gather(*(ask(slot, pod) for slot, pod in pods.items()))
        return {answer.slot: answer for answer in answers if answer is not None}

    async def _ask_instances(
        self,
        pods: Mapping[int, PodView],
        addresses: Mapping[str, AgentAddress],
        timeout_seconds: float,
    ) -> dict[InstanceName, InstanceView]:
        agents = self._memory.agents
        if agents is None:
            return {}

        async def ask(pod: PodView) -> InstanceView | None:
            # One that ends is no candidate and no writer to rely on: nobody waits for its answer.
            if pod.name not in addresses or pod.terminating:
                return None
            try:
                status = await agents.fetch_instance_status(addresses[pod.name], timeout_seconds)
            except AgentUnreachable as error:
                _LOG.debug("instance agent silent", pod=pod.name, error=str(error))
                return None
            return views.instance_view(status)

        answers = await asyncio.gather(*(ask(pod) for pod in pods.values()))
        return {answer.name: answer for answer in answers if answer is not None}

    def _silence(
        self, pods: Mapping[int, PodView], answers: Mapping[InstanceName, InstanceView]
    ) -> dict[str, float]:
        return {
            pod.name: self._memory.silent_seconds(
                pod.uid, silent=InstanceName(pod.name) not in answers
            )
            for pod in pods.values()
        }


def _storage_pods(pods: Sequence[Manifest]) -> dict[Slot, PodView]:
    return {
        Slot(int(views.labels_of(pod)[labels.SLOT])): views.pod_view(pod)
        for pod in pods
        if views.labels_of(pod).get(labels.SLOT, "").isdigit()
    }


def _instance_pods(pods: Sequence[Manifest]) -> dict[int, PodView]:
    return {
        int(views.labels_of(pod)[labels.ORDINAL]): views.pod_view(pod)
        for pod in pods
        if views.labels_of(pod).get(labels.ORDINAL, "").isdigit()
    }


def _claims(claims: Sequence[Manifest]) -> dict[Slot, ClaimView]:
    found = (views.claim_view(claim) for claim in claims)
    return {view.slot: view for view in found if view is not None}


def _addresses(pods: Sequence[Manifest]) -> dict[str, AgentAddress]:
    """Where the agents of running pods listen."""
    return {
        pod["metadata"]["name"]: AgentAddress(pod["metadata"]["name"], pod["status"]["podIP"])
        for pod in pods
        if (pod.get("status") or {}).get("podIP") and pod["status"].get("phase") == "Running"
    }


def _configured(config_map: Manifest | None) -> VolumeFacts | None:
    if config_map is None:
        return None
    text = (config_map.get("data") or {}).get(AGENT_CONFIG_KEY) or "{}"
    try:
        identities = AgentConfig.model_validate(json.loads(text)).birth.identities
    except ValueError:
        identities = ()
    return views.configured_volume(config_map, identities)


def _outdated(context: ClusterContext, seen: ClusterObservation) -> frozenset[str]:
    """Pods whose form differs from what would be built today."""
    zones = place_slots(seen.nodes, seen.claims)
    wanted = [
        (pod, build_storage_pod(context, slot, zones[slot]))
        for slot, pod in seen.storage_pods.items()
    ]
    wanted += [
        (pod, build_instance_pod(context, ordinal)) for ordinal, pod in seen.instance_pods.items()
    ]
    return frozenset(
        pod.name
        for pod, manifest in wanted
        if views.annotations_of(manifest)[labels.TEMPLATE_HASH] != pod.template_hash
    )
