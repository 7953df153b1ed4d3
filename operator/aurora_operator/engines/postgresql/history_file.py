"""PostgreSQL's timeline history files, which are the term history in another spelling.

A timeline *is* a term here (design, rule 4), so ``00000005.history`` lists the terms before 5 and
where each gave way to the next. Numbers that no writer ever owned have no history; a standby asks
for them all the same, and one refusal makes it ask for ever, so they get an empty stub.
"""

from __future__ import annotations

from itertools import pairwise

from aurora_operator.core.history import TermHistory, TermStart
from aurora_operator.core.lsn import LOG_START, Lsn, Term


def history_file_name(term: Term) -> str:
    """``00000005.history``."""
    return f"{term:08X}.history"


def history_file(history: TermHistory, term: Term) -> str:
    """The file of ``term``; empty for a number that the history does not hold, and for term 1."""
    if term not in {entry.term for entry in history.entries}:
        return ""
    return "".join(
        f"{parent.term}\t{child.begin}\topened by term {child.term}\n"
        for parent, child in pairwise(history.entries)
        if child.term <= term
    )


def parse_history_file(text: str, term: Term) -> TermHistory:
    """The history that ends with ``term``, from the text of its file.

    The first term begins where every volume's log begins. Raises ``ValueError`` for a line that is
    not one of PostgreSQL's.
    """
    begin = LOG_START
    entries: list[TermStart] = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) < 2:
            raise ValueError(f"{line!r} is not a line of a timeline history file")
        entries.append(TermStart(Term(int(words[0])), begin))
        begin = Lsn.parse(words[1])
    return TermHistory((*entries, TermStart(term, begin)))
