"""Replacing a copy whose disk is lost: what the open writer does next.

Only the open writer changes the member list, one identity at a time (rule 8, H1). A replacement
goes through these steps, each decided anew from what is seen, so that it may be cut anywhere and
taken up by whoever writes next:

1. the lost identity leaves the list that commits wait for, its walsender is seen to be gone;
2. the list without it is stored on four copies: whoever opens the volume now hears of it;
3. its pod gets a new identity and fills its disk from its peers (rule 9);
4. the new copy follows the writer, without counting, until it holds all that was flushed after
   step 1 (H8): any commit that the lost copy helped to acknowledge is below that;
5. the list with the new identity is stored on four copies;
6. commits may wait for it, and it counts.

Between any two of them, the list in force and the list that is stored differ by one identity at
most: a write quorum of either meets every quorum of the other. Nothing here stops a commit, and
nothing is ever done to a pod that merely does not answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aurora_operator.core.copy import CopyState, CopyView, Promise, is_removed
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.members import MemberList
from aurora_operator.core.names import Identity, Slot
from aurora_operator.core.quorum import QuorumPolicy
from aurora_operator.core.verdicts import Refuse, Wait


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a writer heard of a copy before, in its own term (H17)."""

    promised_term: Term | None = None
    scl: Lsn | None = None
    """How far its log of this writer's term was durable once."""


@dataclass(frozen=True, slots=True)
class Membership:
    """What the open writer knows about its members."""

    promise: Promise
    members: MemberList
    """The list as this writer last changed it: what copies are asked to store."""
    in_force: tuple[Identity, ...]
    """Whom commits wait for and the hub counts."""
    copies: Mapping[Slot, CopyView | None]
    """What each slot's pod answers; ``None``: nothing."""
    returned_with_less: frozenset[Slot] = frozenset()
    """Slots whose copy lost what it had: full by its own word, and counted as blank."""
    left_behind: frozenset[Slot] = frozenset()
    """Slots whose copy needs log that is kept nowhere any more (rule 14)."""
    flushed: Lsn | None = None
    """The writer's flush position, read after the list in force last lost a member (H8)."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing is to be done."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Something is to be done, and not now."""

    sentence: str


@dataclass(frozen=True, slots=True)
class TakeOut:
    """Commits wait for ``identity`` no more; its walsender ends and is seen to be gone (1)."""

    identity: Identity
    sentence: str


@dataclass(frozen=True, slots=True)
class StoreList:
    """Have the members store this list; it is in effect when four of them have (2, 5)."""

    members: MemberList
    sentence: str


@dataclass(frozen=True, slots=True)
class FillCopy:
    """Have the pod of an empty slot fill its disk (3); under a new identity, unless one is given.

    Asked again while it goes on, it is harmless: the pod then goes on for this writer.
    """

    slot: Slot
    identity: Identity | None
    sentence: str


@dataclass(frozen=True, slots=True)
class TakeIn:
    """Let the filled copy follow, without counting, and read how far the writer flushed (4)."""

    slot: Slot
    identity: Identity
    sentence: str


@dataclass(frozen=True, slots=True)
class PutIn:
    """Commits may wait for ``identity``, and it counts (6)."""

    identity: Identity
    sentence: str


Step = Settled | Hold | TakeOut | StoreList | FillCopy | TakeIn | PutIn


def next_step(seen: Membership, policy: QuorumPolicy) -> Step:
    """Rules 8 and 9: the next step of a replacement, if there is anything to replace (I1, I5)."""
    unstored = _not_stored(seen, policy)
    if unstored is not None:
        return unstored
    missing = [i for i in seen.members.identities if i not in seen.in_force]
    if missing:
        return _finish(seen, missing[0])
    if seen.members.empty_slots:
        return _fill(seen, seen.members.empty_slots[0])
    return _begin(seen, policy)


def returned_with_less(copy: CopyView, before: Remembered, term: Term) -> str | None:
    """H17: what a full copy lost that its writer remembers of it; ``None``: nothing.

    ``before`` was remembered before the copy was asked. Such a copy has broken its word without
    knowing it, and is as good as blank: nothing is asked of it, and it is filled anew.
    """
    if copy.state is not CopyState.FULL or copy.record is None:
        return None
    promised = copy.record.promise.term
    if promised < (before.promised_term or 0):
        return f"{copy.identity} promised term {before.promised_term} and answers {promised}"
    if before.scl is None:
        return None
    if copy.log_term == term and copy.scl is not None and copy.scl >= before.scl:
        return None
    if promised > term:
        return None  # another writer's term: its adoption may have cut the log
    return f"{copy.identity} held log of term {term} up to {before.scl} and answers {copy.scl}"


def judge_refill(
    own: CopyView,
    new: Identity,
    writer: Promise,
    peers: Iterable[CopyView],
    policy: QuorumPolicy,
    chosen: Identity | None = None,
) -> CopyView | Wait | Refuse:
    """Rule 9, at the copy: whether it may be filled for this writer; the peer to learn from.

    It learns term and list from three full members of the highest list (H13): a blank copy's
    answer never counts. Its own disk is wiped only when that list does not name it, so nothing
    that still counts is ever thrown away. Asked again when the log is there: the record is written
    only while the same still holds.

    When three are left there is no writer to follow: a candidate has the promises of all three, and
    the copy is filled from the one that it has ``chosen``, to its very end (rule 10).
    """
    full = [p for p in peers if p.state is CopyState.FULL and p.record is not None]
    lists = [p.record.members for p in full if p.record is not None]
    if not lists:
        return Wait("no full copy answers")
    members = max(lists, key=lambda members: members.version)
    if any(other.version == members.version and other != members for other in lists):
        return Refuse(f"two lists bear the version of {members}; nothing may count on either")
    teachers = [p for p in full if p.identity in members]
    if len(teachers) < policy.read_quorum:
        return Wait(f"{len(teachers)} of {policy.read_quorum} full members answer")
    if own.identity in members and own.identity != new:
        return Refuse(f"{own.identity} is a member; its disk is not touched before it is taken out")
    if members.identity_in(own.slot) not in (None, new):
        return Refuse(f"slot {own.slot} belongs to {members.identity_in(own.slot)}")
    higher = [p for p in teachers if (p.promised_term or 0) > writer.term]
    if higher:
        return Wait(f"{higher[0].identity} promised term {higher[0].promised_term}, not {writer}")
    followers = [p for p in teachers if p.record is not None and p.record.promise == writer]
    if chosen is None:
        able = [p for p in followers if p.log_term == writer.term]
    else:
        able = [p for p in followers if p.identity == chosen and new in members]
    if len(followers) < policy.read_quorum or not able:
        return Wait(f"{len(followers)} of {policy.read_quorum} full members belong to {writer}")
    return max(able, key=lambda copy: copy.scl or 0)


def _not_stored(seen: Membership, policy: QuorumPolicy) -> Step | None:
    """No change goes on before four members keep the list that the last one made."""
    kept = [
        copy.record.members
        for copy in seen.copies.values()
        if copy is not None
        and copy.state is CopyState.FULL
        and copy.record is not None
        and copy.record.promise == seen.promise
        and copy.identity in seen.members
    ]
    newest = max((members.version for members in kept), default=seen.members.version)
    if newest > seen.members.version:
        term = max(seen.promise.term, newest.term)
        renewed = seen.members.renewed(term, newest)
        return StoreList(renewed, f"a copy keeps a list {newest} that never came into effect")
    stored = sum(members == seen.members for members in kept)
    if stored >= policy.write_quorum:
        return None
    return StoreList(
        seen.members, f"{stored} of {policy.write_quorum} copies keep the list {seen.members}"
    )


def _finish(seen: Membership, identity: Identity) -> Step:
    """A listed identity is not in force: it is on its way out, or on its way in."""
    slot = seen.members.slot_of(identity)
    why = _why_lost(seen, slot)
    if why is not None:
        return StoreList(seen.members.without(identity, seen.promise.term), why)
    copy = seen.copies.get(slot)
    if copy is None or copy.identity != identity:
        return Hold(f"{identity} is listed and its pod does not answer")
    return PutIn(identity, f"four copies keep the list {seen.members}")


def _fill(seen: Membership, slot: Slot) -> Step:
    """An empty slot: its pod fills its disk, follows, and is listed."""
    copy = seen.copies.get(slot)
    if copy is None:
        return Hold(f"the pod of slot {slot} does not answer; its copy is to be filled")
    if copy.state is CopyState.FILLING:
        return FillCopy(slot, copy.identity, copy.sentence)
    if copy.state is not CopyState.FULL or copy.record is None:
        return FillCopy(slot, None, f"the copy in slot {slot} is {copy.state}")
    if is_removed(copy.record, seen.members) or slot in seen.returned_with_less:
        return FillCopy(slot, None, f"{copy.identity} was taken out, and its disk is used anew")
    follows = copy.streaming_term == copy.log_term == seen.promise.term
    if not follows or copy.record.promise != seen.promise or seen.flushed is None:
        return TakeIn(slot, copy.identity, f"{copy.identity} is full and has to follow")
    if copy.scl is None or copy.scl < seen.flushed:
        return Hold(f"{copy.identity} holds the log up to {copy.scl} of {seen.flushed}")
    listed = seen.members.with_member(slot, copy.identity, seen.promise.term)
    return StoreList(listed, f"{copy.identity} holds all up to {seen.flushed}")


def _begin(seen: Membership, policy: QuorumPolicy) -> Step:
    """Whether a member is lost; one at a time, and never below a write quorum of others."""
    for slot in seen.members.slots:
        why = _why_lost(seen, slot)
        identity = seen.members.identity_in(slot)
        if why is None or identity is None:
            continue
        others = sum(_follows(seen, other) for other in seen.members.slots if other != slot)
        if others < policy.write_quorum:
            return Hold(f"{why}; it is replaced when {policy.write_quorum} others follow: {others}")
        return TakeOut(identity, why)
    return Settled("six members, and none of them is lost")


def _why_lost(seen: Membership, slot: Slot) -> str | None:
    """Why the member in this slot has no disk any more; ``None`` when it may still have one."""
    copy = seen.copies.get(slot)
    identity = seen.members.identity_in(slot)
    if copy is None:
        return None
    if slot in seen.returned_with_less:
        return f"{identity} returned with less than it had"
    if slot in seen.left_behind:
        return f"{identity} was left behind: the log that it needs next is kept nowhere"
    if copy.state in (CopyState.BLANK, CopyState.FAILED):
        return f"the copy of {identity} is {copy.state}: {copy.sentence}"
    if copy.identity != identity:
        return f"slot {slot} holds {copy.identity} now, the disk of {identity} is gone"
    return None


def _follows(seen: Membership, slot: Slot) -> bool:
    copy = seen.copies.get(slot)
    return (
        copy is not None
        and copy.identity == seen.members.identity_in(slot)
        and copy.state is CopyState.FULL
        and copy.streaming_term == seen.promise.term
        and slot not in seen.returned_with_less
    )
