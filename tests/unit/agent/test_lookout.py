"""Lookouts and the copies' ends of the watch, joined in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, cast

import pytest

from aurora_operator.agent.client import AgentAddress, AgentUnreachable
from aurora_operator.agent.instance import lookout as module
from aurora_operator.agent.instance.lookout import Lookout
from aurora_operator.agent.storage import watch_end
from aurora_operator.agent.storage.watch_end import WatchEnd
from aurora_operator.api.messages import InstanceRole
from aurora_operator.core import detection
from aurora_operator.core.detection import Standing
from aurora_operator.core.names import InstanceName, Slot
from aurora_operator.core.verdicts import Proceed, Refuse
from support.small_volume import SmallSocket

if TYPE_CHECKING:
    from aiohttp import web

    from aurora_operator.agent.tier import StorageTier


class Copies:
    """Six ends of the watch; the test says which of them miss the writer, and who is reached."""

    def __init__(self) -> None:
        self.missing: set[int] = set()
        self.away: set[int] = set()
        self.agents = {Slot(n): AgentAddress(f"copy-{n}", f"copy-{n}") for n in range(6)}
        self.client = self
        self.ends = [WatchEnd(lambda n=n: self._judge(n)) for n in range(6)]
        self.serving: set[asyncio.Task[None]] = set()
        self.sockets: list[tuple[int, SmallSocket]] = []

    def _judge(self, number: int) -> Proceed | Refuse:
        missing = number in self.missing
        return Proceed(f"{number} misses it") if missing else Refuse(f"{number} hears it")

    def miss(self, *numbers: int) -> None:
        self.missing = set(numbers)
        for end in self.ends:
            end.notify()

    async def connect_watch(self, agent: AgentAddress) -> SmallSocket:
        number = int(agent.pod[-1])
        if number in self.away:
            raise AgentUnreachable(agent.pod, "it is away")
        near, far = SmallSocket.pair(lambda: False)
        self.sockets.append((number, far))
        task = asyncio.create_task(self.ends[number].serve(cast("web.WebSocketResponse", far)))
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)
        return near

    def cut(self, *numbers: int) -> None:
        """Nobody reaches these any more, and what they say is lost."""
        self.away |= set(numbers)
        for number, socket in self.sockets:
            if number in numbers:
                socket.cut()


class Stub:
    """An instance that only takes wishes."""

    def __init__(self, number: int, *, healthy: bool = True) -> None:
        self.name = InstanceName(f"shop-instance-{number}")
        self.role = InstanceRole.REPLICA
        self.refusals = 0
        self.healthy = healthy
        self.wishes: list[str] = []

    def standing(self) -> Standing | None:
        able = self.role is InstanceRole.REPLICA
        return Standing(self.name, self.healthy, None) if able else None

    def wish_open(self, reason: str) -> tuple[bool, str]:
        self.wishes.append(reason)
        return True, "it will try"

    def wish_restart(self) -> tuple[bool, str]:
        self.wishes.append("restart")
        return True, "it restarts"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (module, watch_end):
        monkeypatch.setattr(where, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.005)
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.005)
    monkeypatch.setattr(detection, "RANK_SECONDS", 0.15)
    monkeypatch.setattr(detection, "ALONE_SECONDS", 0.05)


@pytest.fixture
async def copies() -> AsyncIterator[Copies]:
    made = Copies()
    yield made
    for task in list(made.serving):
        task.cancel()
    await asyncio.gather(*made.serving, return_exceptions=True)


@pytest.fixture
async def look(copies: Copies) -> AsyncIterator[Callable[..., Lookout]]:
    tasks: list[asyncio.Task[None]] = []

    def begin(instance: Stub) -> Lookout:
        lookout = Lookout(cast("StorageTier", copies), instance.name, instance)
        tasks.append(asyncio.create_task(lookout.run()))
        return lookout

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(what: str, condition: Callable[[], object]) -> None:
    try:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - another task brings it about
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


async def all_know(lookout: Lookout, *instances: Stub) -> None:
    names = {instance.name for instance in instances}
    await until("they know each other", lambda: {s.name for s in lookout.standings()} == names)


async def test_the_best_replica_wishes_to_open_when_three_copies_miss_the_writer(
    copies: Copies, look: Callable[..., Lookout]
) -> None:
    first, second = Stub(1), Stub(2)
    lookout, other = look(first), look(second)
    await all_know(lookout, first, second)
    await all_know(other, first, second)
    copies.miss(0, 1)
    await asyncio.sleep(0.05)
    assert not first.wishes, "two copies are a minority"
    copies.miss(0, 1, 5)
    await until("the first wishes", lambda: first.wishes)
    assert first.wishes == ["failover: 0 misses it; 1 misses it; 5 misses it"]
    assert not second.wishes


async def test_the_next_has_its_turn_when_the_best_does_not_come(
    copies: Copies, look: Callable[..., Lookout]
) -> None:
    first, second = Stub(1), Stub(2)
    lookout, other = look(first), look(second)
    await all_know(lookout, first, second)
    await all_know(other, first, second)
    copies.miss(0, 1, 2)
    await until("the second wishes", lambda: second.wishes)
    assert first.wishes


async def test_the_turn_is_over_when_a_copy_promised_somebody(
    copies: Copies, look: Callable[..., Lookout]
) -> None:
    first, second = Stub(1), Stub(2)
    lookout, other = look(first), look(second)
    await all_know(lookout, first, second)
    await all_know(other, first, second)
    copies.miss(0, 1, 2)
    await until("the first wishes", lambda: first.wishes)
    copies.miss(0, 1)
    await asyncio.sleep(0.3)
    assert not second.wishes


async def test_what_copies_said_before_a_cut_counts_for_nothing_after_it(
    copies: Copies, look: Callable[..., Lookout], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All six missed the writer; two can still be heard: it is this one that is cut off."""
    monkeypatch.setattr(module, "STALE_SECONDS", 0.1)
    monkeypatch.setattr(module, "_SEND_SECONDS", 3600.0)  # nothing is hung up on meanwhile
    one = Stub(1)
    lookout = look(one)
    await all_know(lookout, one)
    one.role = InstanceRole.STARTING
    copies.miss(0, 1, 2, 3, 4, 5)
    await until("it sees all six", lambda: sum(s.misses_writer for s in lookout._sights()) == 6)
    copies.cut(0, 1, 2, 3)
    await until("four are silent", lambda: len(lookout._sights()) == 2)
    one.role = InstanceRole.REPLICA
    await all_know(lookout, one)
    await asyncio.sleep(0.2)  # four times what three copies would have needed
    assert not one.wishes


async def test_rule_11_an_ended_writer_restarts_when_nobody_else_could_open(
    copies: Copies, look: Callable[..., Lookout]
) -> None:
    ended, other = Stub(1), Stub(2)
    lookout = look(ended)
    look(other)
    await all_know(lookout, ended, other)
    ended.role = InstanceRole.STOPPED
    await asyncio.sleep(0.2)
    assert not ended.wishes
    other.role = InstanceRole.STARTING
    await until("it wishes a restart", lambda: ended.wishes)
    assert set(ended.wishes) == {"restart"}


async def test_a_refused_attempt_holds_back(
    copies: Copies, look: Callable[..., Lookout], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WISH_SECONDS", 0.0)
    monkeypatch.setattr(module, "backoff", lambda refusals, _chance: 3600.0 if refusals else 0.0)
    one = Stub(1)
    await all_know(look(one), one)
    one.refusals = 1
    copies.miss(0, 1, 2, 3)
    await asyncio.sleep(0.1)
    assert not one.wishes
    one.refusals = 0
    await until("it tries again", lambda: one.wishes)
