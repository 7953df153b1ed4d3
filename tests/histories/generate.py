"""What the clients do next: drawn from a seed, with values that never come twice.

Few keys are worked on at a time, so that transactions meet; a list that has been appended to often
enough is left for a new one, so that rows stay short.
"""

from __future__ import annotations

import itertools
import random

from histories.records import Act, Endpoint, Step, Workload

LISTS_ACTIVE = 4
APPENDS_PER_LIST = 48
REGISTERS = tuple(f"r{number}" for number in range(6))
STEPS_MIN, STEPS_MAX = 3, 4
READ_ONLY_SHARE = 0.25


class Generator:
    """One for all sessions of a client process."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._values = itertools.count(1)
        self._list_numbers = itertools.count()
        self._lists = [self._new_list() for _ in range(LISTS_ACTIVE)]
        self._appends = dict.fromkeys(self._lists, 0)

    def steps(self, workload: Workload, endpoint: Endpoint) -> tuple[Step, ...]:
        """The next operation's steps."""
        if endpoint is Endpoint.READER:
            return self._reads()
        if workload is Workload.REGISTERS:
            return self._register()
        if self._chance.random() < READ_ONLY_SHARE:
            return self._reads()
        return tuple(self._list_step() for _ in range(self._length()))

    def _reads(self) -> tuple[Step, ...]:
        keys = self._chance.sample(self._lists, min(self._length(), len(self._lists)))
        return tuple(Step(Act.READ, key) for key in keys)

    def _list_step(self) -> Step:
        key = self._chance.choice(self._lists)
        if self._chance.random() < 0.5:
            return Step(Act.READ, key)
        self._appends[key] += 1
        if self._appends[key] == APPENDS_PER_LIST:
            self._lists[self._lists.index(key)] = fresh = self._new_list()
            self._appends[fresh] = 0
        return Step(Act.APPEND, key, next(self._values))

    def _register(self) -> tuple[Step, ...]:
        key = self._chance.choice(REGISTERS)
        match self._chance.choice(("read", "read", "lock", "write", "swap")):
            case "read":
                return (Step(Act.READ, key),)
            case "lock":
                return (Step(Act.LOCK, key),)
            case "write":
                return (Step(Act.WRITE, key, next(self._values)),)
        return (Step(Act.LOCK, key), Step(Act.WRITE, key, next(self._values)))

    def _length(self) -> int:
        return self._chance.randint(STEPS_MIN, STEPS_MAX)

    def _new_list(self) -> str:
        return f"l{next(self._list_numbers)}"
