"""Messages between the operator and the agents, and among agents.

They travel as JSON over mutual TLS on port 8443. Positions are written in PostgreSQL's text form,
so that a person who reads a captured message sees what ``psql`` shows. The version stands in the
path (``/v1/…``); fields are only ever added within a version, and unknown fields are ignored, so
that agents of neighbouring releases understand each other.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from aurora_operator.core.copy import CopyState as CopyState
from aurora_operator.core.copy import StreamState as StreamState
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.names import AttemptId, Identity, InstanceName, Slot, VolumeId
from aurora_operator.core.pressure import Pressure as Pressure


def _read_lsn(value: object) -> Lsn:
    if isinstance(value, Lsn):
        return value
    if isinstance(value, str):
        return Lsn.parse(value)
    raise ValueError(f"a log position is text such as 0/16B3748, not {value!r}")


LsnText = Annotated[Lsn, BeforeValidator(_read_lsn), PlainSerializer(str, return_type=str)]


class Message(BaseModel):
    """Base of every message: immutable, and tolerant of fields from a newer release."""

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)


class PromiseText(Message):
    """A copy's durable word never again to take log of a term below ``term`` (design, rule 2)."""

    term: Term
    attempt_id: AttemptId


class TermStartText(Message):
    """The log from ``begin`` on belongs to ``term``, until the next entry begins."""

    term: Term
    begin: LsnText


class MemberListText(Message):
    """The identities of the volume in slot order, with the list's version (term, n)."""

    version_term: Term
    version_number: int
    identities: tuple[Identity, ...]
    slots: tuple[Slot, ...] = ()
    """The slot of each identity; not told for a list of six."""


class DurablePoint(Message):
    """The VDL of one term."""

    term: Term
    lsn: LsnText


class PageStoreStatus(Message):
    """The standby that turns the log into pages in a storage pod."""

    running: bool
    replayed_lsn: LsnText | None = None
    redo_lsn: LsnText | None = None
    """Its pages need log from here on; as last looked, and it only grows."""
    held: str = ""
    """Why it stands still, while the log needs the room; empty while it may run."""


class PressureStatus(Message):
    """What keeps a full copy from doing its part, and by how much."""

    state: Pressure = Pressure.NONE
    sentence: str = ""
    free_bytes: int | None = None
    total_bytes: int | None = None
    behind_bytes: int = 0
    """Durable on four copies and not here."""
    behind_seconds: float = 0.0


class FillPhase(StrEnum):
    """What the fill of a blank copy waits for."""

    BASE = "base"
    """Pages come from a peer's page store; the log comes meanwhile."""
    LOG = "log"
    """The pages are here, the rest of the log comes."""


class FillProgress(Message):
    """How far the fill of a blank copy is."""

    phase: FillPhase
    source: str
    """The pod whose page store gives the base."""
    base_bytes: int = 0
    base_bytes_total: int = 0
    """About how many; 0 while it is not known."""
    log_bytes: int = 0


class StorageStatus(Message):
    """``GET /v1/storage/status``: everything a copy durably knows, and what it sees."""

    identity: Identity
    slot: Slot
    state: CopyState
    volume_id: VolumeId | None = None
    system_identifier: str | None = None
    promise: PromiseText | None = None
    history: tuple[TermStartText, ...] = ()
    first_record_end: LsnText | None = None
    """End of the first record of the history's last term; copies count from here on (rule 6)."""
    scl: LsnText | None = None
    log_start: LsnText | None = None
    members: MemberListText | None = None
    known_vdl: DurablePoint | None = None
    stream: StreamState = StreamState.NONE
    stream_term: Term | None = None
    page_store: PageStoreStatus = PageStoreStatus(running=False)
    fill: FillProgress | None = None
    """Only while the copy is being filled."""
    pressure: PressureStatus = PressureStatus()
    sentence: str = ""
    """What the copy is doing, for people."""


class BirthRecord(Message):
    """What was recorded by compare-and-swap before anything was formatted (rule 13)."""

    volume_id: VolumeId
    identities: tuple[Identity, ...]


class FormatAsk(Message):
    """``POST /v1/storage/format``: run initdb, in slot 0, once in a cluster's life."""

    birth: BirthRecord


class FillAsk(Message):
    """``POST /v1/storage/fill``: take base and log of a newly formatted volume from ``source``."""

    birth: BirthRecord
    system_identifier: str
    source_pod: str


class RefillAsk(Message):
    """``POST /v1/storage/refill``: fill the own disk from full peers, as a new copy (rule 9).

    From the open writer, for a copy that is no member. Asking again is harmless; a newer writer
    goes on with what an older one began.
    """

    term: Term
    attempt_id: AttemptId
    identity: Identity
    """The new one, which was never used before."""
    chosen: Identity | None = None
    """Only when three are left (rule 10): fill from this copy, to its very end."""


class MembersAsk(Message):
    """``POST /v1/storage/members``: keep this member list, which the writer changed (rule 8)."""

    term: Term
    attempt_id: AttemptId
    members: MemberListText


class PrevoteAsk(Message):
    """``POST /v1/storage/prevote``: would you promise? Nothing is written (rule 2)."""

    candidate: InstanceName
    seen_term: Term
    """The highest term the candidate knows of."""


class PromiseAsk(Message):
    """``POST /v1/storage/promise``."""

    term: Term
    attempt_id: AttemptId
    candidate: InstanceName


class WriterAddress(Message):
    """Where the writer of a term streams its log from."""

    instance: InstanceName
    """Also the name its certificate is checked against."""
    ip: str
    port: int


class AdoptAsk(Message):
    """``POST /v1/storage/adopt``: take this history, then follow this writer (rule 5)."""

    term: Term
    attempt_id: AttemptId
    history: tuple[TermStartText, ...]
    """The whole history, ending with ``term``."""
    first_record_end: LsnText
    members: MemberListText
    writer: WriterAddress


class StorageAnswer(Message):
    """The answer to every ask: yes or no, one sentence why, and the copy as it is afterwards."""

    granted: bool
    sentence: str
    status: StorageStatus


class HubBeat(Message):
    """Writer's agent to storage pod, on ``/v1/storage/hub``: every 100 ms, and when it matters.

    That is on each change of the VDL while somebody reads from that pod's gate at once.
    """

    kind: Literal["beat"] = "beat"
    term: Term
    attempt_id: AttemptId
    vdl: LsnText | None = None
    consents_to: InstanceName | None = None
    """The instance that the writer hands over to: it is welcome to pre-votes (rule 2)."""
    sent_ns: int = 0
    """By the writer's own clock; nobody else reads it."""
    prompt: bool = True
    """Somebody waits for the VDL: tell each position at once, not only with the next beat."""


class HubPosition(Message):
    """Storage pod to writer's agent, on the same connection: on each beat and each promise.

    After each flush, too, while the writer asks for it.
    """

    kind: Literal["position"] = "position"
    identity: Identity | None = None
    """Whose position it is: a pod's disk may be another one than before."""
    promised_term: Term | None = None
    log_term: Term | None = None
    """The term of the last durable byte."""
    scl: LsnText | None = None
    streaming: bool = False
    """It takes the writer's log; not while its disk refuses it."""
    answers_ns: int | None = None
    """``sent_ns`` of the last beat on this connection: this was true at that moment or later."""
    has_prompt_readers: bool = False
    """Its gate has readers who are to see each commit at once: replicas, not page stores."""


class StandingText(Message):
    """An instance that could open the volume, as it told a copy."""

    name: InstanceName
    healthy: bool
    applied_lsn: LsnText | None = None


class WatchNote(Message):
    """Instance to storage pod, on ``/v1/storage/watch``: every half second, and on change."""

    kind: Literal["note"] = "note"
    standing: StandingText | None = None
    """``None`` while it could not open the volume."""


class WatchSight(Message):
    """Storage pod to instances, on the same connection: on change and every half second."""

    kind: Literal["sight"] = "sight"
    misses_writer: bool
    sentence: str
    standings: tuple[StandingText, ...] = ()
    """Instances that could open the volume and told so just now."""


class InstanceRole(StrEnum):
    """What an instance is at the moment."""

    STARTING = "starting"
    """Fetching its base, or its server is not up yet."""
    REPLICA = "replica"
    OPENING = "opening"
    """A candidate: asking for promises, catching up, promoting, waiting for its first record."""
    WRITER = "writer"
    STOPPED = "stopped"
    """It was the writer and its server ended; it stays shut until somebody decides (rule 11)."""


class CopyFollowing(Message):
    """How one copy follows the writer, as the writer's agent sees it."""

    slot: Slot
    identity: Identity | None = None
    reachable: bool
    streaming: bool
    promised_term: Term | None = None
    scl: LsnText | None = None
    sentence: str = ""


class HandOverStatus(Message):
    """The last switchover that this writer was asked for, in its present term."""

    request: str
    """Whose it was, as the ask named it."""
    to: InstanceName | None = None
    running: bool
    """Clients are kept out for its sake; when not, it was withdrawn."""
    sentence: str


class InstanceStatus(Message):
    """``GET /v1/instance/status``."""

    name: InstanceName
    role: InstanceRole
    healthy: bool
    """A replica that streams and whose door is open, or the open writer."""
    can_open: bool
    """It has a server that could become the writer: it was asked, it would try."""
    restartable: bool = False
    """Only with role ``stopped``: its mark permits a restart in place (rule 11)."""
    term: Term | None = None
    applied_lsn: LsnText | None = None
    vdl: DurablePoint | None = None
    door_open: bool = False
    copies: tuple[CopyFollowing, ...] = ()
    """Filled in by the writer only."""
    hand_over: HandOverStatus | None = None
    """Filled in by a writer that was asked to hand over."""
    system_identifier: str | None = None
    server_version: str | None = None
    opened_at: str | None = None
    """For people (RFC 3339); no decision reads it."""
    pending_restart: tuple[str, ...] = ()
    """Names of parameters that wait for a restart."""
    sentence: str = ""


class OpenAsk(Message):
    """``POST /v1/instance/open``: open the volume under a new term. Asking again is harmless."""

    reason: str
    lost: tuple[Identity, ...] = ()
    """The three members that were recorded as lost for good, if they were (rule 10)."""
    soon: bool = False
    """Not yet: only end the readers. A writer that hands over asks so before it asks to open."""


class RestartAsk(Message):
    """``POST /v1/instance/restart``: start the ended writer on its own disk (rule 11)."""

    reason: str


class HandOverAsk(Message):
    """``POST /v1/instance/hand-over``: switch over to ``to``; it goes on after the answer.

    The same request is carried out once: asked again, the answer is what became of it.
    """

    request: str
    to: InstanceName
    host: str
    """Where the agent of ``to`` is found."""
    reason: str


class InstanceAnswer(Message):
    """Whether the ask was taken up, why, and the instance as it is."""

    accepted: bool
    sentence: str
    status: InstanceStatus
