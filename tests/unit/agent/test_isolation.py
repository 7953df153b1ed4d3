"""Rule 12 in the writer's agent: stamp and door, as members answer or fall silent."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from aurora_operator.agent.instance import isolation
from aurora_operator.agent.instance.following import Following
from aurora_operator.agent.storage import hub_end
from aurora_operator.agent.storage.hub_end import HubEnd
from aurora_operator.api.messages import HubBeat, HubPosition, InstanceRole
from aurora_operator.core import isolation as core_isolation
from aurora_operator.core.isolation import MILLISECOND_NS, NEVER_NS
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import AttemptId
from support.small_machine import SmallInstance, until
from support.small_volume import SmallSocket, SmallVolume


async def writer(volume: SmallVolume, directory: Path) -> tuple[SmallInstance, Following]:
    one = SmallInstance(volume, directory / "one")
    one.begin()
    await one.become(InstanceRole.REPLICA)
    await one.open()
    assert one.life.opened is not None
    await until("six answer", lambda: oldest_answer(one) > NEVER_NS)
    return one, one.life.opened.following


def oldest_answer(one: SmallInstance) -> int:
    assert one.life.opened is not None
    return min(member.asked_ns for member in one.life.opened.following.heard())


def noted(monkeypatch: pytest.MonkeyPatch, one: SmallInstance, name: str, calls: list[str]) -> None:
    """Have each call of a method of the machine noted, and done."""
    method = getattr(one.machine, name)

    def note_and_do(*arguments: object) -> None:
        calls.append(name)
        method(*arguments)

    monkeypatch.setattr(one.machine, name, note_and_do)


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


async def test_rule_12_an_answer_says_on_which_beat_of_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two writers may be connected for a moment; the one's clock is not the other's."""
    monkeypatch.setattr(hub_end, "ANSWER_SECONDS", 0.0)
    hub = HubEnd(lambda: HubPosition(promised_term=Term(2)), lambda _beat: True)
    pairs = [SmallSocket.pair(lambda: False) for _ in range(2)]
    serving = [asyncio.create_task(hub.serve(cast("web.WebSocketResponse", s))) for _, s in pairs]

    async def next_answer(number: int) -> int | None:
        async with asyncio.timeout(5):
            message = await pairs[number][0].receive()
        return HubPosition.model_validate_json(message.data).answers_ns

    assert [await next_answer(0), await next_answer(1)] == [None, None]
    for number, sent_ns in ((0, 11), (1, 500), (0, 12)):
        beat = HubBeat(term=Term(2), attempt_id=AttemptId("a"), sent_ns=sent_ns)
        await pairs[number][0].send_str(beat.model_dump_json())
        assert await next_answer(number) == sent_ns
    hub.notify()
    assert [await next_answer(0), await next_answer(1)] == [12, 500]
    for task in serving:
        task.cancel()
    await asyncio.wait(serving)


async def test_rule_12_a_writers_first_client_is_watched(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stamp is there before the door opens."""
    order: list[str] = []
    one = SmallInstance(volume, tmp_path / "one")
    noted(monkeypatch, one, "renew_stamp", order)
    noted(monkeypatch, one, "open_door", order)
    one.begin()
    await one.become(InstanceRole.REPLICA)
    await until("the replica is open", lambda: order == ["open_door"], lambda: order)
    await one.open()
    assert order[1:3] == ["renew_stamp", "open_door"], order
    await one.end()


async def test_rule_12_the_stamp_is_the_third_youngest_answer(
    volume: SmallVolume, tmp_path: Path
) -> None:
    one, following = await writer(volume, tmp_path)
    for pod in volume.pods[:3]:
        pod.cut_off()
    cut_at_ns = now_ns()
    await until("three renew it", lambda: one.machine.stamps_ns[-1] > cut_at_ns)
    volume.pods[3].cut_off()
    cut_at_ns = now_ns()
    await until("shut", lambda: not one.machine.is_open)
    assert one.machine.stamps_ns[-1] <= cut_at_ns
    assert sorted(member.asked_ns for member in following.heard())[-2] > cut_at_ns
    assert one.machine.stamps_ns == sorted(one.machine.stamps_ns), "it never goes back"
    assert min(one.machine.stamps_ns) > 0, "0 would hold nobody"
    await one.end()


async def test_rule_12_an_answer_that_lay_unread_is_as_old_as_its_question(
    volume: SmallVolume, tmp_path: Path
) -> None:
    """What a thawed agent finds in its sockets was true before it froze."""
    one, following = await writer(volume, tmp_path)
    for pod in volume.pods:
        pod.cut_off()
    await until("shut", lambda: not one.machine.is_open)
    asked_ns = max(member.asked_ns for member in following.heard()) + 50_000_000
    late = HubPosition(promised_term=following.promise.term, answers_ns=asked_ns)
    unanswered = late.model_copy(update={"answers_ns": None})
    for attendant in following._attendants:
        await attendant._take(late)
        await attendant._take(unanswered)
    assert one.machine.stamps_ns[-1] <= asked_ns
    assert max(member.asked_ns for member in following.heard()) == asked_ns
    await one.end()


async def test_rule_12_another_terms_answer_renews_nothing(
    volume: SmallVolume, tmp_path: Path
) -> None:
    one, following = await writer(volume, tmp_path)
    for pod in volume.pods:
        pod.cut_off()
    before = following.heard()
    term = following.promise.term
    for promised in (None, Term(term - 1), Term(term + 1)):
        answer = HubPosition(promised_term=promised, answers_ns=now_ns())
        await following._attendants[0]._take(answer)
    assert following.heard()[0].asked_ns == before[0].asked_ns
    await one.end()


async def test_rule_12_the_third_higher_promise_ends_sessions_at_once(
    volume: SmallVolume, tmp_path: Path
) -> None:
    """Not a task later: nothing else is done first."""
    one, following = await writer(volume, tmp_path)
    for attendant in following._attendants[:2]:
        attendant._note_promise(Term(9))
    assert one.machine.is_open
    following._attendants[2]._note_promise(Term(9))
    assert not one.machine.is_open
    assert following.superseded.is_set()
    await one.become(InstanceRole.REPLICA)
    await one.end()


async def test_rule_12_after_a_pause_silence_counts_only_when_awake_for_a_while(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The members' answers may lie unread behind it."""
    monkeypatch.setattr(core_isolation, "AWAKE_NS", 300 * MILLISECOND_NS)
    one, following = await writer(volume, tmp_path)
    clock_ns = [now_ns()]
    monkeypatch.setattr(isolation, "_now_ns", lambda: clock_ns[0])
    assert following.on_heard is not None
    is_open = []
    for passed_ms in (3_600_000, 200, 99, 1):
        clock_ns[0] += passed_ms * MILLISECOND_NS
        following.on_heard()
        is_open.append(one.machine.is_open)
    assert is_open == [True, True, True, False]
    await one.end()


async def test_nothing_opens_the_door_once_the_watch_is_cancelled(
    volume: SmallVolume, tmp_path: Path
) -> None:
    """An answer that comes in between may renew the stamp, and no more."""
    one, following = await writer(volume, tmp_path)
    one.machine.is_open = False
    assert following.on_heard is not None
    following.on_heard()
    assert not one.machine.is_open
    await until("the watch itself opens it", lambda: one.machine.is_open)
    await one.end()
