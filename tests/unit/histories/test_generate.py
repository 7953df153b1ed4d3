"""Operations: never the same value twice, short lists, keys that sessions share."""

from __future__ import annotations

from collections import Counter

from histories.generate import (
    APPENDS_PER_LIST,
    LISTS_ACTIVE,
    REGISTERS,
    STEPS_MAX,
    STEPS_MIN,
    Generator,
)
from histories.records import Act, Endpoint, Step, Workload

COUNT = 2000


def steps_of(workload: Workload, endpoint: Endpoint, seed: int = 1) -> list[tuple[Step, ...]]:
    generator = Generator(seed)
    return [generator.steps(workload, endpoint) for _ in range(COUNT)]


def test_a_seed_always_gives_the_same() -> None:
    first = steps_of(Workload.LISTS, Endpoint.WRITER)
    assert first == steps_of(Workload.LISTS, Endpoint.WRITER)
    assert first != steps_of(Workload.LISTS, Endpoint.WRITER, seed=2)


def test_values_never_come_twice() -> None:
    generator = Generator(3)
    written = [
        step.value
        for number in range(COUNT)
        for step in generator.steps(list(Workload)[number % 2], Endpoint.WRITER)
        if step.act in (Act.APPEND, Act.WRITE)
    ]
    assert len(written) == len(set(written)) > COUNT / 2


def test_lists_are_left_when_they_are_long_and_few_are_active() -> None:
    appended = Counter(
        step.key
        for steps in steps_of(Workload.LISTS, Endpoint.WRITER)
        for step in steps
        if step.act is Act.APPEND
    )
    assert max(appended.values()) == APPENDS_PER_LIST
    assert sum(count < APPENDS_PER_LIST for count in appended.values()) <= LISTS_ACTIVE


def test_transactions_are_of_the_length_that_was_agreed() -> None:
    lengths = {len(steps) for steps in steps_of(Workload.LISTS, Endpoint.WRITER)}
    assert lengths == set(range(STEPS_MIN, STEPS_MAX + 1))


def test_readers_only_read() -> None:
    for steps in steps_of(Workload.LISTS, Endpoint.READER):
        assert {step.act for step in steps} == {Act.READ}


def test_registers_are_read_written_locked_and_replaced() -> None:
    acts = Counter(
        tuple(step.act for step in steps) for steps in steps_of(Workload.REGISTERS, Endpoint.WRITER)
    )
    assert set(acts) == {(Act.READ,), (Act.LOCK,), (Act.WRITE,), (Act.LOCK, Act.WRITE)}
    keys = {step.key for s in steps_of(Workload.REGISTERS, Endpoint.WRITER) for step in s}
    assert keys == set(REGISTERS)
