"""The volume durable position: which copies count, and what a gate may make of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_operator.core.copy import CopyState, CopyView, Position, Vdl
from aurora_operator.core.gate import (
    ServePoint,
    candidate_serve_point,
    judge_fill_session,
    judge_uncapped,
    serve_point,
)
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import Identity
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.vdl import counts_for, durable_point, implied_vdl, merge_known, served
from aurora_operator.core.verdicts import Proceed
from support.copies import (
    IDENTITIES,
    STRANGER,
    at,
    full,
    history,
    members,
    promise,
    vdl,
    without_say,
)


def position(
    slot: int, promised: int | None, log: int | None, scl: int | None, name: Identity | None = None
) -> Position:
    return Position(
        name or IDENTITIES[slot],
        None if promised is None else Term(promised),
        None if log is None else Term(log),
        None if scl is None else at(scl),
    )


@pytest.mark.parametrize(
    ("seen", "counts"),
    [
        pytest.param(position(0, 7, 7, 80), True, id="counts"),
        pytest.param(position(0, 7, 7, 70), True, id="just-the-first-record"),
        pytest.param(position(0, 8, 7, 80), False, id="promised-higher"),
        pytest.param(position(0, 6, 7, 80), False, id="promised-lower"),
        pytest.param(position(0, 7, 6, 80), False, id="H4-last-byte-of-an-older-term"),
        pytest.param(position(0, 7, 7, 69), False, id="part-of-the-first-record"),
        pytest.param(position(0, None, None, None), False, id="not-full"),
        pytest.param(position(0, 7, 7, 80, STRANGER), False, id="no-member"),
    ],
)
def test_rule_6_who_counts(seen: Position, counts: bool) -> None:
    """Mutants 7, 8, 14 and 19."""
    assert counts_for(seen, Term(7), at(70), members()) is counts


def test_rule_6_no_vdl_until_four_hold_the_first_record() -> None:
    """Mutant 6 (I4)."""
    three = [position(slot, 7, 7, 80) for slot in range(3)]
    older = [position(slot, 7, 6, 99) for slot in range(3, 6)]
    point = durable_point(Term(7), at(70), three + older, members(), AURORA_QUORUM)
    assert point is None
    four = [*three, position(3, 7, 7, 72)]
    assert durable_point(Term(7), at(70), four, members(), AURORA_QUORUM) == at(72)


def test_rule_6_a_copy_counts_once() -> None:
    """Mutant 12: a duplicate connection (H2)."""
    twice = [position(slot, 7, 7, 80) for slot in (0, 0, 1, 2)]
    assert durable_point(Term(7), at(70), twice, members(), AURORA_QUORUM) is None


@pytest.mark.parametrize(
    ("known", "heard", "own", "expected"),
    [
        pytest.param(None, vdl(7, 50), 7, vdl(7, 50), id="first"),
        pytest.param(vdl(7, 50), vdl(7, 60), 7, vdl(7, 60), id="forward"),
        pytest.param(vdl(7, 50), vdl(7, 40), 7, vdl(7, 50), id="never-back-in-a-term"),
        pytest.param(vdl(6, 90), vdl(7, 50), 7, vdl(7, 50), id="T5-lower-in-a-new-term"),
        pytest.param(vdl(6, 50), vdl(7, 90), 6, vdl(6, 50), id="term-not-in-the-own-log-yet"),
        pytest.param(vdl(7, 50), vdl(6, 90), 7, vdl(7, 50), id="late-message-of-an-old-hub"),
        pytest.param(vdl(6, 50), vdl(6, 90), 7, vdl(6, 90), id="more-of-the-term-that-is-known"),
        pytest.param(vdl(6, 50), vdl(6, 40), 7, vdl(6, 50), id="less-of-the-term-that-is-known"),
        pytest.param(vdl(6, 50), vdl(5, 90), 7, vdl(6, 50), id="neither-known-nor-the-own-log's"),
        pytest.param(None, vdl(7, 50), None, None, id="no-log"),
    ],
)
def test_rule_7_a_vdl_is_never_carried_over_a_term(
    known: Vdl | None, heard: Vdl, own: int | None, expected: Vdl | None
) -> None:
    """Mutant 23 (T5, H19)."""
    own_term = None if own is None else Term(own)
    assert merge_known(known, heard, own_term) == expected


LOG = history((1, 0), (5, 30), (7, 60))


@pytest.mark.parametrize(
    ("terms", "scl", "known", "expected"),
    [
        pytest.param(LOG, 90, None, None, id="nothing-known"),
        pytest.param(LOG, 90, vdl(7, 80), (80, 7), id="capped-at-the-vdl"),
        pytest.param(LOG, 75, vdl(7, 80), (75, 7), id="own-log-is-behind"),
        pytest.param(LOG, 90, vdl(5, 50), (50, 5), id="vdl-of-an-older-term"),
        pytest.param(LOG, 90, vdl(5, 65), (60, 5), id="older-term-forked-inside-a-record"),
        pytest.param(LOG, 60, vdl(7, 80), None, id="no-byte-of-the-term-yet"),
        pytest.param(LOG, 60, vdl(5, 50), (50, 5), id="own-log-still-ends-with-5"),
        pytest.param(LOG, 90, vdl(6, 80), None, id="term-that-the-own-log-lacks"),
        pytest.param(LOG, 20, vdl(5, 50), None, id="own-log-ends-before-the-term"),
        pytest.param(LOG, 55, vdl(5, 30), None, id="T4-no-byte-of-the-term-is-below-it"),
    ],
)
def test_rule_7_serves_the_lower_of_vdl_and_own_log(
    terms: TermHistory, scl: int, known: Vdl | None, expected: tuple[int, int] | None
) -> None:
    """I2, mutants 20 and 23: a tail is not shown, whoever holds it."""
    point = None if expected is None else ServePoint(at(expected[0]), Term(expected[1]))
    assert serve_point(terms, at(scl), known) == point


def test_rule_4_a_candidate_reads_the_whole_tail() -> None:
    assert candidate_serve_point(LOG, at(90)) == ServePoint(at(90), Term(7))
    assert candidate_serve_point(LOG, at(60)) == ServePoint(at(60), Term(5))
    assert candidate_serve_point(LOG, at(0)) is None


@pytest.mark.parametrize(
    ("term", "attempt", "granted"),
    [
        pytest.param(8, "attempt-8", True, id="promised"),
        pytest.param(8, "other", False, id="other-attempt"),
        pytest.param(7, "attempt-7", False, id="older"),
    ],
)
def test_rule_4_only_the_promised_attempt_is_uncapped(
    term: int, attempt: str, granted: bool
) -> None:
    verdict = judge_uncapped(full(promised=8), promise(term, attempt))
    assert isinstance(verdict, Proceed) is granted


@pytest.mark.parametrize(
    ("source", "target", "granted"),
    [
        pytest.param(full(), IDENTITIES[1], True, id="born"),
        pytest.param(full(promised=2), IDENTITIES[1], False, id="an-instance-came"),
        pytest.param(full(), STRANGER, False, id="no-member"),
        pytest.param(full(), IDENTITIES[0], False, id="itself"),
        pytest.param(without_say(CopyState.FILLING), IDENTITIES[1], False, id="not-full"),
    ],
)
def test_rule_13_fill_sessions(source: CopyView, target: Identity, granted: bool) -> None:
    assert isinstance(judge_fill_session(source, target), Proceed) is granted


def _of_term_7(
    slot: int,
    scl: int,
    *,
    promised: int = 7,
    known: Vdl | None = None,
    identity: Identity | None = None,
) -> CopyView:
    return full(
        slot,
        promised=promised,
        scl=scl,
        terms=history((1, 0), (7, 60)),
        first_record_end=70,
        known=known,
        identity=identity,
    )


def test_rule_7_the_mesh_implies_what_the_hub_would_say() -> None:
    own = _of_term_7(0, 90)
    peers = [_of_term_7(1, 85), _of_term_7(2, 80), _of_term_7(3, 75), without_say(CopyState.BLANK)]
    assert implied_vdl(own, peers, AURORA_QUORUM) == vdl(7, 75)


@pytest.mark.parametrize(
    ("own", "peers"),
    [
        pytest.param(
            _of_term_7(0, 90), [_of_term_7(1, 90), _of_term_7(2, 90)], id="three-left-serve-no-more"
        ),
        pytest.param(
            _of_term_7(0, 90, promised=8),
            [_of_term_7(slot, 90, promised=8) for slot in (1, 2, 3)],
            id="promised-higher",
        ),
        pytest.param(
            _of_term_7(0, 60),
            [_of_term_7(slot, 90) for slot in (1, 2, 3, 4)],
            id="own-log-is-older",
        ),
        pytest.param(
            without_say(CopyState.FAILED),
            [_of_term_7(slot, 90) for slot in (1, 2, 3, 4)],
            id="failed",
        ),
    ],
)
def test_rule_7_the_mesh_implies_nothing(own: CopyView, peers: list[CopyView]) -> None:
    """Mutant 20: the tail of three is kept, not shown (H9)."""
    assert implied_vdl(own, peers, AURORA_QUORUM) is None


@pytest.mark.parametrize(
    ("own_scl", "own_known", "peers_know", "expected"),
    [
        pytest.param(200, vdl(7, 100), vdl(7, 180), vdl(7, 180), id="further"),
        pytest.param(200, None, vdl(7, 180), vdl(7, 180), id="first"),
        pytest.param(200, vdl(7, 100), vdl(7, 90), None, id="no-further"),
        pytest.param(200, vdl(1, 40), vdl(1, 55), vdl(1, 55), id="of-the-older-term-that-is-known"),
        pytest.param(60, vdl(1, 40), vdl(7, 90), None, id="of-a-term-the-own-log-lacks"),
    ],
)
def test_rule_7_what_a_peer_knows_is_a_fact_too(
    own_scl: int, own_known: Vdl | None, peers_know: Vdl, expected: Vdl | None
) -> None:
    """All promised on, so that nobody counts: the highest VDL that anybody knows still stands."""
    own = _of_term_7(0, own_scl, promised=8, known=own_known)
    peers = [_of_term_7(1, 200, promised=8), _of_term_7(2, 200, promised=8, known=peers_know)]
    assert implied_vdl(own, peers, AURORA_QUORUM) == expected


def test_rule_7_what_implies_less_does_not_hide_what_a_peer_knows() -> None:
    own = _of_term_7(0, 90)
    peers = [_of_term_7(slot, 75, known=vdl(7, 80)) for slot in (1, 2, 3)]
    assert implied_vdl(own, peers, AURORA_QUORUM) == vdl(7, 80)


def test_rule_8_what_a_stranger_knows_is_not_believed() -> None:
    own = _of_term_7(0, 90)
    stranger = _of_term_7(1, 90, known=vdl(7, 80), identity=STRANGER)
    failed = replace(_of_term_7(2, 90, known=vdl(7, 80)), state=CopyState.FAILED)
    assert implied_vdl(own, [stranger, failed], AURORA_QUORUM) is None


def test_rule_7_what_the_gates_of_peers_serve() -> None:
    peers = [
        _of_term_7(1, 90, known=vdl(7, 80)),
        _of_term_7(2, 75, known=vdl(7, 80)),
        _of_term_7(3, 90),
        without_say(CopyState.BLANK),
    ]
    assert list(served(peers)) == [ServePoint(at(80), Term(7)), ServePoint(at(75), Term(7))]


def test_rule_8_the_mesh_counts_members_of_the_highest_list_only() -> None:
    """Mutants 15 and 19."""
    newer = members(7, 1, (STRANGER, *IDENTITIES[1:]))
    peers = [_of_term_7(slot, 90) for slot in (1, 2)]
    knows = full(
        3, promised=7, scl=90, terms=history((1, 0), (7, 60)), first_record_end=70, listed=newer
    )
    assert implied_vdl(_of_term_7(0, 90), [*peers, knows], AURORA_QUORUM) is None
