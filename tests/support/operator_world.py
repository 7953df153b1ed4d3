"""A small world for an operator: kubelets that run pods, and agents that answer honestly.

Agents are state machines in memory. What a storage agent knows lies on its claim's disk and
survives its pod; what an instance knows dies with its pod. They refuse what the real ones refuse:
a disk that is not blank is never formatted, an opening needs four full copies. Nothing here moves
by itself: ``tick`` is one step of everything that is not the operator.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aurora_operator.api import labels
from aurora_operator.api.messages import (
    BirthRecord,
    CopyFollowing,
    CopyState,
    DurablePoint,
    FillAsk,
    FormatAsk,
    HandOverAsk,
    HandOverStatus,
    InstanceAnswer,
    InstanceRole,
    InstanceStatus,
    MemberListText,
    OpenAsk,
    PromiseText,
    RestartAsk,
    StorageAnswer,
    StorageStatus,
    TermStartText,
)
from aurora_operator.core.lsn import LOG_START, Term
from aurora_operator.core.names import AttemptId, Identity, InstanceName, Slot
from aurora_operator.kube.api import AlreadyExists, Kind, KubeApi, Manifest, NotFound
from aurora_operator.reconcile.agents import AgentAddress, Agents, AgentUnreachable
from aurora_operator.reconcile.certificates import Authority
from aurora_operator.reconcile.loop import ClusterLoop
from aurora_operator.reconcile.observe import ClusterName, Surroundings

ZONES = {"node-a": "zone-a", "node-b": "zone-b", "node-c": "zone-c"}
SYSTEM_IDENTIFIER = "7300000000000000001"


@dataclass
class Disk:
    """One copy."""

    identity: Identity
    state: CopyState = CopyState.BLANK
    birth: BirthRecord | None = None
    promised: Term | None = None
    log_term: Term | None = None


@dataclass
class Server:
    """One instance."""

    role: InstanceRole = InstanceRole.STARTING
    term: Term | None = None
    restartable: bool = False
    silent: bool = False
    shut: bool = False
    """A writer that was cut off: its door is shut."""
    hand_over: HandOverStatus | None = None
    cannot_hand_over: str = ""
    """Why a switchover is withdrawn, if it is."""


@dataclass
class World:
    """Everything that is not the operator, for one namespace."""

    kube: KubeApi
    namespace: str = "test"
    disks: dict[str, Disk] = field(default_factory=dict)
    """By the claim's uid."""
    servers: dict[str, Server] = field(default_factory=dict)
    """By the pod's uid."""
    pods: dict[str, Manifest] = field(default_factory=dict)
    claims: dict[str, Manifest] = field(default_factory=dict)
    silent_pods: set[str] = field(default_factory=set)
    members: MemberListText | None = None
    """The list that the volume keeps; that of its birth while nothing was replaced."""
    formats: int = 0
    openings: list[str] = field(default_factory=list)
    hand_overs: list[str] = field(default_factory=list)
    finalized_claims: bool = False

    def loop(
        self,
        name: str = "shop",
        kube: KubeApi | None = None,
        agents: Callable[[Agents], Agents] = lambda agents: agents,
        image: str = "engine:test",
        now_seconds: Callable[[], float] = time.monotonic,
    ) -> ClusterLoop:
        """A loop with an empty memory, as after a start of the operator."""
        around = self.surroundings(kube, agents, image)
        cluster = ClusterName(self.namespace, name)
        return ClusterLoop(around, cluster, now_seconds=now_seconds)

    def surroundings(
        self,
        kube: KubeApi | None = None,
        agents: Callable[[Agents], Agents] = lambda agents: agents,
        image: str = "engine:test",
    ) -> Surroundings:
        """What an operator of this world is given."""

        def connect(namespace: str, cluster: str, authority: Authority) -> Agents:
            assert namespace == self.namespace
            return agents(FakeAgents(self))

        return Surroundings(kube or self.kube, connect, image)

    async def prepare(self) -> None:
        """Three nodes in three zones and a default storage class."""
        for name, zone in ZONES.items():
            await self._create(
                Kind.NODE,
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {"name": name, "labels": {labels.ZONE_LABEL: zone}},
                },
            )
            await self.set_node_ready(name, ready=True)
        await self._create(
            Kind.STORAGE_CLASS,
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {
                    "name": "local",
                    "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
                },
                "provisioner": "example.com/none",
                "allowVolumeExpansion": True,
                "volumeBindingMode": "WaitForFirstConsumer",
            },
        )

    async def _create(self, kind: Kind, manifest: Manifest) -> None:
        try:
            await self.kube.create(kind, None, manifest)
        except AlreadyExists:
            return

    async def set_node_ready(self, name: str, *, ready: bool) -> None:
        """What the node controller says of a node."""
        node = await self.kube.get(Kind.NODE, None, name)
        node["status"] = {
            **(node.get("status") or {}),
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True" if ready else "Unknown",
                    "reason": "Test",
                    "message": "",
                    "lastHeartbeatTime": "2026-01-01T00:00:00Z",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ],
        }
        await self.kube.replace_status(Kind.NODE, None, node)  # type: ignore[arg-type]

    async def apply(self, name: str = "shop", **spec: Any) -> None:
        """``kubectl apply`` of a cluster."""
        try:
            await self.kube.create(
                Kind.CLUSTER,
                self.namespace,
                {
                    "apiVersion": labels.API_VERSION,
                    "kind": labels.KIND,
                    "metadata": {"name": name, "namespace": self.namespace},
                    "spec": spec,
                },
            )
        except AlreadyExists:
            await self.kube.patch(Kind.CLUSTER, self.namespace, name, {"spec": spec})

    async def tick(self) -> None:
        """Kubelets run pods, disks appear, servers come up; once."""
        claims = await self.kube.list(Kind.CLAIM, self.namespace)
        self.claims = {claim["metadata"]["name"]: claim for claim in claims}
        pods = [await self._run_pod(pod) for pod in await self.kube.list(Kind.POD, self.namespace)]
        self.pods = {pod["metadata"]["name"]: pod for pod in pods if pod is not None}
        for pod in self.pods.values():
            if labels.ORDINAL in pod["metadata"]["labels"]:
                self._come_up(self.servers.setdefault(pod["metadata"]["uid"], Server()))
        self._repair()

    def _repair(self) -> None:
        """The open writer fills blank copies as new ones, while four others are full (rule 9)."""
        disks = {
            int(name.rsplit("-", 1)[1]): self.disk_of(name)
            for name, pod in self.pods.items()
            if labels.SLOT in pod["metadata"]["labels"] and name not in self.silent_pods
        }
        full = [disk for disk in disks.values() if disk.state is CopyState.FULL]
        if self.writer() is None or len(full) < 3:
            return
        for slot, disk in disks.items():
            if disk.state is not CopyState.BLANK or full[0].birth is None:
                continue
            known = self.members
            identities = list(known.identities if known else full[0].birth.identities)
            number = known.version_number + 2 if known else 2
            identities[slot] = disk.identity = Identity(f"s{slot}_anew{number}")
            self.members = MemberListText(
                version_term=Term(2), version_number=number, identities=tuple(identities)
            )
            disk.state, disk.birth, disk.log_term = CopyState.FULL, full[0].birth, full[0].log_term

    async def _run_pod(self, pod: Manifest) -> Manifest | None:
        """One step of a pod's life; ``None`` when it is over."""
        metadata = pod["metadata"]
        if "deletionTimestamp" in metadata:
            await self.kube.delete(
                Kind.POD, self.namespace, metadata["name"], uid=metadata["uid"], grace_seconds=0
            )
            return None
        if (pod.get("status") or {}).get("podIP"):
            return pod
        return await self.start_pod(pod)

    async def start_pod(self, pod: Manifest) -> Manifest:
        """Bind a pod to a node and report it running and ready."""
        metadata = pod["metadata"]
        number = int(metadata["labels"].get(labels.SLOT) or metadata["labels"][labels.ORDINAL])
        node = sorted(ZONES)[number % len(ZONES)]
        await self.bind(pod, node)
        bound = await self.kube.get(Kind.POD, self.namespace, metadata["name"])
        bound["status"] = {
            "phase": "Running",
            "podIP": f"10.0.0.{number + 1}",
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        return await self.kube.replace_status(Kind.POD, self.namespace, bound)

    async def bind(self, pod: Manifest, node: str) -> None:
        """What the scheduler does; overridden where a real API server wants a Binding."""
        await self.kube.patch(
            Kind.POD, self.namespace, pod["metadata"]["name"], {"spec": {"nodeName": node}}
        )

    def _come_up(self, server: Server) -> None:
        full = sum(disk.state is CopyState.FULL for disk in self.disks.values())
        if server.role is InstanceRole.STARTING and full:
            server.role = InstanceRole.REPLICA

    def disk_of(self, pod: str) -> Disk:
        """The disk behind a storage pod: made blank with its claim."""
        slot = pod.rsplit("-", 1)[1]
        claim = self.claims[f"data-{pod}"]
        notes = claim["metadata"]["annotations"]
        assert claim["metadata"]["labels"][labels.SLOT] == slot
        return self.disks.setdefault(
            claim["metadata"]["uid"], Disk(Identity(notes[labels.IDENTITY]))
        )

    def server_of(self, pod: str) -> Server:
        """The instance in a pod."""
        return self.servers[self.pods[pod]["metadata"]["uid"]]

    def reachable_disks(self) -> list[Disk]:
        """Disks whose pods answer."""
        return [
            self.disk_of(name)
            for name, pod in self.pods.items()
            if labels.SLOT in pod["metadata"]["labels"] and name not in self.silent_pods
        ]

    def servers_alive(self) -> list[str]:
        """Names of the instances that run."""
        return sorted(
            name for name, pod in self.pods.items() if labels.ORDINAL in pod["metadata"]["labels"]
        )

    def writer(self) -> str | None:
        """The pod whose server writes."""
        for name, pod in self.pods.items():
            server = self.servers.get(pod["metadata"]["uid"])
            if server is not None and server.role is InstanceRole.WRITER:
                return name
        return None

    async def settle(
        self, loop: ClusterLoop, until: Callable[[World, Manifest | None], bool], steps: int = 60
    ) -> Manifest | None:
        """Alternate operator and world until a condition holds; the AuroraCluster as it is then."""
        cluster: Manifest | None = None
        for _ in range(steps):
            ended = await loop.step() is None
            await self.tick()
            try:
                cluster = await self.kube.get(Kind.CLUSTER, self.namespace, loop.cluster.name)
            except NotFound:
                cluster = None
            if until(self, cluster):
                return cluster
            if ended:
                break
        status = (cluster or {}).get("status") or {}
        raise AssertionError(f"did not settle in {steps} steps; the last status is {status}")


def available(world: World, cluster: Manifest | None) -> bool:
    """Everything that the spec asks for is there."""
    conditions = ((cluster or {}).get("status") or {}).get("conditions") or ()
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def gone(world: World, cluster: Manifest | None) -> bool:
    """The AuroraCluster is deleted."""
    return cluster is None


@dataclass
class FakeAgents:
    """``Agents`` of a world."""

    world: World

    async def close(self) -> None:
        return

    def _check(self, agent: AgentAddress) -> None:
        if agent.pod not in self.world.pods or agent.pod in self.world.silent_pods:
            raise AgentUnreachable(agent.pod, "silent")

    async def fetch_storage_status(
        self, agent: AgentAddress, timeout_seconds: float = 2.0
    ) -> StorageStatus:
        self._check(agent)
        return self._storage(agent.pod)

    def _storage(self, pod: str) -> StorageStatus:
        disk = self.world.disk_of(pod)
        identities = disk.birth.identities if disk.birth else ()
        full = disk.state is CopyState.FULL
        return StorageStatus(
            identity=disk.identity,
            slot=Slot(int(pod.rsplit("-", 1)[1])),
            state=disk.state,
            volume_id=disk.birth.volume_id if disk.birth else None,
            system_identifier=SYSTEM_IDENTIFIER if full else None,
            promise=PromiseText(term=disk.promised, attempt_id=AttemptId("x"))
            if disk.promised
            else None,
            history=(TermStartText(term=disk.log_term, begin=LOG_START),) if disk.log_term else (),
            scl=LOG_START if full else None,
            members=self.world.members
            if full and self.world.members
            else MemberListText(
                version_term=Term(1), version_number=0, identities=tuple(identities)
            )
            if identities
            else None,
        )

    async def fetch_instance_status(
        self, agent: AgentAddress, timeout_seconds: float = 2.0
    ) -> InstanceStatus:
        self._check(agent)
        return self._instance(agent.pod)

    def _instance(self, pod: str) -> InstanceStatus:
        server = self.world.server_of(pod)
        if server.silent:
            raise AgentUnreachable(pod, "silent")
        serving = server.role in {InstanceRole.REPLICA, InstanceRole.WRITER}
        return InstanceStatus(
            name=InstanceName(pod),
            role=server.role,
            healthy=serving,
            can_open=server.role is InstanceRole.REPLICA,
            restartable=server.restartable,
            term=server.term,
            applied_lsn=LOG_START if serving else None,
            vdl=DurablePoint(term=server.term, lsn=LOG_START) if server.term else None,
            door_open=serving and not server.shut,
            server_version="17.6",
            hand_over=server.hand_over,
            copies=self._followers() if server.role is InstanceRole.WRITER else (),
        )

    def _followers(self) -> tuple[CopyFollowing, ...]:
        slots = {
            int(name.rsplit("-", 1)[1]): self.world.disk_of(name)
            for name, pod in self.world.pods.items()
            if labels.SLOT in pod["metadata"]["labels"] and name not in self.world.silent_pods
        }
        return tuple(
            CopyFollowing(slot=Slot(slot), reachable=True, streaming=disk.state is CopyState.FULL)
            for slot, disk in slots.items()
        )

    async def format(self, agent: AgentAddress, ask: FormatAsk) -> StorageAnswer:
        self._check(agent)
        disk = self.world.disk_of(agent.pod)
        if disk.state is not CopyState.BLANK:
            return self._answer(agent.pod, False, "not blank")
        assert agent.pod.endswith("-0"), "only slot 0 is ever formatted"
        self.world.formats += 1
        disk.state, disk.birth, disk.log_term = CopyState.FULL, ask.birth, Term(1)
        return self._answer(agent.pod, True, "formatted")

    async def fill(self, agent: AgentAddress, ask: FillAsk) -> StorageAnswer:
        self._check(agent)
        disk = self.world.disk_of(agent.pod)
        if disk.state is CopyState.FULL:
            return self._answer(agent.pod, False, "full")
        source = self.world.disk_of(ask.source_pod)
        assert source.state is CopyState.FULL
        assert ask.system_identifier == SYSTEM_IDENTIFIER
        disk.state, disk.birth, disk.log_term = CopyState.FULL, ask.birth, source.log_term
        return self._answer(agent.pod, True, "filled")

    def _answer(self, pod: str, granted: bool, sentence: str) -> StorageAnswer:
        return StorageAnswer(granted=granted, sentence=sentence, status=self._storage(pod))

    async def open(self, agent: AgentAddress, ask: OpenAsk) -> InstanceAnswer:
        self._check(agent)
        world, server = self.world, self.world.server_of(agent.pod)
        full = [disk for disk in world.reachable_disks() if disk.state is CopyState.FULL]
        enough = 3 if len(ask.lost) == 3 else 4
        if len(full) >= enough and server.role is InstanceRole.REPLICA:
            term = Term(max(disk.promised or disk.log_term or 1 for disk in full) + 1)
            for other in world.servers.values():
                if other.role is InstanceRole.WRITER:
                    other.role = InstanceRole.REPLICA
            server.role, server.term = InstanceRole.WRITER, term
            for disk in full:
                disk.promised = disk.log_term = term
            world.openings.append(agent.pod)
        return InstanceAnswer(accepted=True, sentence="opening", status=self._instance(agent.pod))

    async def hand_over(self, agent: AgentAddress, ask: HandOverAsk) -> InstanceAnswer:
        self._check(agent)
        server = self.world.server_of(agent.pod)
        last = server.hand_over
        accepted = server.role is InstanceRole.WRITER and (
            last is None or last.request != ask.request
        )
        if accepted:
            self.world.hand_overs.append(f"{agent.pod} to {ask.to}")
            sentence = server.cannot_hand_over
            server.hand_over = HandOverStatus(
                request=ask.request, to=ask.to, running=False, sentence=sentence
            )
            if not sentence:
                await self.open(AgentAddress(ask.to, ask.host), OpenAsk(reason=ask.reason))
                server.role, server.term, server.hand_over = InstanceRole.REPLICA, None, None
        return InstanceAnswer(
            accepted=accepted, sentence="hand over", status=self._instance(agent.pod)
        )

    async def restart(self, agent: AgentAddress, ask: RestartAsk) -> InstanceAnswer:
        self._check(agent)
        server = self.world.server_of(agent.pod)
        accepted = server.role is InstanceRole.STOPPED and server.restartable
        if accepted:
            server.role = InstanceRole.WRITER
        return InstanceAnswer(
            accepted=accepted, sentence="restart", status=self._instance(agent.pod)
        )
