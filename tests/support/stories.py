"""Histories without a database: told by hand, with a calm beginning, or simulated at random."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from histories.generate import REGISTERS, Generator
from histories.judge import Dump
from histories.records import Act, Endpoint, Operation, Step, Workload
from support.checker import Outcome

CALM_OPERATIONS = 25
MS = 1_000_000
LOST_ANSWERS = 0.01
_SESSIONS = (
    *[(Workload.LISTS, Endpoint.WRITER)] * 4,
    *[(Workload.REGISTERS, Endpoint.WRITER)] * 4,
    *[(Workload.LISTS, Endpoint.READER)] * 2,
)


def r(key: str, value: Any = None) -> Step:
    return Step(Act.READ, key, value)


def append(key: str, value: int) -> Step:
    return Step(Act.APPEND, key, value)


def lock(key: str, value: int | None = None) -> Step:
    return Step(Act.LOCK, key, value)


def w(key: str, value: int) -> Step:
    return Step(Act.WRITE, key, value)


class Story:
    """Operations in the order in which they are told, one after the other unless times are given.

    It begins with enough of every kind to be a proof: a list `calm` and a register `r0` that
    everybody uses in order.
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.now_ms = 0.0
        self._values = itertools.count(1001)
        items: list[int] = []
        for _ in range(CALM_OPERATIONS):
            value = next(self._values)
            items.append(value)
            self.tell(append("calm", value), r("calm", list(items)))
            self.tell(w("r0", value))
            self.tell(r("calm", list(items)), reader=True)
        self.lists: dict[str, list[int]] = {"calm": items}
        """What the writer shows in the end."""
        self.registers: dict[str, int | None] = {"r0": items[-1]}

    def tell(
        self,
        *steps: Step,
        outcome: Outcome = Outcome.ACKED,
        reader: bool = False,
        process: int | None = None,
        term: int = 2,
        call_ms: float | None = None,
        return_ms: float | None = None,
    ) -> Operation:
        """One operation; unknown ones have no return unless one is given."""
        call = self.now_ms + 1 if call_ms is None else call_ms
        end = call + 1 if return_ms is None else return_ms
        number = len(self.operations) + 1
        register = steps[0].key.startswith("r")
        told = Operation(
            id=number,
            process=number if process is None else process,
            workload=Workload.REGISTERS if register else Workload.LISTS,
            endpoint=Endpoint.READER if reader else Endpoint.WRITER,
            steps=steps,
            call_ns=round(call * MS),
            return_ns=None if outcome is Outcome.UNKNOWN else round(end * MS),
            outcome=outcome,
            server="replica" if reader else f"writer-{term}",
            term=None if reader else term,
        )
        self.operations.append(told)
        self.now_ms = max(self.now_ms, end)
        return told

    def dump(self, **lists: Sequence[int]) -> Dump:
        """The end: the calm list, and these."""
        told = {key: list(items) for key, items in lists.items()}
        return Dump("writer", 2, self.lists | told, self.registers)


def simulate(seed: int, count: int) -> tuple[list[Operation], Dump]:
    """What ten sessions of an honest database were told: each operation happens at one moment
    between its call and its return; some answers are lost, with or without their effect."""
    chance, generator = random.Random(seed), Generator(seed)
    lists: dict[str, list[int]] = {}
    registers: dict[str, int | None] = dict.fromkeys(REGISTERS)
    free_ns = dict.fromkeys(range(len(_SESSIONS)), 0)
    asked: list[tuple[int, Operation]] = []
    for number in range(1, count + 1):
        session = min(free_ns, key=lambda session: free_ns[session])
        call = free_ns[session] + chance.randint(1, 1000)
        end = call + chance.randint(100, 5000)
        free_ns[session] = end
        workload, endpoint = _SESSIONS[session]
        told = Operation(
            id=number,
            process=session,
            workload=workload,
            endpoint=endpoint,
            steps=generator.steps(workload, endpoint),
            call_ns=call,
            return_ns=end,
            outcome=Outcome.ACKED,
            term=2 if endpoint is Endpoint.WRITER else None,
        )
        asked.append((chance.randint(call + 1, end - 1), told))
    operations = []
    for _, told in sorted(asked, key=lambda pair: pair[0]):
        lost = told.endpoint is Endpoint.WRITER and chance.random() < LOST_ANSWERS
        if not lost or chance.random() < 0.5:
            answered = tuple(_happen(step, lists, registers) for step in told.steps)
            told = replace(told, steps=told.steps if lost else answered)
        if lost:
            process = told.id + len(_SESSIONS)
            told = replace(told, return_ns=None, outcome=Outcome.UNKNOWN, process=process)
        operations.append(told)
    operations.sort(key=lambda operation: operation.call_ns)
    return operations, Dump("writer", 2, lists, registers)


def _happen(step: Step, lists: dict[str, list[int]], registers: dict[str, int | None]) -> Step:
    if step.act is Act.APPEND:
        lists.setdefault(step.key, []).append(step.value)
        return step
    if step.act is Act.WRITE:
        registers[step.key] = step.value
        return step
    register = step.key in registers
    return step._replace(value=registers[step.key] if register else list(lists.get(step.key, [])))
