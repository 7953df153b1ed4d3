"""The log of the clients: operations as they were called, and how each one ended.

A file of JSON lines, written by one process, so that the order of its lines is the order of time:
a `call` before anything is sent, a `return` when the client knows how it ended. Times are
nanoseconds of the monotonic clock. An operation without a return is unknown for ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from support.checker import Outcome


class Workload(StrEnum):
    """What kind of data an operation works on."""

    LISTS = "lists"
    """Transactions that read lists and append to them, each at REPEATABLE READ."""
    REGISTERS = "registers"
    """One key, one value: written, read, read with a lock, or read and replaced."""


class Endpoint(StrEnum):
    """Through which Service the client came."""

    WRITER = "writer"
    READER = "reader"


class Act(StrEnum):
    """What one step of an operation does to one key."""

    READ = "r"
    APPEND = "append"
    WRITE = "w"
    LOCK = "lock"
    """A read that takes the row's lock (SELECT FOR UPDATE)."""


class Step(NamedTuple):
    """One act on one key. A read's value is None until it is known."""

    act: Act
    key: str
    value: Any = None


@dataclass(frozen=True)
class Operation:
    """One attempt of one session, and all that its client knows about it."""

    id: int
    process: int
    """The connection: a new one for each, so that a process lives in one session."""
    workload: Workload
    endpoint: Endpoint
    steps: tuple[Step, ...]
    """As they were answered when it was acknowledged, else as they were asked."""
    call_ns: int
    return_ns: int | None = None
    outcome: Outcome = Outcome.UNKNOWN
    server: str | None = None
    term: int | None = None
    """The term of the writer that answered; None from a replica."""
    why: str = ""

    @property
    def acked(self) -> bool:
        return self.outcome is Outcome.ACKED

    @property
    def plain_read(self) -> bool:
        """Whether it neither changes nor locks anything."""
        return all(step.act is Act.READ for step in self.steps)

    def values(self, act: Act) -> list[Any]:
        """The values of the steps that do this."""
        return [step.value for step in self.steps if step.act is act]


def parse(lines: Iterable[str]) -> list[Operation]:
    """The operations of a log, in the order of their calls."""
    calls: dict[int, dict[str, Any]] = {}
    returns: dict[int, dict[str, Any]] = {}
    for line in lines:
        if not line.endswith("\n"):
            break  # the last line of a client that was killed while writing it
        entry = json.loads(line)
        match entry["kind"]:
            case "call":
                if entry["op"] in calls:
                    raise ValueError(f"operation {entry['op']} twice: the log is no proof")
                calls[entry["op"]] = entry
            case "return":
                returns[entry["op"]] = entry
    return [_operation(call, returns.get(number)) for number, call in calls.items()]


def load(path: Path) -> list[Operation]:
    """The operations in a file."""
    with path.open() as lines:
        return parse(lines)


def _operation(call: dict[str, Any], end: dict[str, Any] | None) -> Operation:
    known = end or {}
    steps = known.get("steps") or call["steps"]
    return Operation(
        id=call["op"],
        process=call["process"],
        workload=Workload(call["workload"]),
        endpoint=Endpoint(call["endpoint"]),
        steps=tuple(Step(Act(act), key, value) for act, key, value in steps),
        call_ns=call["at_ns"],
        return_ns=known.get("at_ns"),
        outcome=Outcome(known.get("outcome", Outcome.UNKNOWN)),
        server=call.get("server"),
        term=call.get("term"),
        why=known.get("why", ""),
    )
