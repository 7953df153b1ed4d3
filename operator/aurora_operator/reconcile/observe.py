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

from pydantic import ValidationError

from aurora_operator.api import labels
from aurora_operator.api.agent_config import AgentConfig
from aurora_operator.api.cluster import AuroraCluster
from aurora_operator.core.cluster.draining import storage_pods_to_keep
from aurora_operator.core.cluster.failover import open_writer
from aurora_operator.core.cluster.observation import (
    ClaimView,
    ClusterObservation,
    InstanceView,
    NodeView,
    PodView,
    Role,
    VolumeFacts,
)
from aurora_operator.core.cluster.placement import place_slots
from aurora_operator.core.names import SLOT_COUNT, InstanceName, Slot
from aurora_operator.kube.api import Kind, KubeApi, NotFound
from aurora_operator.reconcile import views
from aurora_operator.reconcile.agents import AgentAddress, AgentsFactory
from aurora_operator.reconcile.asking import addresses_of, ask_copies, ask_instances
from aurora_operator.reconcile.certificates import Authority
from aurora_operator.reconcile.passwords import read_user_password
from aurora_operator.reconcile.sight import Memory, Sight
from aurora_operator.resources.config import AGENT_CONFIG_KEY
from aurora_operator.resources.context import ClusterContext
from aurora_operator.resources.pods import build_instance_pod, build_storage_pod
from aurora_operator.resources.secrets import secret_content

Manifest = dict[str, Any]

AGENT_SECONDS: Final = 2.0
"""Time limit of a status question in an ordinary cycle."""
RECONNECT_SECONDS: Final = 24 * 3600.0
"""The operator's own certificates live in memory; none of them comes near its end."""
REFLEX_AGENT_SECONDS: Final = 0.3
"""And when only the question is who opens: whoever is slower is not a candidate this time."""

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
    engine_pull_secrets: tuple[str, ...] = ()


class InvalidCluster(Exception):
    """The AuroraCluster holds what this operator cannot read: its CRD is older or younger."""

    def __init__(self, manifest: Manifest, error: ValidationError) -> None:
        told = "; ".join(
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()
        )
        super().__init__(
            f"the AuroraCluster cannot be read ({told}). Nothing is changed and what runs goes on. "
            "Install the CRD of this operator's release, then correct the fields"
        )
        self.manifest = manifest


@dataclass(frozen=True)
class _Read:
    """What the API server told in one cycle."""

    pods: Sequence[Manifest]
    claims: Sequence[Manifest]
    slices: Sequence[Manifest]
    nodes: Sequence[Manifest]
    classes: Sequence[Manifest]
    config: Manifest | None
    authority: Manifest | None
    password: str | None
    password_problem: str | None
    foreign_services: tuple[str, ...]
    others: int


class Observer:
    """Takes snapshots of one cluster."""

    def __init__(self, around: Surroundings, cluster: ClusterName, memory: Memory) -> None:
        self._around = around
        self._kube = around.kube
        self._cluster = cluster
        self._memory = memory

    async def observe(self) -> Sight | None:
        """The whole snapshot; ``None`` when the AuroraCluster is gone."""
        try:
            manifest = await self._kube.get(
                Kind.CLUSTER, self._cluster.namespace, self._cluster.name
            )
        except NotFound:
            return None
        cluster = _readable(manifest)
        read = await self._read(manifest, cluster)
        await self._connect(read.authority)
        context = ClusterContext(
            self._cluster.name,
            self._cluster.namespace,
            manifest["metadata"]["uid"],
            cluster.spec,
            self._around.engine_image,
            self._around.log_level,
            self._around.engine_pull_secrets,
        )
        addresses = addresses_of(read.pods)
        observation = await self._listen(self._look(manifest, cluster, context, read), addresses)
        return Sight(
            observation=observation,
            context=replace(context, storage_pods_to_keep=storage_pods_to_keep(observation)),
            cluster=cluster,
            manifest=manifest,
            agents=self._memory.agents,
            addresses=addresses,
            slices={entry["metadata"]["name"]: entry for entry in read.slices},
            user_password=read.password,
        )

    async def _read(self, manifest: Manifest, cluster: AuroraCluster) -> _Read:
        """Everything from the API server."""
        name, namespace = self._cluster.name, self._cluster.namespace
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
        reference = cluster.spec.master_user_password
        password: tuple[str | None, str | None] = (None, None)
        if reference is not None:
            secret = await self._find(Kind.SECRET, reference.name)
            password = read_user_password(reference, secret)
        others = 0
        if "deletionTimestamp" in manifest["metadata"]:
            others = await self._count_others(selector)
        foreign = () if cluster.status.volume is not None else await self._foreign_services()
        return _Read(
            pods, claims, slices, nodes, classes, config, authority, *password, foreign, others
        )

    async def _foreign_services(self) -> tuple[str, ...]:
        name = self._cluster.name
        names = (
            name,
            labels.reader_service(name),
            labels.storage_service(name),
            labels.instance_service(name),
        )
        found = await asyncio.gather(*(self._find(Kind.SERVICE, one) for one in names))
        return tuple(
            service["metadata"]["name"]
            for service in found
            if service is not None and views.labels_of(service).get(labels.CLUSTER) != name
        )

    def _look(
        self, manifest: Manifest, cluster: AuroraCluster, context: ClusterContext, read: _Read
    ) -> ClusterObservation:
        """What was read, as decisions see it."""
        metadata = manifest["metadata"]
        storage_class, class_problem = views.storage_class_view(
            cluster.spec.storage.storage_class_name, list(read.classes)
        )
        observation = ClusterObservation(
            name=self._cluster.name,
            namespace=self._cluster.namespace,
            generation=metadata.get("generation", 1),
            resource_version=metadata["resourceVersion"],
            deleting="deletionTimestamp" in metadata,
            has_finalizer=labels.FINALIZER in (metadata.get("finalizers") or ()),
            spec=views.spec_facts(cluster.spec),
            recorded=views.volume_facts(cluster.status.volume),
            configured=_configured(read.config),
            remembered=views.remembered(cluster),
            switchover=views.switchover_request(manifest),
            storage_pods=_storage_pods(read.pods),
            instance_pods=_instance_pods(read.pods),
            claims=_claims(read.claims),
            nodes=self._nodes(read.nodes),
            storage_class=storage_class,
            storage_class_problem=class_problem,
            password_problem=read.password_problem,
            foreign_services=read.foreign_services,
            openings_asked=self._memory.openings_asked,
            lost_by_word=views.lost_by_word(manifest),
            other_objects=read.others,
        )
        return replace(observation, outdated_pods=_outdated(context, observation))

    async def _listen(
        self, seen: ClusterObservation, addresses: Mapping[str, AgentAddress]
    ) -> ClusterObservation:
        """The same, with what the agents answer."""
        agents = self._memory.agents
        copies, instances = await asyncio.gather(
            ask_copies(agents, seen.storage_pods, addresses, AGENT_SECONDS),
            ask_instances(
                agents, seen.instance_pods, addresses, AGENT_SECONDS, seen.remembered.writer
            ),
        )
        heard = replace(
            seen,
            copies=copies,
            instances=instances,
            silent_seconds=self._silence(seen.instance_pods, instances),
            shut_seconds=self._shut(seen.instance_pods, instances),
            disabled_seconds={
                Slot(slot): self._memory.disabled_seconds(slot, disabled=Slot(slot) not in copies)
                for slot in range(SLOT_COUNT)
            },
        )
        writerless = self._memory.writerless_seconds(writerless=open_writer(heard) is None)
        return replace(heard, writerless_seconds=writerless)

    async def glance(self, before: Sight) -> Sight:
        """Only the instances anew: enough to decide who opens, and as fast as can be."""
        pods = await self._kube.list(
            Kind.POD,
            self._cluster.namespace,
            labels.cluster_selector(self._cluster.name, labels.COMPONENT_INSTANCE),
        )
        addresses = addresses_of(pods)
        instance_pods = _instance_pods(pods)
        instances = await ask_instances(
            self._memory.agents,
            instance_pods,
            addresses,
            REFLEX_AGENT_SECONDS,
            before.observation.remembered.writer,
        )
        observation = replace(
            before.observation,
            instance_pods=instance_pods,
            instances=instances,
            silent_seconds=self._silence(instance_pods, instances),
            shut_seconds=self._shut(instance_pods, instances),
            openings_asked=self._memory.openings_asked,
        )
        return replace(before, observation=observation, addresses={**before.addresses, **addresses})

    async def _find(self, kind: Kind, name: str) -> Manifest | None:
        try:
            return await self._kube.get(kind, self._cluster.namespace, name)
        except NotFound:
            return None

    async def _connect(self, secret: Manifest | None) -> None:
        """A client for the agents, made anew when the cluster's authority is another one."""
        memory = self._memory
        if secret is None:
            return
        content = secret_content(secret)
        if "ca.crt" not in content or "ca.key" not in content:
            return
        authority = Authority(content["ca.crt"], content["ca.key"])
        fresh = memory.now_seconds() - memory.connected_at_seconds < RECONNECT_SECONDS
        if authority == memory.authority and fresh:
            return
        if memory.agents is not None:
            await memory.agents.close()
        memory.agents = self._around.connect_agents(
            self._cluster.namespace, self._cluster.name, authority
        )
        memory.authority = authority
        memory.connected_at_seconds = memory.now_seconds()

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

    def _silence(
        self, pods: Mapping[int, PodView], answers: Mapping[InstanceName, InstanceView]
    ) -> dict[str, float]:
        return {
            pod.name: self._memory.silent_seconds(
                pod.uid, silent=InstanceName(pod.name) not in answers
            )
            for pod in pods.values()
        }

    def _shut(
        self, pods: Mapping[int, PodView], answers: Mapping[InstanceName, InstanceView]
    ) -> dict[str, float]:
        lasting = {}
        for pod in pods.values():
            view = answers.get(InstanceName(pod.name))
            shut = view is not None and view.role is Role.WRITER and not view.door_open
            lasting[pod.name] = self._memory.shut_seconds(pod.uid, shut=shut)
        return lasting


def _readable(manifest: Manifest) -> AuroraCluster:
    """The AuroraCluster; of one that is on its way out only what its deletion needs.

    Nobody can correct a field of it any more, and its finalizer must not hold it for ever. What it
    says of its volume's fate is not trusted then: the claims stay.
    """
    try:
        return AuroraCluster.model_validate(manifest)
    except ValidationError as error:
        protected = (manifest.get("spec") or {}).get("deletionProtection") is True
        if "deletionTimestamp" not in manifest["metadata"] or protected:
            raise InvalidCluster(manifest, error) from error
        return AuroraCluster()


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
