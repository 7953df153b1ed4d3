"""The page store: an ordinary standby of the pod's own gate, which turns the log into pages.

New instances copy their base from it. It may die, lag or lose its pages without any harm to the
volume: the log is the database. So it is simply started again, with growing pauses, and when it
cannot use its pages any more it takes a fresh base from another copy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from aurora_operator.agent.place import Place
from aurora_operator.agent.server_output import emit_server_line
from aurora_operator.agent.tier import StorageTier
from aurora_operator.agent.users import os_user
from aurora_operator.api.labels import PORT_PAGE_STORE
from aurora_operator.api.messages import CopyState, PageStoreStatus
from aurora_operator.core.lsn import Lsn
from aurora_operator.core.names import Slot
from aurora_operator.core.retention import may_give_base
from aurora_operator.engines.postgresql.endpoint import TcpEndpoint, TlsFiles
from aurora_operator.engines.postgresql.programs import (
    DEBIAN_BINARIES,
    ProgramFailed,
    base_backup,
)
from aurora_operator.engines.postgresql.queries import QuestionFailed, Sql
from aurora_operator.engines.postgresql.server import Server, ServerEnded, StopMode
from aurora_operator.engines.postgresql.settings import (
    Purpose,
    ServerSettings,
    configuration_files,
)

log = structlog.get_logger()

PAGES_DIRECTORY: Final = "pages"
_RETRY_SECONDS: Final = (0.2, 1.0, 5.0, 15.0)
_WELL_SECONDS: Final = 60.0
_FRESH_BASE_AFTER_FAILURES: Final = 6
_STANDS_AFTER_FAILURES: Final = 3
_LOOK_SECONDS: Final = 1.0
_START_SECONDS: Final = 600.0
_STATUS_SECONDS: Final = 1.0


class PageStore:
    """The standby of one storage pod."""

    def __init__(
        self,
        place: Place,
        tier: StorageTier,
        slot: Slot,
        log_start: Callable[[], Lsn | None] = lambda: None,
    ) -> None:
        """``log_start`` is where the own copy's log begins; pages that need more are of no use."""
        self.pages = place.disk / PAGES_DIRECTORY
        self._place = place
        self._tier = tier
        self._slot = slot
        self._tls = TlsFiles(place.tls)
        self._server = Server(data=self.pages, emit=emit_server_line)
        self._sql = Sql(socket_directory=place.run, port=PORT_PAGE_STORE)
        self._ready = False
        self._replayed: Lsn | None = None
        self._redo: Lsn | None = None
        self._log_start = log_start
        self._held = ""
        self._released = asyncio.Event()
        self._released.set()
        self._life: asyncio.Task[None] | None = None
        self._failures = 0
        self._taking_base = False

    def status(self) -> PageStoreStatus:
        """For the pod's status."""
        return PageStoreStatus(
            running=self._ready, replayed_lsn=self._replayed, redo_lsn=self._redo, held=self._held
        )

    @property
    def stands(self) -> bool:
        """Whether it does not run, and will not in a moment."""
        return not self._ready and (bool(self._held) or self._failures >= _STANDS_AFTER_FAILURES)

    async def hold(self, sentence: str) -> None:
        """Stand still until ``release``: the log needs the room.

        Pages that are there stay; a base that was being taken is removed.
        """
        self._held = sentence
        self._released.clear()
        log.warning("page store held", reason=sentence)
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])
        await self._server.stop(StopMode.FAST, timeout_seconds=10.0)
        if self._taking_base:
            await self._server.remove_data()

    def release(self) -> None:
        """It may run again; asking twice changes nothing."""
        if self._held:
            log.info("page store released")
            self._held = ""
            self._released.set()

    async def redo_lsn(self) -> Lsn | None:
        """Log from here on is needed to start it again; ``None`` when that is not known."""
        if not self._server.has_data() or self._taking_base:
            self._redo = None
        else:
            self._redo = (await self._server.control_data()).redo_lsn
        return self._redo

    async def move_redo(self) -> None:
        """Write pages out, so that less log is needed to start again; as far as that goes now."""
        if not self._ready:
            return
        try:
            await self._sql.rows("CHECKPOINT")
        except QuestionFailed as error:
            log.warning("pages not written out", reason=str(error))

    async def take_base(
        self,
        sources: Sequence[TcpEndpoint],
        target: Path,
        *,
        bytes_per_second: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Copy a base into ``target``, which is empty or absent, from the first that gives one."""
        failures: list[str] = []
        for source in sources:
            try:
                await base_backup(
                    DEBIAN_BINARIES,
                    target,
                    source=source,
                    tls=self._tls,
                    application_name=self._place.pod,
                    sync=True,
                    bytes_per_second=bytes_per_second,
                    on_progress=on_progress,
                )
            except (ProgramFailed, OSError, TimeoutError) as error:
                failures.append(f"{source}: {error}")
                continue
            return
        raise ProgramFailed("no page store gives a base: " + "; ".join(failures))

    async def run(self) -> None:
        """Keep the server running, but for the times when it is held, until cancelled."""
        self._failures = 0
        while True:
            await self._released.wait()
            started = time.monotonic()
            life = self._life = asyncio.create_task(self._live(), name="page store lives")
            try:
                await asyncio.wait([life])
                if not life.cancelled():  # by ``hold``
                    life.result()
            except (ServerEnded, ProgramFailed, OSError, TimeoutError) as error:
                log.warning("page store ended; starting it again", reason=str(error))
            finally:
                self._ready = False
                life.cancel()
                await asyncio.wait([life])
            if self._held or time.monotonic() - started > _WELL_SECONDS:
                self._failures = 0
            await asyncio.sleep(_RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS) - 1)])
            self._failures += 1

    def reload(self) -> None:
        """Let a running server read its certificate again."""
        if self._server.running:
            self._server.reload()

    async def close(self) -> None:
        """Stop the server in order: its pages are kept."""
        self._ready = False
        await self._sql.close()
        await self._server.stop(StopMode.FAST, timeout_seconds=10.0)

    async def _live(self) -> None:
        """Once: take a base if these pages cannot be used, and run the server to its end."""
        redo, start = await self.redo_lsn(), self._log_start()
        if redo is not None and start is not None and redo < start:
            log.warning("pages need log that was removed", redo=str(redo), log_start=str(start))
            redo = None
        if self._taking_base or redo is None or self._failures >= _FRESH_BASE_AFTER_FAILURES:
            self._taking_base = True
            await self._replace_pages()
            self._taking_base = False
            self._failures = 0
        await self._serve()

    async def _serve(self) -> None:
        self._server.write_files(configuration_files(self._settings()))
        self._server.make_standby()
        await self._server.start(timeout_seconds=_START_SECONDS)
        self._ready = True
        log.info("page store runs")
        watch = asyncio.create_task(self._watch(), name="watch the page store")
        try:
            await self._server.wait_exit()
            raise ServerEnded(await self._server.ended_sentence())
        finally:
            watch.cancel()
            await asyncio.wait([watch])
            await self._sql.close()

    async def _watch(self) -> None:
        while True:
            try:
                self._replayed = (await self._sql.replay_facts()).replayed_lsn
            except Exception as error:  # the server's end is noticed elsewhere
                log.warning("page store does not answer", reason=str(error))
            await asyncio.sleep(_LOOK_SECONDS)

    async def _replace_pages(self) -> None:
        """Take a fresh base from another copy; the copy's log stays as it is.

        From one whose pages need no older log than is kept here: pages of a copy that was left
        behind run as well, and would want what nobody has.
        """
        statuses = await self._tier.statuses(_STATUS_SECONDS, but=self._slot)
        start = self._log_start()
        able = [
            self._tier.page_store(status.slot)
            for status in statuses
            if status.state is CopyState.FULL
            and status.page_store.running
            and may_give_base(status.page_store.redo_lsn, start)
        ]
        log.warning("page store takes a fresh base", sources=[str(source) for source in able])
        await self._server.remove_data()
        await self.take_base(able, self.pages)

    def _settings(self) -> ServerSettings:
        return ServerSettings(
            purpose=Purpose.PAGE_STORE,
            name=self._place.pod,
            socket_directory=self._place.run,
            port=PORT_PAGE_STORE,
            listen_addresses=self._place.listen or "*",
            tls=self._tls,
            log_socket_directory=self._place.run,
            os_user=os_user(),
        )
