"""Opening the volume under a new term: what a candidate decides on the way.

One path for creation, failover, and coming back after every instance was lost: pre-vote, promises,
choose, catch up, promote, adopt, open (rules 2 to 6). The instance's agent walks it; each step
that depends on answers is judged here. Nothing here is remembered between attempts: an attempt
that restarts takes a higher term under a new id (H3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aurora_operator.core.copy import CopyState, CopyView, Position, Promise
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.members import MemberList, highest
from aurora_operator.core.names import Identity, Slot
from aurora_operator.core.quorum import QuorumPolicy
from aurora_operator.core.vdl import durable_point
from aurora_operator.core.verdicts import GiveUp, Proceed, Wait, Wipe


@dataclass(frozen=True, slots=True)
class CopyAnswer:
    """A copy's answer to a pre-vote or a promise: yes or no, and the copy as it is afterwards."""

    granted: bool
    copy: CopyView


@dataclass(frozen=True, slots=True)
class Choice:
    """The copy whose log the new term continues (rule 3)."""

    identity: Identity
    slot: Slot
    log_term: Term
    scl: Lsn
    history: TermHistory
    """The history of the chosen bytes: no entry without a byte."""
    members: MemberList
    system_identifier: str
    sentence: str
    survivors: tuple[Identity, ...] = ()
    """Only when three are left (rule 10): the members that promised, all that there are. A fourth
    copy has to be made of the chosen log before anything is opened."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The volume is open under its term: clients may come in."""

    vdl: Lsn
    sentence: str


def next_term(seen: Iterable[Term]) -> Term:
    """Rule 2: one more than the highest term seen; never made from a clock."""
    return Term(max(seen) + 1)


def judge_prevotes(
    answers: Sequence[CopyAnswer], policy: QuorumPolicy, lost: Sequence[Identity] = ()
) -> Proceed | Wait:
    """Rule 2: a write quorum of members must say yes before anything is written (H11).

    With three of them recorded as ``lost``, the three that are left must (rule 10).
    """
    try:
        members = _highest_list(answers)
    except ValueError as error:
        return Wait(str(error))
    counted = [] if members is None else _members_answers(answers, members)
    willing = [answer.copy for answer in counted if answer.granted]
    yes = len(willing)
    sentence = f"{yes} of {len(counted)} members that answered would promise"
    if yes >= policy.write_quorum:
        return Proceed(sentence)
    if members is not None and survivors(members, lost, willing, answers, policy):
        return Proceed(f"{sentence}; the others are recorded as lost")
    return Wait(f"{sentence}; {policy.write_quorum} are needed")


def survivors(
    members: MemberList,
    lost: Sequence[Identity],
    granted: Sequence[CopyView],
    answers: Sequence[CopyAnswer],
    policy: QuorumPolicy,
) -> tuple[Identity, ...]:
    """Rule 10: the three members that are left and all said yes; nothing unless it is so (H9).

    ``lost`` was recorded by compare-and-swap, so two halves never declare each other dead. Three
    share a copy with every write quorum of six (3 + 4 > 6), and all three are needed: no two
    candidates get them both. A list of four was made by an earlier candidate for these same three
    and one new copy. Whatever was acknowledged since is on all four of them, so the three are
    enough again when the fourth lost its disk before it was one of six.
    """
    if len(set(lost)) != policy.copies - policy.read_quorum:
        return ()
    said_yes = {copy.identity for copy in granted}
    left = [identity for identity in members.identities if identity not in lost]
    if len(members.identities) == policy.write_quorum and len(said_yes) == policy.read_quorum:
        left = [identity for identity in left if not _lost_its_disk(identity, members, answers)]
    is_all = len(left) == policy.read_quorum and set(left) == said_yes
    return tuple(left) if is_all else ()


def choose(
    asked: Promise,
    answers: Sequence[CopyAnswer],
    policy: QuorumPolicy,
    lost: Sequence[Identity] = (),
) -> Choice | Wait | GiveUp:
    """Rules 2 and 3: whose log goes on, once a write quorum of members has promised (I3, I6).

    Only members of the highest list among the answers count (H1). The choice is the highest (term
    of the last byte, SCL), never the highest position alone: a long log of an old term may hold
    bytes that were never acknowledged and lack ones that were. Write quorum + read quorum > V, so
    every acknowledged commit is on a copy that answered. When three members are recorded as
    ``lost``, the other three choose among themselves (rule 10).
    """
    records = [a.copy.record for a in answers if a.copy.record is not None]
    volumes = {record.volume_id for record in records}
    if len(volumes) > 1:
        return GiveUp(f"the answers come from different volumes: {', '.join(sorted(volumes))}")
    systems = {record.system_identifier for record in records}
    if len(systems) > 1:
        return GiveUp(
            f"the copies hold different databases ({', '.join(sorted(systems))}): the volume was"
            " formatted twice (rule 13); nothing was chosen, find out which copies hold your data"
        )
    try:
        members = _highest_list(answers)
    except ValueError as error:
        return GiveUp(str(error))
    if members is None:
        return Wait(f"no full copy answers {asked}")
    counted = _members_answers(answers, members)
    granted = [a.copy for a in counted if a.granted and _promised(a.copy) == asked]
    left = survivors(members, lost, granted, answers, policy)
    if left and len(granted) < policy.write_quorum:
        return _best(granted, members, left)
    refused = len(counted) - len(granted)
    if refused > len(members.identities) - policy.write_quorum:
        return GiveUp(
            f"{refused} members refuse {asked}; {policy.write_quorum} can no longer agree"
        )
    if len(granted) < policy.write_quorum:
        return Wait(f"{len(granted)} of {policy.write_quorum} promises for {asked}")
    return _best(granted, members, ())


def skipped_terms(history: TermHistory, term: Term) -> tuple[Term, ...]:
    """Rule 4: the numbers below ``term`` that the chosen history lacks.

    PostgreSQL numbers a new timeline one above the highest history file it finds; a stub for each
    of these makes timeline and term equal (T8).
    """
    present = {entry.term for entry in history.entries}
    return tuple(Term(n) for n in range(2, term) if n not in present)


def judge_caught_up(
    flushed: Lsn, replayed: Lsn, *, replay_stalled: bool, choice: Choice
) -> Proceed | Wait | Wipe:
    """Rule 4: promote when every chosen byte is flushed and replay stands still behind it (H14).

    The chosen SCL is often in the middle of a record, so replay need not reach it. An instance
    that holds more than the choice holds bytes that lost.
    """
    if max(flushed, replayed) > choice.scl:
        return Wipe(f"this instance has log up to {max(flushed, replayed)}, beyond {choice.scl}")
    if flushed < choice.scl:
        return Wait(f"flushed {flushed} of {choice.scl}")
    if not replay_stalled:
        return Wait(f"replay is at {replayed} and still moves towards {choice.scl}")
    return Proceed(f"all of {choice.scl} is flushed and replay stands at {replayed}")


def judge_promotion(
    promoted: TermHistory, replay_before: Lsn, choice: Choice, asked: Term
) -> Proceed | Wipe:
    """Rule 4: the engine's history must be the chosen one, continued by the asked term.

    The timeline must be the term, and must not fork before what was replayed. And the bytes below
    the fork must be the chosen ones: a replica may have received part of a record that its term
    never finished; positions alone cannot tell these bytes from what the next term wrote in their
    place, but the engine knows on which timelines it came here (H14, I6).
    """
    timeline, fork = promoted.last.term, promoted.last.begin
    if timeline != asked:
        return Wipe(f"promotion made timeline {timeline}, not {asked}: two logs could share it")
    if fork < replay_before:
        return Wipe(f"promotion forked at {fork}, before the replayed {replay_before}")
    if promoted != choice.history.extended(asked, fork):
        return Wipe(f"promotion continued {promoted}, but the chosen log is {choice.history}")
    return Proceed(f"timeline {timeline} begins at {fork}")


def may_open(
    term: Term,
    first_record_end: Lsn,
    must_hold: Lsn,
    positions: Iterable[Position],
    members: MemberList,
    policy: QuorumPolicy,
) -> Opened | Wait:
    """Rule 6: clients come in, even for reads, only when the VDL of the term exists (I4).

    ``must_hold`` is the end of the first record for a new term, and the end of the recovered log
    for a restart in place (rule 11).
    """
    vdl = durable_point(term, first_record_end, positions, members, policy)
    needed = max(first_record_end, must_hold)
    if vdl is None or vdl < needed:
        return Wait(f"{policy.write_quorum} copies must hold term {term} up to {needed}")
    return Opened(vdl, f"term {term} is open: {policy.write_quorum} copies hold it up to {vdl}")


def _highest_list(answers: Sequence[CopyAnswer]) -> MemberList | None:
    """The highest list that a full copy shows (rule 8).

    A copy that is not full knows of no list that could count (I5, H13); raises ``ValueError`` for
    two lists of one version.
    """
    lists = [a.copy.record.members for a in answers if a.copy.record is not None and _full(a.copy)]
    return highest(lists) if lists else None


def _members_answers(answers: Sequence[CopyAnswer], members: MemberList) -> list[CopyAnswer]:
    """One answer for each of the members; of a copy that is not full it is always a no (I5)."""
    by_identity = {a.copy.identity: a for a in answers if a.copy.identity in members}
    return [
        CopyAnswer(answer.granted and _full(answer.copy), answer.copy)
        for answer in by_identity.values()
    ]


def _full(copy: CopyView) -> bool:
    return copy.state is CopyState.FULL and copy.scl is not None


def _promised(copy: CopyView) -> Promise | None:
    return None if copy.record is None else copy.record.promise


def _lost_its_disk(identity: Identity, members: MemberList, answers: Sequence[CopyAnswer]) -> bool:
    """Whether the pod of that member answers, and has no full copy under that identity."""
    in_slot = [a.copy for a in answers if members.identity_in(a.copy.slot) == identity]
    return bool(in_slot) and not any(c.identity == identity and _full(c) for c in in_slot)


def _best(
    promised: Sequence[CopyView], members: MemberList, left: tuple[Identity, ...]
) -> Choice | GiveUp:
    """The copy with the highest (term of the last byte, SCL); the lowest slot among equals."""
    ranked = []
    for copy in promised:
        if copy.record is None or copy.scl is None or copy.log_term is None:
            return GiveUp(f"{copy.identity} promised, but shows no log")
        ranked.append(((copy.log_term, copy.scl, -copy.slot), copy.record))
    (log_term, scl, _), record = max(ranked, key=lambda pair: pair[0])
    return Choice(
        identity=record.identity,
        slot=record.slot,
        log_term=log_term,
        scl=scl,
        history=record.history.truncated(scl),
        members=members,
        system_identifier=record.system_identifier,
        sentence=f"{len(promised)} promised; {record.identity} has the newest log:"
        f" term {log_term} up to {scl}",
        survivors=left,
    )
