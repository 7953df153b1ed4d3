"""What a continuous client's log proves, and what it refutes.

The promises, each with its check: every acknowledged row is in the table; the table holds nothing
that was not acknowledged or unknown; no row is there twice; nothing that a reader was shown is
missing afterwards. And the measurements: the longest time without an acknowledged write, and the
first acknowledged write after a moment.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

SHOWN_IDS_MAX = 10


class Outcome(StrEnum):
    """How an attempt to write ended, as far as the client can know."""

    ACKED = "acked"
    FAILED = "failed"
    """It is certainly not committed."""
    UNKNOWN = "unknown"
    """It may be committed."""


@dataclass(frozen=True)
class Attempt:
    """One id that a client tried to write, once."""

    id: int
    outcome: Outcome
    begin_seconds: float
    end_seconds: float
    server: str | None = None
    why: str = ""


@dataclass(frozen=True)
class Read:
    """One look of a reader: which ids it had not seen before, or why it failed."""

    at_seconds: float
    ok: bool
    ids: tuple[int, ...] = ()
    server: str | None = None
    why: str = ""


@dataclass(frozen=True)
class History:
    """Everything that a client's log says."""

    attempts: tuple[Attempt, ...] = ()
    reads: tuple[Read, ...] = ()
    refused_connections: tuple[tuple[float, str], ...] = field(default=())

    def ids(self, outcome: Outcome) -> set[int]:
        """Ids of the attempts that ended so."""
        return {attempt.id for attempt in self.attempts if attempt.outcome is outcome}

    @property
    def acked(self) -> tuple[Attempt, ...]:
        """Acknowledged attempts in the order of their acknowledgement."""
        found = (attempt for attempt in self.attempts if attempt.outcome is Outcome.ACKED)
        return tuple(sorted(found, key=lambda attempt: attempt.end_seconds))


class LogReader:
    """Turns a log into a history piece by piece, while its client is still writing it."""

    def __init__(self) -> None:
        self._sent: set[int] = set()
        self._begun: dict[int, float] = {}
        self._attempts: list[Attempt] = []
        self._reads: list[Read] = []
        self._refused: list[tuple[float, str]] = []

    def feed(self, line: str) -> None:
        """Take in one whole line."""
        entry = json.loads(line)
        at_seconds = float(entry["at"])
        match entry["kind"]:
            case "begin":
                if entry["id"] in self._sent:
                    raise ValueError(f"the client sent id {entry['id']} twice: its log is no proof")
                self._sent.add(entry["id"])
                self._begun[entry["id"]] = at_seconds
            case "end":
                self._attempts.append(_attempt(entry, self._begun.pop(entry["id"]), at_seconds))
            case "read":
                self._reads.append(_read(entry, at_seconds))
            case "connect":
                self._refused.append((at_seconds, str(entry["why"])))

    def history(self) -> History:
        """What was told so far; an attempt without an end is unknown."""
        open_attempts = (
            Attempt(number, Outcome.UNKNOWN, begin, begin, why="the log ends here")
            for number, begin in self._begun.items()
        )
        return History((*self._attempts, *open_attempts), tuple(self._reads), tuple(self._refused))


def parse_history(lines: Iterable[str]) -> History:
    """The history of a whole log."""
    reader = LogReader()
    for line in lines:
        if not line.endswith("\n"):
            break  # the last line of a client that was killed while writing it
        reader.feed(line)
    return reader.history()


def load_history(path: Path) -> History:
    """The history in a file."""
    with path.open() as lines:
        return parse_history(lines)


def _attempt(entry: dict[str, object], begin_seconds: float, end_seconds: float) -> Attempt:
    return Attempt(
        id=int(str(entry["id"])),
        outcome=Outcome(str(entry["outcome"])),
        begin_seconds=begin_seconds,
        end_seconds=end_seconds,
        server=str(entry["server"]) if entry.get("server") else None,
        why=str(entry.get("why", "")),
    )


def _read(entry: dict[str, object], at_seconds: float) -> Read:
    ids = entry.get("ids", [])
    assert isinstance(ids, list)
    return Read(
        at_seconds=at_seconds,
        ok=entry["outcome"] == "ok",
        ids=tuple(int(number) for number in ids),
        server=str(entry["server"]) if entry.get("server") else None,
        why=str(entry.get("why", "")),
    )


def find_violations(
    history: History, table_ids: Sequence[int], reader: History | None = None
) -> list[str]:
    """One sentence for each broken promise; an empty list is what a test wants."""
    table = set(table_ids)
    acked = history.ids(Outcome.ACKED)
    read = {number for look in (reader or History()).reads for number in look.ids}
    checks = (
        ("acknowledged and lost", acked - table),
        ("in the table although it failed", table & history.ids(Outcome.FAILED)),
        ("in the table although never sent", table - {a.id for a in history.attempts}),
        ("in the table twice", {n for n, count in Counter(table_ids).items() if count > 1}),
        ("shown to a reader and lost", read - table),
    )
    return [f"{what}: {_some(ids)}" for what, ids in checks if ids]


def _some(ids: set[int]) -> str:
    shown = ", ".join(str(number) for number in sorted(ids)[:SHOWN_IDS_MAX])
    return f"{len(ids)} ids ({shown}{', …' if len(ids) > SHOWN_IDS_MAX else ''})"


def longest_outage_seconds(history: History, since: float, until: float) -> float:
    """The longest time between two acknowledgements within a window, its ends included."""
    inside = [a.end_seconds for a in history.acked if since <= a.end_seconds <= until]
    moments = [since, *inside, until]
    return max(later - earlier for earlier, later in pairwise(moments))


def first_ack_after(
    history: History, moment: float, *, not_by: str | None = None
) -> Attempt | None:
    """The first write begun after a moment and acknowledged, by another server than `not_by`."""
    for attempt in history.acked:
        if attempt.begin_seconds >= moment and (not_by is None or attempt.server != not_by):
            return attempt
    return None


def last_server(history: History) -> str | None:
    """The address of the server that gave the latest acknowledgement."""
    return history.acked[-1].server if history.acked else None
