"""Quorums meet, and the durable position is what a count would find."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from aurora_operator.core.copy import Position
from aurora_operator.core.lsn import Term
from aurora_operator.core.quorum import AURORA_QUORUM, QuorumPolicy
from aurora_operator.core.vdl import durable_point
from support.copies import IDENTITIES, STRANGER, at, members


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7))
def test_every_accepted_policy_meets(copies: int, write: int, read: int) -> None:
    """Rule 1 and 2 (I1, I3): W + R > V and 2W > V are exactly "any two sets share a copy"."""
    slots = range(copies)
    meets = (
        write <= copies
        and read <= copies
        and all(
            set(w) & set(r) for w in combinations(slots, write) for r in combinations(slots, read)
        )
        and all(
            set(w) & set(o) for w in combinations(slots, write) for o in combinations(slots, write)
        )
    )
    try:
        QuorumPolicy(copies, write, read)
    except ValueError:
        assert not meets
    else:
        assert meets


def test_any_three_copies_hold_every_commit_and_any_two_promise_sets_share_two() -> None:
    sixes = range(AURORA_QUORUM.copies)
    for four in combinations(sixes, AURORA_QUORUM.write_quorum):
        for three in combinations(sixes, AURORA_QUORUM.read_quorum):
            assert set(four) & set(three)
        for other in combinations(sixes, AURORA_QUORUM.write_quorum):
            assert len(set(four) & set(other)) >= 2


positions = st.builds(
    Position,
    st.sampled_from((*IDENTITIES, STRANGER)),
    st.sampled_from((None, Term(6), Term(7), Term(8))),
    st.sampled_from((None, Term(6), Term(7))),
    st.sampled_from((None, *(at(n) for n in range(20)))),
)


@given(st.lists(positions, max_size=8, unique_by=lambda p: p.identity), st.integers(0, 20))
def test_rule_6_the_vdl_is_what_four_counting_copies_hold(
    seen: list[Position], first_record_end: int
) -> None:
    """Against a twin that tries every position from the top."""
    end = at(first_record_end)
    expected = None
    for offset in range(20, -1, -1):
        holders = [
            p
            for p in seen
            if p.identity in IDENTITIES
            and p.promised_term == 7
            and p.log_term == 7
            and p.scl is not None
            and p.scl >= end
            and p.scl >= at(offset)
        ]
        if len(holders) >= 4:
            expected = at(offset)
            break
    assert durable_point(Term(7), end, seen, members(), AURORA_QUORUM) == expected
