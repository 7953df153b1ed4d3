"""Term histories: whose byte is this, and how far do two logs agree."""

from __future__ import annotations

import pytest

from aurora_operator.core.history import TermHistory, common_prefix_end
from aurora_operator.core.lsn import Lsn, Term
from support.copies import at, history


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([], id="empty"),
        pytest.param([(2, 0), (2, 10)], id="a-term-twice"),
        pytest.param([(2, 0), (1, 10)], id="terms-go-back"),
        pytest.param([(1, 10), (2, 9)], id="begins-go-back"),
    ],
)
def test_refuses_what_cannot_be(entries: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"history|continue"):
        history(*entries)


@pytest.mark.parametrize(
    ("end", "term"),
    [
        pytest.param(0, None, id="no-byte"),
        pytest.param(1, 1, id="first-byte"),
        pytest.param(50, 1, id="term-2-has-no-byte-yet"),
        pytest.param(51, 2, id="first-byte-of-2"),
        pytest.param(80, 2, id="3-was-left-empty-by-4"),
        pytest.param(81, 4, id="first-byte-of-4"),
    ],
)
def test_rule_2_the_log_term_is_that_of_the_last_byte(end: int, term: int | None) -> None:
    """Mutant 9: the adopted term of an empty entry must not win a comparison (H5)."""
    log = history((1, 0), (2, 50), (3, 80), (4, 80))
    assert log.last_term_before(at(end)) == term


def test_extended_keeps_a_term_that_wrote_only_a_torn_record() -> None:
    """The engine went over to term 4 at 80 and found its first record incomplete."""
    chosen = history((1, 0), (4, 80)).truncated(at(85))
    assert chosen.extended(Term(5), at(80)) == history((1, 0), (4, 80), (5, 80))


def test_extended_drops_what_began_later() -> None:
    assert history((1, 0), (2, 50)).extended(Term(5), at(40)) == history((1, 0), (5, 40))


def test_extended_refuses_a_lower_term() -> None:
    with pytest.raises(ValueError, match="continue"):
        history((1, 0), (4, 50)).extended(Term(3), at(90))


def test_truncated_drops_terms_without_a_byte() -> None:
    assert history((1, 0), (2, 50), (3, 70)).truncated(at(70)) == history((1, 0), (2, 50))
    assert history((1, 0), (2, 0)).truncated(at(0)) == history((1, 0))


COMMON = [
    pytest.param(history((1, 0)), 70, history((1, 0), (2, 50)), 50, id="longer-goes-back"),
    pytest.param(history((1, 0)), 40, history((1, 0), (2, 50)), 40, id="shorter-stays"),
    pytest.param(
        history((1, 0), (5, 30), (6, 50)),
        70,
        history((1, 0), (5, 30), (7, 100)),
        50,
        id="H6-shorter-than-the-fork-but-of-a-dead-term",
    ),
    pytest.param(history((1, 0), (3, 50)), 90, history((1, 0), (4, 60)), 50, id="dead-3-under-1"),
    pytest.param(history((1, 0), (2, 50)), 90, history((1, 0), (2, 50)), 90, id="the-same"),
    pytest.param(
        history((1, 0), (3, 50)), 50, history((1, 0), (4, 60)), 50, id="empty-term-does-not-count"
    ),
    pytest.param(
        history((1, 0), (3, 50), (4, 50)),
        80,
        history((1, 0), (4, 50), (5, 70)),
        70,
        id="terms-without-a-byte-are-skipped",
    ),
    pytest.param(
        history((1, 0), (2, 50)), 80, history((1, 0), (2, 60)), 50, id="same-term-other-begin"
    ),
]


@pytest.mark.parametrize(("own", "scl", "other", "expected"), COMMON)
def test_rule_5_common_prefix(
    own: TermHistory, scl: int, other: TermHistory, expected: int
) -> None:
    assert common_prefix_end(own, at(scl), other) == at(expected)


def test_logs_that_begin_elsewhere_have_nothing_in_common() -> None:
    assert common_prefix_end(history((1, 10)), at(50), history((1, 0))) <= at(10)


def test_positions_read_as_psql_shows_them() -> None:
    assert str(Lsn.parse("0/16B3748")) == "0/16B3748"
    assert Lsn.parse("1/0") == Lsn(1 << 32)
    with pytest.raises(ValueError, match="0/16B3748"):
        Lsn.parse("16B3748")
