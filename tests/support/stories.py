"""Histories written by hand: a calm beginning, then whatever a test makes of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from histories.judge import Dump
from histories.records import Act, Endpoint, Operation, Step, Workload
from support.checker import Outcome

CALM_OPERATIONS = 25
MS = 1_000_000


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
