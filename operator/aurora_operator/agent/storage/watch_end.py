"""The storage pod's end of the watch: instances tell where they stand, and hear what it sees.

Storage pods are where replicas meet. Each tells all six of itself and hears from each who else
stands by, and whether that copy misses its writer; so all of them know enough to agree on who
opens the volume, without Kubernetes and without the operator (design, §5).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import structlog
from aiohttp import web
from pydantic import ValidationError

from aurora_operator.api.messages import StandingText, WatchNote, WatchSight
from aurora_operator.core.verdicts import Proceed, Refuse

log = structlog.get_logger()

WATCH_SECONDS: Final = 0.5
"""Notes and sights are repeated so often."""
STALE_SECONDS: Final = 1.25
"""A note or a sight that is older says nothing any more."""
_SEND_SECONDS: Final = 2.0


@dataclass(eq=False)
class _Watcher:
    """One instance's connection."""

    due: asyncio.Event = field(default_factory=asyncio.Event)
    standing: StandingText | None = None
    heard_at: float = float("-inf")


class WatchEnd:
    """All watch connections of this pod."""

    def __init__(self, misses_writer: Callable[[], Proceed | Refuse]) -> None:
        self._misses_writer = misses_writer
        self._watchers: set[_Watcher] = set()
        self._missed = False

    def notify(self) -> None:
        """What the copy sees of its writer may have changed; only a change is told at once."""
        if self._judge() != self._missed:
            for watcher in self._watchers:
                watcher.due.set()

    async def serve(self, socket: web.WebSocketResponse) -> None:
        """Serve one connection until it ends."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        sender = asyncio.create_task(self._send(socket, watcher), name="watch sights")
        try:
            while True:
                async with asyncio.timeout(STALE_SECONDS + _SEND_SECONDS):
                    message = await socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                watcher.standing = WatchNote.model_validate_json(message.data).standing
                watcher.heard_at = time.monotonic()
        except TimeoutError:
            log.info("watch connection silent; hanging up")
        except ValidationError as error:
            log.warning("watch message malformed", reason=str(error))
        finally:
            self._watchers.discard(watcher)
            sender.cancel()
            await asyncio.wait([sender])
            await socket.close()

    def sight(self) -> WatchSight:
        """What this copy sees now."""
        verdict = self._misses_writer()
        since = time.monotonic() - STALE_SECONDS
        return WatchSight(
            misses_writer=isinstance(verdict, Proceed),
            sentence=verdict.sentence,
            standings=tuple(
                watcher.standing
                for watcher in self._watchers
                if watcher.standing is not None and watcher.heard_at > since
            ),
        )

    def _judge(self) -> bool:
        return isinstance(self._misses_writer(), Proceed)

    async def _send(self, socket: web.WebSocketResponse, watcher: _Watcher) -> None:
        try:
            while True:
                sight = self.sight()
                if sight.misses_writer != self._missed:
                    self._missed = sight.misses_writer
                    log.info("watch", misses_writer=self._missed, sentence=sight.sentence)
                watcher.due.clear()
                async with asyncio.timeout(_SEND_SECONDS):
                    await socket.send_str(sight.model_dump_json())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_SECONDS):
                        await watcher.due.wait()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            log.info("watch connection lost", reason=str(error) or type(error).__name__)
            await socket.close()
