"""What the open writer asks of each copy next.

The writer's agent looks at every member again and again and does one thing for it. Stragglers of
the opening, copies that come back and copies whose pod restarted all take the same way: promise,
adopt, follow. Nothing here needs to remember what was asked before.
"""

from __future__ import annotations

from dataclasses import dataclass

from aurora_operator.core.copy import Adoption, CopyState, CopyView, Promise
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Lsn
from aurora_operator.core.members import MemberList
from aurora_operator.core.names import Identity


@dataclass(frozen=True, slots=True)
class WriterFacts:
    """What the writer tells every copy about itself."""

    promise: Promise
    history: TermHistory
    first_record_end: Lsn
    members: MemberList
    guest: Identity | None = None
    """A filled copy on its way into the list: it follows, and counts for nothing yet (rule 8)."""

    @property
    def adoption(self) -> Adoption:
        """The ask that makes a copy follow this writer."""
        return Adoption(self.promise, self.history, self.first_record_end, self.members)


@dataclass(frozen=True, slots=True)
class AskPromise:
    """Ask for the promise of the writer's own term and attempt."""

    promise: Promise
    sentence: str


@dataclass(frozen=True, slots=True)
class AskAdopt:
    """Ask the copy to adopt the writer's history and follow it."""

    adoption: Adoption
    sentence: str


@dataclass(frozen=True, slots=True)
class AskMembers:
    """Ask the copy to store the member list, which this writer changed (rule 8)."""

    members: MemberList
    sentence: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing to ask now."""

    sentence: str


NextAsk = AskPromise | AskMembers | AskAdopt | Leave


def next_for_copy(writer: WriterFacts, copy: CopyView | None) -> NextAsk:
    """Rules 2, 5, 8 and 9: the next thing to ask of one copy (I3).

    A copy that streams already is left alone. A full copy without a stream is asked to adopt even
    if it has the history, because after a restart it no longer knows where the writer is.
    """
    if copy is None:
        return Leave("it does not answer")
    if copy.state is not CopyState.FULL or copy.record is None:
        return Leave(f"it is {copy.state} and has to be filled first")
    is_member = copy.identity in writer.members
    if not is_member and copy.identity != writer.guest:
        return Leave(f"{copy.identity} is not a member of the volume")
    given = copy.record.promise
    if given.term < writer.promise.term:
        return AskPromise(writer.promise, f"it promised {given}, which is older")
    if given != writer.promise:
        return Leave(f"it promised {given}; only a new term can take it in")
    if is_member and copy.record.members.version < writer.members.version:
        return AskMembers(writer.members, f"it keeps the older list {copy.record.members}")
    if copy.record.history != writer.history:
        return AskAdopt(writer.adoption, f"it promised and has the history {copy.record.history}")
    if copy.streaming_term != writer.promise.term:
        return AskAdopt(writer.adoption, "it adopted, but is not connected")
    return Leave(f"it streams, and holds the log up to {copy.scl}")
