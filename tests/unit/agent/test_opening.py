"""An opening, and what must stop it: the rows of the protocol that live in the shells."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aurora_operator.agent.instance import following, opening
from aurora_operator.agent.instance.opening import OpeningFailed, OpeningRefused, open_volume
from aurora_operator.api.messages import InstanceRole
from aurora_operator.core.lsn import Term
from support.copies import at, promise
from support.small_machine import (
    FIRST_RECORD_BYTES,
    SmallInstance,
    leave_a_tail,
    supersede,
    until,
)
from support.small_volume import BORN_BYTES, SmallVolume


async def replica(volume: SmallVolume, directory: Path, number: int = 1) -> SmallInstance:
    """A replica that only opens when a test calls ``open_volume``."""
    one = SmallInstance(volume, directory / f"instance-{number}", number=number)
    await one.machine.take_base(volume.pods[0].slot)
    await one.machine.start_replica()
    return one


async def test_rule_2_two_attempts_never_share_an_id(volume: SmallVolume, tmp_path: Path) -> None:
    """The same pod may come back with other data: its new attempt is another one."""
    volume.dry = set(range(6))
    promised = []
    for _ in range(2):
        one = await replica(volume, tmp_path)
        with pytest.raises(OpeningFailed):
            await open_volume(one.candidate, "a test")
        record = volume.pods[0].store.record
        assert record is not None
        promised.append(record.promise)
        one.machine.crash()
    assert len({given.attempt_id for given in promised}) == 2


async def test_rule_2_a_lone_candidate_stops_no_healthy_writer(
    volume: SmallVolume, tmp_path: Path
) -> None:
    writer = await replica(volume, tmp_path)
    opened = await open_volume(writer.candidate, "a test")
    before = [pod.promised for pod in volume.pods]
    lone = await replica(volume, tmp_path, number=2)
    with pytest.raises(OpeningRefused, match="hears the writer"):
        await open_volume(lone.candidate, "it lost touch")
    assert [pod.promised for pod in volume.pods] == before
    assert lone.marks.read() is None, "nothing of it had changed"
    await opened.following.stop()


async def test_rule_2_the_term_is_above_what_the_last_two_members_promised(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two copies promised to an attempt that died; they answer a little later than four others."""
    monkeypatch.setattr(opening, "_STRAGGLER_SECONDS", 0.9)  # this machine may be busy
    supersede(volume.pods[4:], term=7)
    for pod in volume.pods[4:]:
        pod.delay_seconds = 0.01
    one = await replica(volume, tmp_path)
    opened = await open_volume(one.candidate, "a test")
    assert opened.promise.term == Term(8)
    await until("all follow", lambda: all(pod.promised == Term(8) for pod in volume.pods))
    await opened.following.stop()


async def test_rule_2_a_promise_ends_the_stream_in_the_same_step(
    volume: SmallVolume, tmp_path: Path
) -> None:
    writer = await replica(volume, tmp_path)
    opened = await open_volume(writer.candidate, "a test")
    await opened.following.stop()
    writer.machine.crash()
    streams = list(volume.acceptors)
    assert len(streams) >= 4
    other = await replica(volume, tmp_path, number=2)
    opened = await open_volume(other.candidate, "a test")
    for stream in streams:
        assert stream.stopped.is_set()
        assert stream.promise_when_stopped == Term(2), "closed before the new promise was made"
    await opened.following.stop()


async def test_rule_4_the_mark_stands_before_the_tail_is_taken(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave_a_tail(volume, tmp_path)
    one = await replica(volume, tmp_path)
    seen = []
    set_uncapped = one.machine.set_uncapped

    def look(*given: object) -> None:
        seen.append(one.marks.read())
        set_uncapped(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(one.machine, "set_uncapped", look)
    opened = await open_volume(one.candidate, "a test")
    assert [(mark.promise, mark.opened) for mark in seen if mark] == [(opened.promise, False)]
    await opened.following.stop()


async def test_rule_4_a_promotion_to_another_timeline_is_no_writer(
    volume: SmallVolume, tmp_path: Path
) -> None:
    one = await replica(volume, tmp_path)
    one.machine.timeline_skew = 1
    with pytest.raises(OpeningFailed, match="timeline"):
        await open_volume(one.candidate, "a test")
    assert not one.machine.is_open
    assert not [step for step in one.process.steps if step.startswith("adopt")]
    mark = one.marks.read()
    assert mark is not None
    assert not mark.opened


async def test_rule_4_a_lost_chosen_copy_ends_the_attempt_soon(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_CATCH_UP_SECONDS", 3600.0)
    monkeypatch.setattr(opening, "_CHOSEN_SILENT_SECONDS", 0.03)
    await leave_a_tail(volume, tmp_path)
    one = await replica(volume, tmp_path)

    def lose_it(*_given: object) -> None:
        volume.pods[0].away = True  # the chosen one: the lowest slot that has the tail

    monkeypatch.setattr(one.machine, "set_uncapped", lose_it)
    with pytest.raises(OpeningFailed, match="s0_disk gives no more"):
        await asyncio.wait_for(open_volume(one.candidate, "a test"), 10)


@pytest.mark.parametrize("waits_for", ["the tail", "four copies"])
async def test_rule_12_an_attempt_ends_when_three_members_promised_higher(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits_for: str
) -> None:
    for name in ("_CATCH_UP_SECONDS", "_CHOSEN_SILENT_SECONDS", "_OPEN_SECONDS"):
        monkeypatch.setattr(opening, name, 3600.0)
    await leave_a_tail(volume, tmp_path)
    one = await replica(volume, tmp_path)
    if waits_for == "the tail":
        monkeypatch.setattr(one.machine, "set_uncapped", lambda *_given: None)
    volume.dry = set(range(6))
    attempt = asyncio.create_task(open_volume(one.candidate, "a test"))
    step = "mark" if waits_for == "the tail" else "adopt shop-storage-5"
    await until("it waits", lambda: step in one.process.steps, lambda: one.process.steps)
    supersede(volume.pods[:3], term=9)
    with pytest.raises(OpeningFailed, match="3 members promised"):
        await asyncio.wait_for(attempt, 10)


async def test_rule_6_nobody_comes_in_before_four_hold_the_first_record(
    volume: SmallVolume, tmp_path: Path
) -> None:
    volume.dry = {3, 4, 5}
    one = await replica(volume, tmp_path)
    with pytest.raises(OpeningFailed):
        await open_volume(one.candidate, "a test")
    assert "writer's door open" not in one.process.steps
    assert "mark opened" not in one.process.steps


async def test_rule_6_the_first_record_is_whole(volume: SmallVolume, tmp_path: Path) -> None:
    """Every copy is told where it ends, not where it begins."""
    one = await replica(volume, tmp_path)
    opened = await open_volume(one.candidate, "a test")
    ends = {pod.store.record.first_record_end for pod in volume.pods[:4] if pod.store.record}
    assert ends == {at(BORN_BYTES + FIRST_RECORD_BYTES)}
    await opened.following.stop()


async def test_rule_5_the_history_is_adopted_before_the_stream_begins(
    volume: SmallVolume, tmp_path: Path
) -> None:
    one = await replica(volume, tmp_path)
    opened = await open_volume(one.candidate, "a test")
    assert len(volume.acceptors) >= 4
    assert {a.history_when_started.last.term for a in volume.acceptors} == {Term(2)}
    await opened.following.stop()


async def test_a_copy_stranded_above_the_writer_is_told_of(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_STRANDED_SECONDS", 0.03)
    one = await replica(volume, tmp_path)
    opened = await open_volume(one.candidate, "a test")
    await until("all follow", lambda: all(pod.promised == Term(2) for pod in volume.pods))
    assert opened.following.stranded == ""
    pod = volume.pods[5]
    assert pod.store.promise(promise(9, "another"), pod.asks.stop_stream) is None
    await until(
        "told",
        lambda: "shop-storage-5 promised a later attempt" in opened.following.stranded,
        opened.following.describe,
    )
    assert "only a new term" in opened.following.describe()[5].sentence
    assert not opened.following.superseded.is_set()
    await opened.following.stop()


async def test_rule_12_three_higher_promises_end_a_writer(
    volume: SmallVolume, tmp_path: Path
) -> None:
    one = SmallInstance(volume, tmp_path / "one")
    one.begin()
    await one.become(InstanceRole.REPLICA)
    await one.open()
    supersede(volume.pods[:2], term=9)
    await until("two are heard", lambda: _higher(one) == 2)
    assert one.life.role is InstanceRole.WRITER
    supersede(volume.pods[2:3], term=9)
    await one.become(InstanceRole.REPLICA)
    assert "half wiped" in one.process.steps
    await one.end()


def _higher(one: SmallInstance) -> int:
    assert one.life.opened is not None
    return sum((copy.promised_term or 0) > 2 for copy in one.life.opened.following.describe())
