"""Histories answer as a log would that names the term of every byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aurora_operator.core.copy import Vdl
from aurora_operator.core.gate import ServePoint, serve_point
from aurora_operator.core.history import TermHistory, common_prefix_end
from aurora_operator.core.lsn import Term
from support.copies import at
from support.logs import dumb, dumb_prefix, histories


@given(histories(), st.integers(0, 15))
def test_rule_2_the_log_term_is_that_of_the_last_byte(terms: TermHistory, length: int) -> None:
    log = dumb(terms, length)
    assert terms.last_term_before(at(length)) == (log[-1] if log else None)


@given(histories(), st.integers(0, 15))
def test_truncating_keeps_the_bytes_and_nothing_else(terms: TermHistory, length: int) -> None:
    cut = terms.truncated(at(length))
    assert dumb(cut, length) == dumb(terms, length)
    assert cut.last.term == (terms.last_term_before(at(length)) or terms.first.term)


@given(histories(), st.integers(0, 15), st.integers(0, 15))
def test_extending_keeps_the_bytes_below(terms: TermHistory, begin: int, more: int) -> None:
    extended = terms.extended(Term(9), at(begin))
    assert dumb(extended, begin + more) == dumb(terms, begin) + (9,) * more


@given(histories(), st.integers(0, 15), histories())
def test_rule_5_the_common_prefix_is_the_bytes_in_common(
    own: TermHistory, length: int, other: TermHistory
) -> None:
    """Mutants 9 and 10 (H5, H6)."""
    expected = dumb_prefix(dumb(own, length), dumb(other, 16))
    assert common_prefix_end(own, at(length), other) == at(expected)


@given(histories(), st.integers(0, 15), st.integers(1, 9), st.integers(0, 15))
def test_rule_7_what_is_served_is_below_the_vdl_and_of_the_announced_term(
    terms: TermHistory, length: int, vdl_term: int, vdl_at: int
) -> None:
    """I2, T4: up to the last byte below the VDL that the VDL's term wrote."""
    log = dumb(terms, length)
    point = serve_point(terms, at(length), Vdl(Term(vdl_term), at(vdl_at)))
    of_the_term = [n for n, term in enumerate(log[:vdl_at]) if term == vdl_term]
    if of_the_term:
        assert point == ServePoint(at(of_the_term[-1] + 1), Term(vdl_term))
    else:
        assert point is None
