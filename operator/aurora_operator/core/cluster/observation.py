"""The snapshot that one cycle decides on: what Kubernetes shows and what agents answered.

Immutable and complete: ``decide`` reads nothing else. What was not seen is absent (a pod that is
gone, an agent that did not answer), never guessed. Times arrive as durations that the shell
measured with its own monotonic clock; clocks of other machines are never compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.members import BIRTH_VERSION, MemberList, MemberVersion
from aurora_operator.core.names import Identity, InstanceName, Slot, VolumeId
from aurora_operator.core.pressure import Pressure


class CopyGrade(StrEnum):
    """What a storage pod says of its copy; the words of the agent's answer."""

    BLANK = "blank"
    FILLING = "filling"
    FULL = "full"
    FAILED = "failed"


class Role(StrEnum):
    """What an instance says it is; the words of the agent's answer."""

    STARTING = "starting"
    REPLICA = "replica"
    OPENING = "opening"
    WRITER = "writer"
    STOPPED = "stopped"


@dataclass(frozen=True)
class SpecFacts:
    """The part of the spec that decisions depend on."""

    replicas: int = 1
    storage_bytes: int = 10 * 2**30
    delete_volume: bool = False
    """``storage.retainPolicy`` is Delete."""
    replace_after_seconds: float = 600.0
    """``storage.replaceAfterSeconds``: so long a copy's pod may be unable to run."""
    allow_zone_move: bool = False
    """``storage.allowZoneMove``: a lost copy may be made anew in another zone."""
    deletion_protection: bool = False
    parameter_overrides: Mapping[str, str] = field(default_factory=dict)
    engine_version: str = "17"


@dataclass(frozen=True)
class VolumeFacts:
    """The record of the volume, from wherever it was found: its birth, and its members since."""

    volume_id: VolumeId
    identities: tuple[Identity, ...]
    """In slot order. While a copy is being replaced, its slot shows the identity it had."""
    system_identifier: str | None = None
    complete: bool = False
    version: MemberVersion = BIRTH_VERSION
    """Of the member list that the volume told last (rule 8)."""
    lost: tuple[Identity, ...] = ()
    """Three members recorded as lost for good, until all of them are replaced (rule 10)."""
    lost_reason: str = ""


@dataclass(frozen=True)
class PodView:
    """One pod of the cluster."""

    name: str
    uid: str = "uid"
    phase: str = "Running"
    ready: bool = False
    terminating: bool = False
    node: str | None = None
    server_running: bool | None = None
    """The agent's own pod condition; ``None`` while it was never set."""
    waiting: str = ""
    """Why it does not run (image, scheduling), as the kubelet or the scheduler says."""
    template_hash: str | None = None
    role_label: str | None = None

    @property
    def ended(self) -> bool:
        """It will never run again: evicted, or its node gave it up."""
        return self.phase in {"Failed", "Succeeded"}


@dataclass(frozen=True)
class ClaimView:
    """One claim of the volume, with the record that its annotations carry."""

    slot: Slot
    volume_id: VolumeId | None
    identity: Identity | None
    identities: tuple[Identity, ...] = ()
    system_identifier: str | None = None
    complete: bool = False
    version: MemberVersion = BIRTH_VERSION
    zone: str | None = None
    requested_bytes: int = 0
    terminating: bool = False
    owned_by_other: bool = False


@dataclass(frozen=True)
class NodeView:
    """One node, as far as placing and losing pods goes."""

    name: str
    zone: str | None
    schedulable: bool = True
    ready: bool = True
    unready_seconds: float = 0.0
    """How long this operator has seen it so."""


@dataclass(frozen=True)
class StorageClassView:
    """The class that the claims use."""

    name: str
    expandable: bool


@dataclass(frozen=True)
class CopyView:
    """What a storage pod's agent answered."""

    slot: Slot
    identity: Identity
    grade: CopyGrade
    volume_id: VolumeId | None = None
    system_identifier: str | None = None
    log_term: Term | None = None
    promised_term: Term | None = None
    scl: Lsn | None = None
    members: MemberList | None = None
    """The member list that the copy keeps."""
    progress: str = ""
    """How far its fill is, while it is being filled."""
    vdl_term: Term | None = None
    vdl: Lsn | None = None
    pressure: Pressure = Pressure.NONE
    pressure_sentence: str = ""
    sentence: str = ""


@dataclass(frozen=True)
class InstanceView:
    """What an instance's agent answered."""

    name: InstanceName
    role: Role
    healthy: bool = False
    can_open: bool = False
    restartable: bool = False
    term: Term | None = None
    applied_lsn: Lsn | None = None
    vdl: Lsn | None = None
    door_open: bool = False
    copies_streaming: int = 0
    """How many copies take the writer's log, as the writer sees it."""
    slots_streaming: frozenset[Slot] = frozenset()
    """Which ones."""
    server_version: str | None = None
    handing_over_to: InstanceName | None = None
    """A writer that keeps clients out for the sake of a switchover to this one."""
    hand_over_request: str = ""
    """The last request for a switchover that this writer took up."""
    sentence: str = ""
    hand_over_sentence: str = ""
    """What became of it."""


@dataclass(frozen=True)
class SwitchoverRequest:
    """What the annotation asks for: as a person wrote it, or as the operator accepted it."""

    to: str
    """An instance, or ``any``."""
    term: Term | None = None
    """Set when it was accepted: the term of the writer that is to hand over."""
    request: str = ""
    """Set when it was accepted: tells this request from every other one."""


@dataclass(frozen=True)
class Remembered:
    """What the cluster's status said before this cycle."""

    status: str | None = None
    writer: InstanceName | None = None
    term: Term | None = None


@dataclass(frozen=True)
class ClusterObservation:
    """Everything that one cycle knows of one cluster."""

    name: str
    namespace: str
    generation: int = 1
    resource_version: str = ""
    deleting: bool = False
    has_finalizer: bool = True
    spec: SpecFacts = SpecFacts()
    recorded: VolumeFacts | None = None
    """``status.volume``."""
    configured: VolumeFacts | None = None
    """The birth record in the agents' ConfigMap."""
    remembered: Remembered = Remembered()
    switchover: SwitchoverRequest | None = None
    """The cluster's annotation, while it is there."""
    storage_pods: Mapping[Slot, PodView] = field(default_factory=dict)
    instance_pods: Mapping[int, PodView] = field(default_factory=dict)
    claims: Mapping[Slot, ClaimView] = field(default_factory=dict)
    nodes: tuple[NodeView, ...] = ()
    storage_class: StorageClassView | None = None
    storage_class_problem: str | None = None
    password_problem: str | None = None
    foreign_services: tuple[str, ...] = ()
    """Before birth: names that the cluster needs for its Services and somebody else has."""
    copies: Mapping[Slot, CopyView] = field(default_factory=dict)
    instances: Mapping[InstanceName, InstanceView] = field(default_factory=dict)
    silent_seconds: Mapping[str, float] = field(default_factory=dict)
    """For pods whose agent did not answer: for how long it has not."""
    shut_seconds: Mapping[str, float] = field(default_factory=dict)
    """For instances that say they are the writer with their door shut: for how long."""
    openings_asked: int = 0
    """Asks to open since a writer was last seen open, by this operator."""
    writerless_seconds: float = 0.0
    """How long this operator has seen no open writer."""
    outdated_pods: frozenset[str] = frozenset()
    """Pods whose form differs from what would be built today."""
    disabled_seconds: Mapping[Slot, float] = field(default_factory=dict)
    """How long this operator has seen the copy of a slot not answer, without a break."""
    lost_by_word: tuple[Identity, ...] = ()
    """Three copies that a person declared lost for good, by annotation (rule 10)."""
    other_objects: int = 0
    """Services, Secrets and the like that carry the cluster's label (for deletion)."""

    def node(self, name: str | None) -> NodeView | None:
        """The node of that name, if it exists."""
        return next((node for node in self.nodes if node.name == name), None)

    def node_lost(self, pod: PodView) -> bool:
        """Whether the pod's node is gone or not ready."""
        if pod.node is None:
            return False
        node = self.node(pod.node)
        return node is None or not node.ready

    def zone_of(self, pod: PodView | None) -> str | None:
        """The zone of the pod's node."""
        node = self.node(pod.node) if pod is not None else None
        return node.zone if node is not None else None

    def instance_pod(self, name: str | None) -> PodView | None:
        """The instance pod of that name."""
        return next((pod for pod in self.instance_pods.values() if pod.name == name), None)
