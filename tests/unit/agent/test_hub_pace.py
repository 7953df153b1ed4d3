"""How much the hub talks: little while nobody waits for the VDL, at once when somebody does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from aurora_operator.agent.instance.following import Following
from aurora_operator.agent.storage import hub_end
from aurora_operator.agent.storage.hub_end import HubEnd
from aurora_operator.api.messages import HubBeat, HubPosition, InstanceRole
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.names import AttemptId
from support.small_machine import SmallInstance
from support.small_volume import SmallSocket, SmallVolume


class Line:
    """A copy's end of the hub, and the writer at the other side."""

    def __init__(self) -> None:
        self.scl = 0
        self.hub = HubEnd(self._position, lambda _beat: True)
        self.writer, copy = SmallSocket.pair(lambda: False)
        self.serving = asyncio.create_task(self.hub.serve(cast("web.WebSocketResponse", copy)))

    def _position(self) -> HubPosition:
        return HubPosition(promised_term=Term(2), scl=Lsn(self.scl))

    async def beat(self, *, prompt: bool) -> None:
        beat = HubBeat(term=Term(2), attempt_id=AttemptId("a"), prompt=prompt)
        await self.writer.send_str(beat.model_dump_json())

    async def position(self) -> int | None:
        async with asyncio.timeout(5):
            message = await self.writer.receive()
        return HubPosition.model_validate_json(message.data).scl

    def move(self) -> None:
        self.scl += 1
        self.hub.notify_moved()


@pytest.fixture
async def line(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    monkeypatch.setattr(hub_end, "ANSWER_SECONDS", 0.0)
    made = Line()
    assert await made.position() == 0
    yield made
    made.serving.cancel()
    await asyncio.wait([made.serving])


async def test_while_nobody_waits_a_position_goes_with_the_next_beat(line: Line) -> None:
    await line.beat(prompt=False)
    assert await line.position() == 0
    line.move()
    line.move()
    await line.beat(prompt=False)
    assert await line.position() == 2, "nothing was told in between"


async def test_each_move_is_told_at_once_while_somebody_waits(line: Line) -> None:
    await line.beat(prompt=True)
    assert await line.position() == 0
    line.move()
    assert await line.position() == 1


async def test_a_writer_that_has_not_said_otherwise_waits(line: Line) -> None:
    """It may be about to open: every position matters to it."""
    line.move()
    assert await line.position() == 1


async def test_a_new_word_is_told_at_once_to_everybody(line: Line) -> None:
    """Rule 12: three of them end a writer."""
    await line.beat(prompt=False)
    assert await line.position() == 0
    line.scl = 7
    line.hub.notify()
    assert await line.position() == 7


async def test_beats_that_follow_each_other_closely_get_one_answer(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_end, "ANSWER_SECONDS", 60.0)
    await line.beat(prompt=False)
    assert await line.position() == 0
    line.move()
    await line.beat(prompt=False)
    await line.beat(prompt=True)
    line.hub.notify()
    assert await line.position() == 1
    line.move()
    assert await line.position() == 2, "nothing else was in between"


async def test_a_readers_gate_makes_the_whole_volume_prompt(
    volume: SmallVolume, tmp_path: Path
) -> None:
    one = SmallInstance(volume, tmp_path / "one")
    one.begin()
    await one.become(InstanceRole.REPLICA)
    await one.open()
    assert one.life.opened is not None
    following: Following = one.life.opened.following
    assert not following.beat().prompt, "the volume is open, and nobody reads"
    attendant = following._attendants[2]
    for reads in (True, False):
        for other in following._attendants:
            other.beat_due.clear()
        await attendant._take(
            HubPosition(promised_term=following.promise.term, has_prompt_readers=reads)
        )
        assert following.beat().prompt is reads
        assert all(other.beat_due.is_set() for other in following._attendants)
    await one.end()
