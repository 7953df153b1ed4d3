"""Timeline history files."""

from __future__ import annotations

import pytest

from aurora_operator.core.history import TermHistory, TermStart
from aurora_operator.core.lsn import LOG_START, Lsn, Term
from aurora_operator.engines.postgresql.history_file import (
    history_file,
    history_file_name,
    parse_history_file,
)

HISTORY = TermHistory(
    (
        TermStart(Term(1), LOG_START),
        TermStart(Term(2), Lsn.parse("0/1C54858")),
        TermStart(Term(5), Lsn.parse("0/3000060")),
        TermStart(Term(17), Lsn.parse("1/0")),
    )
)


def test_a_file_lists_where_each_earlier_term_ended() -> None:
    assert history_file(HISTORY, Term(5)) == (
        "1\t0/1C54858\topened by term 2\n2\t0/3000060\topened by term 5\n"
    )
    assert history_file_name(Term(17)) == "00000011.history"


@pytest.mark.parametrize("term", [1, 3, 4, 6, 18])
def test_numbers_without_a_history_get_an_empty_stub(term: int) -> None:
    assert history_file(HISTORY, Term(term)) == ""


def test_what_is_written_is_read_back() -> None:
    text = history_file(HISTORY, Term(17))
    assert parse_history_file(text, Term(17)) == HISTORY


def test_postgresqls_own_files_are_read() -> None:
    text = "1\t0/1C54858\tno recovery target specified\n\n# a comment\n2\t0/3000060\tafter\n"
    assert parse_history_file(text, Term(5)) == HISTORY.truncated(Lsn.parse("0/3000061"))


@pytest.mark.parametrize("text", ["1", "x\t0/1\n", "1\t0-1\n", "2\t0/2000000\n1\t0/3000000\n"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_history_file(text, Term(5))
