"""What an open writer may still tell its clients, by what it heard of its members (rule 12).

A writer that another one has replaced cannot commit, but it could read what is out of date. It
knows that nobody replaced it as of the moment at which three members, asked after it, still had
promised nothing higher than its term: any three of six meet any four, so no other candidate had
four promises then. That moment is the *stamp*. The guard in the server holds statements while it
is old (``HOLD_NS``, which ``images/engine/guard/stamp.c`` knows too); this module says when it is
so old that clients are sent away, and when the writer is over for good.

Times are nanoseconds of one machine's clock that goes on while it sleeps. They never come from
another machine: a member's answer is dated by when the writer asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from aurora_operator.core.copy import CopyState, CopyView, Promise
from aurora_operator.core.lsn import Term
from aurora_operator.core.members import MemberList
from aurora_operator.core.quorum import QuorumPolicy

MILLISECOND_NS: Final = 1_000_000
HOLD_NS: Final = 200 * MILLISECOND_NS
"""A stamp older than this holds statements; the guard's own number must be the same."""
LOST_NS: Final = 1000 * MILLISECOND_NS
"""A stamp older than this ends sessions."""
AWAKE_NS: Final = 300 * MILLISECOND_NS
"""So long this process must have run without a pause before silence is the members' own."""
NEVER_NS: Final = 1
"""The time of what never happened: long ago. (The guard takes 0 for a server without a stamp.)"""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the writer heard of one member."""

    promised_term: Term
    """The highest promise it ever told of; a promise is never taken back."""
    asked_ns: int
    """When it was asked what it last answered as a copy of the writer's own term."""


@dataclass(frozen=True, slots=True)
class Serve:
    """Three members answer: statements run."""

    stamp_ns: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Their last answer is a while ago: the guard lets statements wait."""

    stamp_ns: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Shut:
    """Another writer may be open: sessions end, new ones are refused, until three answer again."""

    stamp_ns: int
    sentence: str


@dataclass(frozen=True, slots=True)
class StandDown:
    """This writer is over: sessions end at once, and for good."""

    sentence: str


Verdict = Serve | Hold | Shut | StandDown


def superseded(
    term: Term, promised_terms: Iterable[Term], policy: QuorumPolicy
) -> StandDown | None:
    """Rule 12: three members that promised higher leave this writer three, one short of a commit.

    Fewer say nothing: a lone candidate must not end a healthy writer (H11).
    """
    higher = sum(promised > term for promised in promised_terms)
    if higher < policy.read_quorum:
        return None
    return StandDown(f"{higher} members promised a term above {term}")


def out_of_reach(
    writer: Promise, members: MemberList, copies: Iterable[CopyView], policy: QuorumPolicy
) -> StandDown | None:
    """Rule 12: copies bound to other attempts that, with lost ones, leave fewer than four (H11).

    A promise is never taken back, so such a writer will not commit again; nor can it have a lost
    copy replaced, which takes four that follow. The next term takes everybody in that has a disk.
    Copies that merely do not answer say nothing.
    """
    seen = {copy.slot: copy for copy in copies if copy.slot in members.slots}
    lost = [
        copy
        for slot, copy in seen.items()
        if copy.identity != members.identity_in(slot)
        or copy.state in (CopyState.BLANK, CopyState.FAILED)
    ]
    bound = [
        copy.identity
        for copy in seen.values()
        if copy not in lost
        and copy.record is not None
        and copy.record.promise != writer
        and copy.record.promise.term >= writer.term
    ]
    able = len(members.identities) - len(lost)
    if not bound or able - len(bound) >= policy.write_quorum or able < policy.write_quorum:
        return None
    return StandDown(
        f"{', '.join(bound)} promised to other attempts, and {len(lost)} copies are lost: fewer"
        f" than {policy.write_quorum} are left for term {writer.term}, and the next has {able}"
    )


def stamp_of(heard: Iterable[Heard], policy: QuorumPolicy) -> int:
    """The last moment at which three members belonged to this writer's term; ``NEVER_NS`` if none.

    Each answer proves its member's promise for the whole time before it, so it is the third
    youngest that counts.
    """
    youngest_first = sorted((member.asked_ns for member in heard), reverse=True)
    if len(youngest_first) < policy.read_quorum:
        return NEVER_NS
    return youngest_first[policy.read_quorum - 1]


def judge_isolation(
    term: Term,
    heard: Collection[Heard],
    *,
    now_ns: int,
    awake_since_ns: int,
    policy: QuorumPolicy,
) -> Verdict:
    """What the open writer of ``term`` may do now.

    ``awake_since_ns`` is when this process last came out of a pause: the members' answers may lie
    unread behind it, so silence counts only after a while. The guard holds statements meanwhile.
    """
    if (over := superseded(term, (member.promised_term for member in heard), policy)) is not None:
        return over
    stamp_ns = stamp_of(heard, policy)
    age_ns = now_ns - stamp_ns
    ago = f"{policy.read_quorum} members last answered {age_ns // MILLISECOND_NS} ms ago"
    if stamp_ns == NEVER_NS:
        ago = f"fewer than {policy.read_quorum} members ever answered"
    if age_ns <= HOLD_NS:
        return Serve(stamp_ns, ago)
    if age_ns <= LOST_NS:
        return Hold(stamp_ns, f"{ago}: statements wait")
    if now_ns - awake_since_ns < AWAKE_NS:
        return Hold(stamp_ns, f"{ago}, but this process was paused: statements wait")
    return Shut(
        stamp_ns,
        f"{ago}: another writer may be open, and nothing could be committed here anyhow",
    )
