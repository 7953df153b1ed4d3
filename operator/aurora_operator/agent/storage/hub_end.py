"""The storage pod's end of the hub: beats come in, positions go out.

The writer's agent opens the connection. A beat tells the volume durable position of its term; the
answer is where this copy stands. It is told again when the copy's word changes, and after each
flush while the writer says that somebody waits for the VDL: most of the time only page stores read,
which are content with a beat's pace, and six messages for each commit would cost more than the
log itself. Several connections may exist for a moment, when one writer follows another: each
message is a fact about its own term, so an old one does no harm (rule 7). When no beat of the own
term came for a second, the mesh takes over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import aiohttp
import structlog
from aiohttp import web
from pydantic import ValidationError

from aurora_operator.api.messages import HubBeat, HubPosition

log = structlog.get_logger()

_SEND_SECONDS: Final = 5.0
_SILENT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 0.02
"""A beat that follows an answered one so soon is answered by the next position, or beat."""


class _Line:
    """What is to be said on one connection."""

    def __init__(self) -> None:
        self.due = asyncio.Event()
        self.due.set()
        self.prompt = True
        """The writer wants each position at once."""
        self.answers_ns: int | None = None
        """The writer's own date of its last beat here; another writer's clock is another's."""
        self.beat_at = self.answered_at = float("-inf")
        """When the last beat came, and when the last one that was answered."""


class HubEnd:
    """All hub connections of this pod, usually one."""

    def __init__(
        self, position: Callable[[], HubPosition], learn: Callable[[HubBeat], bool]
    ) -> None:
        """``learn`` takes a beat in and says whether it was of the own promise."""
        self._position = position
        self._learn = learn
        self._lines: set[_Line] = set()
        self._heard_at = float("-inf")

    @property
    def silent_seconds(self) -> float:
        """How long no beat came from the writer, or the candidate, of the own promise."""
        return time.monotonic() - self._heard_at

    def notify(self) -> None:
        """The own word changed: a promise, a history, a state, who reads."""
        for line in self._lines:
            line.due.set()

    def notify_moved(self) -> None:
        """The own log went on, no more."""
        for line in self._lines:
            if line.prompt:
                line.due.set()

    async def serve(self, socket: web.WebSocketResponse) -> None:
        """Serve one connection until it ends."""
        line = _Line()
        self._lines.add(line)
        sender = asyncio.create_task(self._send(socket, line), name="hub positions")
        try:
            while True:
                async with asyncio.timeout(_SILENT_SECONDS):
                    message = await socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                beat = HubBeat.model_validate_json(message.data)
                line.beat_at = time.monotonic()
                if self._learn(beat):
                    self._heard_at = line.beat_at
                line.prompt, line.answers_ns = beat.prompt, beat.sent_ns
                if line.beat_at - line.answered_at >= ANSWER_SECONDS:
                    line.due.set()
        except TimeoutError:
            log.info("hub connection silent; hanging up")
        except ValidationError as error:
            log.warning("hub message malformed", reason=str(error))
        finally:
            self._lines.discard(line)
            sender.cancel()
            await asyncio.wait([sender])
            await socket.close()

    async def _send(self, socket: web.WebSocketResponse, line: _Line) -> None:
        try:
            while True:
                await line.due.wait()
                line.due.clear()
                line.answered_at = line.beat_at
                position = self._position().model_copy(update={"answers_ns": line.answers_ns})
                async with asyncio.timeout(_SEND_SECONDS):
                    await socket.send_str(position.model_dump_json())
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            log.info("hub connection lost", reason=str(error) or type(error).__name__)
