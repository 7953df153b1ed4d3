"""One copy of the volume: what it knows, what it promises, whose log it takes.

``CopyRecord`` is what a copy keeps durably beside its log, ``CopyView`` is the copy as it stands
at one moment, here or as another pod described itself. The decisions below read a view and return
a refusal or the steps to take, in the order that makes a crash between any two of them harmless;
``volume/copy_store.py`` takes the steps, and may die anywhere.

A copy that is blank, filling or failed has no say in anything (I5): it would speak for log that
it does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aurora_operator.core.history import TermHistory, common_prefix_end
from aurora_operator.core.lsn import FORMAT_TERM, LOG_START, Lsn, Term
from aurora_operator.core.members import MemberList, highest
from aurora_operator.core.names import AttemptId, Identity, InstanceName, Slot, VolumeId
from aurora_operator.core.verdicts import Proceed, Refuse

SILENT_SECONDS: Final = 1.0
"""Silence after which a copy counts its writer as gone."""

HOLD_SECONDS: Final = 0.5
"""How long a pre-vote is kept for the candidate that got it, which will ask for a promise."""

YOUNG_SECONDS: Final = 10.0
YOUNG_SILENT_SECONDS: Final = 3.0
"""Hold-down: a writer that was taken in less than ``YOUNG_SECONDS`` ago may be silent for longer,
so that a network that comes and goes does not pass the volume from hand to hand."""


class CopyState(StrEnum):
    """What a storage pod's copy is good for."""

    BLANK = "blank"
    """Holds nothing; it never votes."""
    FILLING = "filling"
    """Taking base and log from a full copy; it never votes."""
    FULL = "full"
    """Contiguous from its log's start to its SCL."""
    FAILED = "failed"
    """A checksum or an fsync failed; counted as blank until it is refilled."""


class StreamState(StrEnum):
    """What a copy knows of its stream from the writer."""

    NONE = "none"
    """It has no writer to follow."""
    STREAMING = "streaming"
    CLOSED = "closed"
    """The other side ended it."""
    SILENT = "silent"
    """Nothing was heard for the limit, although the copy pings."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A durable word never again to take log of a lower term, given to one attempt (rule 2)."""

    term: Term
    attempt_id: AttemptId

    def __str__(self) -> str:
        return f"term {self.term} (attempt {self.attempt_id})"


@dataclass(frozen=True, slots=True)
class Vdl:
    """A volume durable position, which means something in its own term only (rule 7, T5)."""

    term: Term
    lsn: Lsn


@dataclass(frozen=True, slots=True)
class CopyRecord:
    """What a copy keeps durably beside its log."""

    volume_id: VolumeId
    identity: Identity
    slot: Slot
    system_identifier: str
    promise: Promise
    history: TermHistory
    first_record_end: Lsn
    """End of the first record of the history's last term (rule 6)."""
    members: MemberList
    known_vdl: Vdl | None = None
    """The last one heard of, written lazily: a lower bound after a restart."""
    scl_floor: Lsn = LOG_START
    """The log was once durable up to here: a log that ends below it was damaged (H17)."""

    @property
    def was_opened(self) -> bool:
        """Whether any writer ever asked for a promise: formatting is term 1, which nobody owns."""
        return self.promise.term > FORMAT_TERM

    def __post_init__(self) -> None:
        if self.promise.term < self.history.last.term:
            raise ValueError(
                f"{self.identity} promised {self.promise} and holds log of term"
                f" {self.history.last.term}; a promise is never below the log (H15)"
            )


@dataclass(frozen=True, slots=True)
class CopyView:
    """A copy at one moment. ``record`` and ``scl`` are there exactly when it is full."""

    identity: Identity
    slot: Slot
    state: CopyState
    record: CopyRecord | None = None
    scl: Lsn | None = None
    log_start: Lsn | None = None
    streaming_term: Term | None = None
    """The term of the writer it is connected to right now."""
    sentence: str = ""

    @property
    def promised_term(self) -> Term | None:
        """The term it promised, if it has a say."""
        return None if self.record is None else self.record.promise.term

    @property
    def log_term(self) -> Term | None:
        """The term of its last durable byte: what logs are compared by (rule 2, H5)."""
        if self.record is None or self.scl is None:
            return None
        return self.record.history.last_term_before(self.scl)


@dataclass(frozen=True, slots=True)
class Position:
    """What the volume durable position is computed from: facts of one copy (rule 6)."""

    identity: Identity
    promised_term: Term | None
    log_term: Term | None
    scl: Lsn | None


def position_of(copy: CopyView) -> Position:
    """The copy's position; one that is not full has none (I5)."""
    if copy.state is not CopyState.FULL:
        return Position(copy.identity, None, None, None)
    return Position(copy.identity, copy.promised_term, copy.log_term, copy.scl)


def silence_limit_seconds(followed_seconds: float) -> float:
    """How long a writer that was taken in so long ago may be silent (design, §5)."""
    return SILENT_SECONDS if followed_seconds >= YOUNG_SECONDS else YOUNG_SILENT_SECONDS


def decide_prevote(
    copy: CopyView,
    stream: StreamState,
    *,
    beat_silent_seconds: float,
    up_seconds: float,
    consented: bool = False,
) -> Proceed | Refuse:
    """Rule 2, pre-vote: would this copy promise? Nothing is written.

    It says no while its writer streams, so that a candidate that merely lost touch cannot stop a
    healthy writer (H11); unless the writer itself consents to this very candidate (switchover). A
    copy that follows nobody says no while the writer or the candidate of the term it promised was
    heard a moment ago (``beat_silent_seconds``); and one that has been up for ``up_seconds`` only
    gives that writer as long as a silent one to take it in.
    """
    if copy.state is not CopyState.FULL or copy.record is None:
        return Refuse(f"{copy.identity} is {copy.state}, and only a full copy has a vote")
    match stream:
        case StreamState.STREAMING if consented:
            return Proceed(f"{copy.identity}: the writer of term {copy.streaming_term} consents")
        case StreamState.STREAMING:
            return Refuse(f"{copy.identity} hears the writer of term {copy.streaming_term}")
        case StreamState.CLOSED:
            return Proceed(f"{copy.identity}: the writer ended the stream")
        case StreamState.SILENT:
            return Proceed(f"{copy.identity}: the writer has been silent for the limit")
        case StreamState.NONE:
            if copy.record.was_opened and up_seconds < SILENT_SECONDS:
                return Refuse(f"{copy.identity} just came back; its writer may be well")
            if copy.record.was_opened and beat_silent_seconds < SILENT_SECONDS:
                return Refuse(f"{copy.identity} hears a candidate of term {copy.promised_term}")
            return Proceed(f"{copy.identity} follows no writer")


@dataclass(frozen=True, slots=True)
class Hold:
    """A pre-vote that was given: to whom, and when by the copy's own steady clock."""

    candidate: InstanceName
    given_at_seconds: float


def hold_prevote(hold: Hold | None, candidate: InstanceName, now_seconds: float) -> Hold | Refuse:
    """Whether this candidate may have a pre-vote that the copy would give.

    Two candidates that both heard four yes would take each other's promises, and leave copies
    behind that promised the loser. So for a moment a pre-vote belongs to who got it first. Asking
    again does not prolong it: of two that hold three each, one is first when these run out.
    """
    if hold is None or now_seconds - hold.given_at_seconds >= HOLD_SECONDS:
        return Hold(candidate, now_seconds)
    if hold.candidate == candidate:
        return hold
    return Refuse(f"{hold.candidate} asked a moment ago and has its turn")


@dataclass(frozen=True, slots=True)
class CloseStream:
    """End the stream from the writer at once; nothing received later is appended or reported."""


@dataclass(frozen=True, slots=True)
class SyncLog:
    """Make everything received durable."""


@dataclass(frozen=True, slots=True)
class PersistPromise:
    """Make the promise durable."""

    promise: Promise


@dataclass(frozen=True, slots=True)
class AnswerPosition:
    """Read SCL, history and members now, and answer with them."""


PromiseStep = CloseStream | SyncLog | PersistPromise | AnswerPosition


def decide_promise(copy: CopyView, asked: Promise) -> tuple[PromiseStep, ...] | Refuse:
    """Rule 2, promise: the steps, which the caller takes as one, or a refusal (I3, I5).

    The order is the point (H10): once the SCL is read no report leaves, so the answered SCL is
    not below any that was ever reported. The same (term, attempt) gets the same answer, because
    its steps were all taken and a promised copy takes no log until it adopts. Another attempt of
    the same term is refused: it may be the same pod with another log (H3).
    """
    if copy.state is not CopyState.FULL or copy.record is None:
        return Refuse(f"{copy.identity} is {copy.state}, and only a full copy can promise")
    given = copy.record.promise
    if asked == given:
        return (AnswerPosition(),)
    if asked.term <= given.term:
        return Refuse(f"{copy.identity} promised {given}; {asked} comes too late")
    return (CloseStream(), SyncLog(), PersistPromise(asked), AnswerPosition())


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a writer asks the copies that promised to it: take this history as yours."""

    promise: Promise
    history: TermHistory
    """The whole history, ending with the writer's term."""
    first_record_end: Lsn
    members: MemberList


@dataclass(frozen=True, slots=True)
class LowerFloor:
    """Durably allow the log to end at ``lsn``, before it is cut there."""

    lsn: Lsn


@dataclass(frozen=True, slots=True)
class TruncateLog:
    """Durably cut the log at ``lsn``."""

    lsn: Lsn


@dataclass(frozen=True, slots=True)
class PersistHistory:
    """Make history, end of the first record, and member list durable."""

    history: TermHistory
    first_record_end: Lsn
    members: MemberList


@dataclass(frozen=True, slots=True)
class Follow:
    """Stream from the writer: from ``start_lsn``, on the timeline of the own last byte."""

    start_lsn: Lsn
    timeline_term: Term


AdoptionStep = LowerFloor | TruncateLog | PersistHistory | Follow


def decide_adoption(copy: CopyView, asked: Adoption) -> tuple[AdoptionStep, ...] | Refuse:
    """Rule 5: every promised copy, longer or shorter, goes back to the common prefix (H6).

    The cut is durable before the history is, and the history before the first byte: read with the
    old history a cut log is merely short, but dead bytes read with the new one would pass for the
    new term's (H15). Asking again is harmless: it leads to ``Follow`` alone.
    """
    if copy.state is not CopyState.FULL or copy.record is None or copy.scl is None:
        return Refuse(f"{copy.identity} is {copy.state}, and only a full copy can adopt")
    record = copy.record
    if record.promise != asked.promise:
        return Refuse(f"{copy.identity} promised {record.promise}, not {asked.promise}")
    if asked.history.last.term != asked.promise.term:
        return Refuse(f"the history {asked.history} does not end with term {asked.promise.term}")
    if asked.first_record_end <= asked.history.last.begin:
        return Refuse(f"the first record of term {asked.promise.term} ends before it begins")
    if record.history.last.term == asked.promise.term and record.history != asked.history:
        return Refuse(
            f"{copy.identity} adopted {record.history}, and now {asked.history} is called the same"
            " term; two logs of one term must not be (I3), so neither is touched"
        )
    members = highest((record.members, asked.members))
    if is_removed(record, members):
        return Refuse(_removed(record, members))
    common = common_prefix_end(record.history, copy.scl, asked.history)
    timeline_term = asked.history.last_term_before(common)
    if timeline_term is None or (copy.log_start is not None and common <= copy.log_start):
        return Refuse(
            f"{copy.identity} has log from {copy.log_start} on and shares it up to {common} only;"
            " it has to be filled anew"
        )
    steps: list[AdoptionStep] = []
    if common < copy.scl:
        steps += [LowerFloor(common), TruncateLog(common)]
    if (record.history, record.first_record_end, record.members) != (
        asked.history,
        asked.first_record_end,
        members,
    ):
        steps.append(PersistHistory(asked.history, asked.first_record_end, members))
    return (*steps, Follow(common, timeline_term))


def is_removed(record: CopyRecord, members: MemberList) -> bool:
    """Rule 8: whether the copy was a member once and is none of ``members``, the highest list.

    A copy that was filled and never listed is something else: it is on its way in, and its own
    list, which it learned from its peers, does not name it yet.
    """
    return record.identity in record.members and record.identity not in members


def _removed(record: CopyRecord, members: MemberList) -> str:
    return f"{record.identity} was taken out of the volume, whose members are {members}, for ever"


def decide_members(copy: CopyView, writer: Promise, asked: MemberList) -> MemberList | Refuse:
    """Rule 8: the list to make durable, when the holder of the copy's promise changed it (H1).

    Only the attempt that this copy promised to may change it, so a writer that was superseded
    changes nothing on four copies any more. The list that is stored already may be asked again.
    """
    if copy.state is not CopyState.FULL or copy.record is None:
        return Refuse(f"{copy.identity} is {copy.state}, and only a full copy keeps the list")
    record = copy.record
    if record.promise != writer:
        return Refuse(f"{copy.identity} promised {record.promise}, not {writer}")
    if copy.identity not in asked:
        return Refuse(f"{copy.identity} is not on the list {asked}, and keeps lists it is on only")
    if asked.version < record.members.version:
        return Refuse(f"{copy.identity} keeps the list {record.members}, which is newer")
    if asked.version == record.members.version and asked != record.members:
        return Refuse(f"{record.members} and {asked} bear one version; neither is touched")
    return asked


def may_take_log(copy: CopyView, writer_term: Term) -> bool:
    """Rules 1 and 5: log is taken from the writer of exactly the promised and adopted term (I3)."""
    return (
        copy.state is CopyState.FULL
        and copy.record is not None
        and copy.record.promise.term == writer_term
        and copy.record.history.last.term == writer_term
    )


def reportable_lsn(
    copy: CopyView, writer_term: Term, prefix_end: Lsn, received_end: Lsn | None
) -> Lsn | None:
    """Rules 1 and 5: what may be reported to the writer as flushed, if anything (I1, H7).

    PostgreSQL believes any number, so it gets at most what is durable here, and of that at most
    what this writer sent (``received_end``) or what the two histories had in common when the
    stream began (``prefix_end``). ``None`` while the promise is not exactly this writer's term.
    """
    if not may_take_log(copy, writer_term) or copy.scl is None:
        return None
    covered = prefix_end if received_end is None else max(prefix_end, received_end)
    return min(copy.scl, covered)
