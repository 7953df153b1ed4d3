"""What a history proves: questions for the foreign checkers, and the simple checks of our own.

Foreign: snapshot isolation of the lists, each endpoint by itself (a replica applies commits in the
order of the log, a writer shows them in the order in which they were acknowledged, so that the two
together may disagree about transactions that never met; every stock PostgreSQL does that), and
linearizability of each key on the writer. Our own are sums of sets: acknowledged and lost, shown
and vanished, acknowledged by a writer that another one had replaced.

A plain read answered by a writer after a later term had answered anybody is a *stale read*
(design §4.12 allows it for about a second). It is counted with its age, and left out where the
model would forbid it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from histories import checkers
from histories.records import Act, Endpoint, Operation, Step, Workload
from support.checker import Attempt, History, Outcome, Read, find_violations

STALE_MS_MAX = 1500.0
"""'About a second' on a machine with two busy cores."""
ACKED_MIN = 20
"""Fewer acknowledged operations of a kind than this prove nothing."""
KINDS = (
    (Workload.LISTS, Endpoint.WRITER),
    (Workload.REGISTERS, Endpoint.WRITER),
    (Workload.LISTS, Endpoint.READER),
)


@dataclass(frozen=True)
class Dump:
    """All that one server shows after the last fault."""

    server: str
    term: int | None
    lists: dict[str, list[int]]
    registers: dict[str, int | None]

    @classmethod
    def of(cls, line: dict[str, Any]) -> Self:
        """What the client printed."""
        return cls(line["server"], line["term"], line["lists"], line["registers"])

    @property
    def values(self) -> list[int]:
        """Everything that is in a list."""
        return [value for items in self.lists.values() for value in items]


@dataclass(frozen=True)
class StaleRead:
    """A plain read that a replaced writer answered."""

    operation: Operation
    age_ms: float


@dataclass(frozen=True)
class Verdict:
    """All that one history showed."""

    violations: tuple[str, ...]
    stale: tuple[StaleRead, ...]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def stale_ms_max(self) -> float:
        return max((read.age_ms for read in self.stale), default=0.0)


def judge(operations: Sequence[Operation], writer: Dump, replicas: Sequence[Dump]) -> Verdict:
    """Every check; an empty list of violations is what a test wants."""
    stale = stale_reads(operations)
    fresh = _without(operations, stale)
    violations = [
        *too_few(operations),
        *find_violations(_history(operations), writer.values, _reads(operations)),
        *replaced_writers(operations),
        *[f"a read was stale for {read.age_ms:.0f} ms" for read in stale if _too_stale(read)],
        *[
            f"{dump.server} shows other lists than the writer"
            for dump in replicas
            if (dump.lists, dump.registers) != (writer.lists, writer.registers)
        ],
    ]
    history = writer_history(operations, writer)
    violations += checkers.isolation("writer", history, "snapshot-isolation")
    history = writer_history(fresh, writer)
    violations += checkers.isolation("writer, fresh reads", history, "strong-snapshot-isolation")
    history = reader_history(operations, replicas)
    violations += checkers.isolation("readers", history, "strong-session-snapshot-isolation")
    violations += checkers.linearizability(linear_history(fresh, writer))
    return Verdict(tuple(violations), tuple(stale), counts(operations))


def counts(operations: Iterable[Operation]) -> dict[str, dict[str, int]]:
    """How many operations of each kind ended how."""
    found = {f"{w}@{e}": dict.fromkeys(("acked", "failed", "unknown"), 0) for w, e in KINDS}
    for operation in operations:
        found[f"{operation.workload}@{operation.endpoint}"][operation.outcome] += 1
    return found


def too_few(operations: Sequence[Operation]) -> list[str]:
    """A history without answers would satisfy every model."""
    return [
        f"only {found['acked']} acknowledged operations of {kind}: this history proves nothing"
        for kind, found in counts(operations).items()
        if found["acked"] < ACKED_MIN
    ]


# --- replaced writers ----------------------------------------------------------------------------


def _replaced_since(operations: Iterable[Operation]) -> dict[int, int]:
    """For each term the moment when a later one had given its first answer."""
    first: dict[int, int] = {}
    for operation in operations:
        if operation.term is not None and operation.acked and operation.return_ns is not None:
            earlier = first.get(operation.term, operation.return_ns)
            first[operation.term] = min(earlier, operation.return_ns)
    since: dict[int, int] = {}
    for term in first:
        later = [moment for other, moment in first.items() if other > term]
        if later:
            since[term] = min(later)
    return since


def _asked_too_late(operations: Sequence[Operation]) -> Iterable[tuple[Operation, float]]:
    since = _replaced_since(operations)
    for operation in operations:
        moment = since.get(operation.term or 0)
        if moment is not None and operation.acked and operation.call_ns > moment:
            yield operation, (operation.call_ns - moment) / 1e6


def stale_reads(operations: Sequence[Operation]) -> list[StaleRead]:
    """Plain reads answered by a writer that was replaced before they were asked."""
    return [StaleRead(o, age) for o, age in _asked_too_late(operations) if o.plain_read]


def replaced_writers(operations: Sequence[Operation]) -> list[str]:
    """Writes and locking reads must never succeed there."""
    return [
        f"operation {o.id} was acknowledged in term {o.term}, {age:.0f} ms after a later one began"
        for o, age in _asked_too_late(operations)
        if not o.plain_read
    ]


def _too_stale(read: StaleRead) -> bool:
    return read.age_ms > STALE_MS_MAX


def _without(operations: Sequence[Operation], stale: Sequence[StaleRead]) -> list[Operation]:
    left_out = {read.operation.id for read in stale}
    return [operation for operation in operations if operation.id not in left_out]


# --- lost and vanished: sets of values ------------------------------------------------------------


def _history(operations: Iterable[Operation]) -> History:
    attempts = [
        Attempt(value, operation.outcome, operation.call_ns / 1e9, operation.call_ns / 1e9)
        for operation in operations
        for value in operation.values(Act.APPEND)
    ]
    return History(tuple(attempts))


def _reads(operations: Iterable[Operation]) -> History:
    """What anybody was shown, through either endpoint."""
    reads = [
        Read(operation.call_ns / 1e9, ok=True, ids=tuple(value))
        for operation in operations
        if operation.acked and operation.workload is Workload.LISTS
        for value in operation.values(Act.READ)
    ]
    return History(reads=tuple(reads))


# --- questions for adya --------------------------------------------------------------------------


def writer_history(operations: Sequence[Operation], end: Dump) -> str:
    """The lists as the writer endpoint showed them, and at last the writer's own."""
    chosen = [o for o in operations if _is(o, Workload.LISTS, Endpoint.WRITER)]
    return _adya([*chosen, _last_look(operations, [end])])


def reader_history(operations: Sequence[Operation], ends: Sequence[Dump]) -> str:
    """The lists as replicas showed them; what writers appended, without what they read."""
    appends = [_only(o, Act.APPEND) for o in operations if _is(o, Workload.LISTS, Endpoint.WRITER)]
    reads = [o for o in operations if _is(o, Workload.LISTS, Endpoint.READER)]
    looks = [_last_look(operations, ends)] if ends else []
    chosen = [o for o in [*appends, *reads, *looks] if o.steps]
    return _adya(sorted(chosen, key=lambda operation: operation.call_ns))


def _is(operation: Operation, workload: Workload, endpoint: Endpoint) -> bool:
    return operation.workload is workload and operation.endpoint is endpoint


def _only(operation: Operation, act: Act) -> Operation:
    steps = tuple(step for step in operation.steps if step.act is act)
    return replace(operation, steps=steps)


def _last_look(operations: Sequence[Operation], ends: Sequence[Dump]) -> Operation:
    """A read of every list after everything, so that no append stays unseen."""
    moment = max(o.return_ns or o.call_ns for o in operations) + 1
    steps = [Step(Act.READ, key, items) for end in ends[:1] for key, items in end.lists.items()]
    return Operation(
        id=max(o.id for o in operations) + 1,
        process=max(o.process for o in operations) + 1,
        workload=Workload.LISTS,
        endpoint=Endpoint.WRITER,
        steps=tuple(steps),
        call_ns=moment,
        return_ns=moment + 1,
        outcome=Outcome.ACKED,
    )


_ADYA_TYPES = {Outcome.ACKED: "ok", Outcome.FAILED: "fail", Outcome.UNKNOWN: "info"}


def _adya(operations: Iterable[Operation]) -> str:
    """JSON lines of invocations and completions in the order of time.

    What happened in the same nanosecond counts as concurrent: calls come first.
    """
    lines: list[tuple[int, int, dict[str, Any]]] = []
    for operation in operations:
        asked = [[s.act, s.key, None if s.act is Act.READ else s.value] for s in operation.steps]
        entry = {"type": "invoke", "process": operation.process, "value": asked}
        lines.append((operation.call_ns, 0, entry))
        if operation.return_ns is not None:
            value = list(operation.steps) if operation.acked else asked
            kind = _ADYA_TYPES[operation.outcome]
            end = {"type": kind, "process": operation.process, "value": value}
            lines.append((operation.return_ns, 1, end))
    lines.sort(key=lambda line: line[:2])
    numbered = ({"index": number, **entry} for number, (_, _, entry) in enumerate(lines))
    return "".join(json.dumps(entry) + "\n" for entry in numbered)


# --- questions for porcupine ---------------------------------------------------------------------


def linear_history(operations: Sequence[Operation], end: Dump) -> list[dict[str, Any]]:
    """What happened to each key on the writer, key by key, and what it holds at last.

    A transaction of several keys gives one operation for each. An unknown change that nobody ever
    saw is left out: it may be placed after everything else, so it decides nothing.
    """
    records = [
        _linear(operation, key)
        for operation in operations
        if operation.endpoint is Endpoint.WRITER and operation.outcome is not Outcome.FAILED
        for key in dict.fromkeys(step.key for step in operation.steps)
    ]
    moment = _last_look(operations, []).call_ns
    last = [(key, ",".join(map(str, items))) for key, items in end.lists.items()]
    last += [(key, _text(value)) for key, value in end.registers.items()]
    records += [
        {"id": 0, "key": key, "client": 0, "call": moment, "return": moment, "read": held}
        for key, held in last
    ]
    seen = {(r["key"], word) for r in records if "read" in r for word in r["read"].split(",")}
    return [r for r in records if r["return"] is not None or _may_matter(r, seen)]


def _may_matter(record: dict[str, Any], seen: set[tuple[str, str]]) -> bool:
    changed = record.get("write", record.get("append", ""))
    return any((record["key"], word) in seen for word in changed.split(",") if word)


def _linear(operation: Operation, key: str) -> dict[str, Any]:
    """One operation on one key: what it held before, and what was done to it."""
    steps = [step for step in operation.steps if step.key == key]
    record: dict[str, Any] = {
        "id": operation.id,
        "key": key,
        "client": operation.process,
        "call": operation.call_ns,
        "return": operation.return_ns if operation.acked else None,
    }
    own: list[int] = []
    for step in steps:
        match step.act:
            case Act.APPEND:
                own.append(step.value)
            case Act.WRITE:
                record["write"] = _text(step.value)
            case Act.READ | Act.LOCK if operation.acked:
                record.setdefault("read", _before(step.value, own))
    if own:
        record["append"] = ",".join(map(str, own))
    return record


def _before(value: Any, own: list[int]) -> str:
    """What a key held before a transaction's own appends."""
    if not isinstance(value, list):
        return _text(value)
    if own and value[-len(own) :] == own:
        value = value[: -len(own)]
    return ",".join(map(str, value))


def _text(value: int | None) -> str:
    return "" if value is None else str(value)
