"""Between the core's dataclasses and the messages that carry them.

The core decides on ``CopyView`` and its parts, agents exchange ``StorageStatus`` and its parts.
What a message says that cannot be (a history that goes back, a list that names a disk twice) fails
here with ``ValueError``, before any decision reads it.
"""

from __future__ import annotations

from aurora_operator.api.messages import (
    AdoptAsk,
    BirthRecord,
    DurablePoint,
    HubPosition,
    MemberListText,
    MembersAsk,
    PageStoreStatus,
    PressureStatus,
    PromiseAsk,
    PromiseText,
    RefillAsk,
    StandingText,
    StorageAnswer,
    StorageStatus,
    TermStartText,
    WatchSight,
    WriterAddress,
)
from aurora_operator.core.birth import VolumeRecord
from aurora_operator.core.copy import (
    Adoption,
    CopyRecord,
    CopyState,
    CopyView,
    Position,
    Promise,
    StreamState,
    Vdl,
    position_of,
)
from aurora_operator.core.detection import Sight, Standing
from aurora_operator.core.history import TermHistory, TermStart
from aurora_operator.core.lsn import LOG_START
from aurora_operator.core.members import MemberList, MemberVersion
from aurora_operator.core.names import Identity, InstanceName, Slot
from aurora_operator.core.opening import CopyAnswer


def history_to_text(history: TermHistory) -> tuple[TermStartText, ...]:
    """The history as it travels."""
    return tuple(TermStartText(term=e.term, begin=e.begin) for e in history.entries)


def history_from_text(entries: tuple[TermStartText, ...]) -> TermHistory:
    """The history as it is decided on."""
    return TermHistory(tuple(TermStart(entry.term, entry.begin) for entry in entries))


def members_to_text(members: MemberList) -> MemberListText:
    """The member list as it travels."""
    return MemberListText(
        version_term=members.version.term,
        version_number=members.version.number,
        identities=members.identities,
        slots=members.slots,
    )


def members_from_text(text: MemberListText) -> MemberList:
    """The member list as it is decided on."""
    version = MemberVersion(text.version_term, text.version_number)
    return MemberList(version, text.identities, text.slots)


def vdl_to_text(vdl: Vdl | None) -> DurablePoint | None:
    """A VDL as it travels."""
    return None if vdl is None else DurablePoint(term=vdl.term, lsn=vdl.lsn)


def vdl_from_text(text: DurablePoint | None) -> Vdl | None:
    """A VDL as it is decided on."""
    return None if text is None else Vdl(text.term, text.lsn)


def status_from_view(
    view: CopyView,
    stream: StreamState,
    page_store: PageStoreStatus,
    pressure: PressureStatus,
) -> StorageStatus:
    """What a storage pod answers about its copy."""
    record = view.record
    common = StorageStatus(
        identity=view.identity,
        slot=view.slot,
        state=view.state,
        scl=view.scl,
        log_start=view.log_start,
        stream=stream,
        stream_term=view.streaming_term,
        page_store=page_store,
        pressure=pressure,
        sentence=view.sentence,
    )
    if record is None:
        return common
    promise = PromiseText(term=record.promise.term, attempt_id=record.promise.attempt_id)
    return common.model_copy(
        update={
            "volume_id": record.volume_id,
            "system_identifier": record.system_identifier,
            "promise": promise,
            "history": history_to_text(record.history),
            "first_record_end": record.first_record_end,
            "members": members_to_text(record.members),
            "known_vdl": vdl_to_text(record.known_vdl),
        }
    )


def view_from_status(status: StorageStatus) -> CopyView:
    """Another pod's copy, as it described itself."""
    streaming = status.stream is StreamState.STREAMING
    return CopyView(
        identity=status.identity,
        slot=status.slot,
        state=status.state,
        record=_record_from_status(status),
        scl=status.scl,
        log_start=status.log_start,
        streaming_term=status.stream_term if streaming else None,
        sentence=status.sentence,
    )


def _record_from_status(status: StorageStatus) -> CopyRecord | None:
    if (
        status.volume_id is None
        or status.system_identifier is None
        or status.promise is None
        or status.first_record_end is None
        or status.members is None
    ):
        if status.state is CopyState.FULL:
            raise ValueError(f"{status.identity} calls itself full, but shows no whole record")
        return None
    return CopyRecord(
        volume_id=status.volume_id,
        identity=status.identity,
        slot=status.slot,
        system_identifier=status.system_identifier,
        promise=Promise(status.promise.term, status.promise.attempt_id),
        history=history_from_text(status.history),
        first_record_end=status.first_record_end,
        members=members_from_text(status.members),
        known_vdl=vdl_from_text(status.known_vdl),
        scl_floor=LOG_START,  # a copy keeps its floor to itself
    )


def answer_from_message(answer: StorageAnswer) -> CopyAnswer:
    """A storage pod's answer to a pre-vote or a promise."""
    return CopyAnswer(answer.granted, view_from_status(answer.status))


def promise_from_ask(ask: PromiseAsk | MembersAsk | RefillAsk) -> Promise:
    """The promise that is asked for, or in whose name something is asked."""
    return Promise(ask.term, ask.attempt_id)


def promise_to_ask(promise: Promise, candidate: InstanceName) -> PromiseAsk:
    """The ask for a promise."""
    return PromiseAsk(term=promise.term, attempt_id=promise.attempt_id, candidate=candidate)


def adoption_from_ask(ask: AdoptAsk) -> Adoption:
    """What a writer asks a copy to adopt."""
    return Adoption(
        promise=Promise(ask.term, ask.attempt_id),
        history=history_from_text(ask.history),
        first_record_end=ask.first_record_end,
        members=members_from_text(ask.members),
    )


def adoption_to_ask(adoption: Adoption, writer: WriterAddress) -> AdoptAsk:
    """The ask to adopt, with the place to stream from."""
    return AdoptAsk(
        term=adoption.promise.term,
        attempt_id=adoption.promise.attempt_id,
        history=history_to_text(adoption.history),
        first_record_end=adoption.first_record_end,
        members=members_to_text(adoption.members),
        writer=writer,
    )


def members_to_ask(promise: Promise, members: MemberList) -> MembersAsk:
    """The ask to keep a changed member list."""
    return MembersAsk(
        term=promise.term, attempt_id=promise.attempt_id, members=members_to_text(members)
    )


def position_from_hub(identity: Identity, message: HubPosition) -> Position:
    """The position of ``identity`` as it came over the hub; another disk's says nothing of it."""
    if message.identity not in (None, identity):
        return Position(identity, None, None, None)
    return Position(identity, message.promised_term, message.log_term, message.scl)


def position_to_hub(
    view: CopyView, *, takes_log: bool = True, has_prompt_readers: bool = False
) -> HubPosition:
    """The own position, for the hub; ``takes_log`` is false while the disk refuses log."""
    position = position_of(view)
    return HubPosition(
        identity=view.identity,
        promised_term=position.promised_term,
        log_term=position.log_term,
        scl=position.scl,
        streaming=view.streaming_term is not None and takes_log,
        has_prompt_readers=has_prompt_readers,
    )


def standing_to_text(standing: Standing) -> StandingText:
    """A standing as it travels."""
    return StandingText(
        name=standing.name, healthy=standing.healthy, applied_lsn=standing.applied_lsn
    )


def sight_from_watch(slot: Slot, message: WatchSight) -> Sight:
    """What a copy sees; the connection says which copy."""
    standings = tuple(Standing(s.name, s.healthy, s.applied_lsn) for s in message.standings)
    return Sight(slot, message.misses_writer, message.sentence, standings)


def volume_record(birth: BirthRecord, system_identifier: str | None = None) -> VolumeRecord:
    """The birth record as rule 13 reads it."""
    return VolumeRecord(birth.volume_id, birth.identities, system_identifier)
