"""A fill in memory, for the volumes of ``support.small_volume``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from aurora_operator.agent.storage.filling import Lesson
from aurora_operator.core.names import Identity
from aurora_operator.volume.copy_store import CopyStore

if TYPE_CHECKING:
    from support.small_volume import SmallVolume


class SmallFilling:
    """In the place of a fill: the log comes at once, from the gates, and there are no pages."""

    def __init__(self, volume: SmallVolume, **given: Any) -> None:
        self.progress = None
        self._store = cast("CopyStore", given["store"])
        self._volume = volume

    async def fill(self, identity: Identity, learn: Callable[[], Any]) -> Lesson:
        lesson = cast("Lesson", await learn())
        self._store.begin_fill(identity, lesson.history)
        self._volume.fills.append(identity)
        while self._volume.fills_wait:  # noqa: ASYNC110 - the test decides
            await asyncio.sleep(0.001)
        lesson = cast("Lesson", await learn())
        self._store.extend_fill_history(lesson.history)
        source = self._volume.pods[lesson.sources[0]].store
        point = source.serve_point()
        assert point is not None
        while (begin := self._store.scl()) < point.limit:
            end = min(point.limit, lesson.history.end_of_run(begin) or point.limit)
            term = lesson.history.term_of_byte(begin)
            assert term is not None
            self._store.append(begin, source.read(begin, end - begin), term)
            self._store.sync()
        return lesson

    def name_pages(self) -> None:
        """There are none."""

    def remove_pages(self) -> None:
        """There are none."""
