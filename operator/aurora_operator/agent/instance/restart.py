"""An ended writer on its own disk, and how it comes back in its own term (rule 11).

It stays shut until somebody decides. Asked to restart, it looks first whether its term still
stands; then the server recovers, the copies take the rest of its log, and the door opens only when
four of them hold all that was recovered. Seeing four members promise higher, it gives up by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import structlog

from aurora_operator.agent.instance.following import Following
from aurora_operator.agent.instance.isolation import let_clients_in
from aurora_operator.agent.instance.opening import Candidate, OpenedVolume
from aurora_operator.api.convert import view_from_status
from aurora_operator.core.copy import CopyState, CopyView
from aurora_operator.core.following import WriterFacts
from aurora_operator.core.lsn import Term
from aurora_operator.core.members import MemberList, highest
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.restart import Mark, judge_restart
from aurora_operator.core.verdicts import Proceed, Wipe

if TYPE_CHECKING:
    from collections.abc import Sequence

log = structlog.get_logger()

_LOOK_SECONDS: Final = 1.0
_HURRIED_LOOK_SECONDS: Final = 0.1
_STATUS_SECONDS: Final = 1.0
_OPEN_SECONDS: Final = 30.0


class StoppedWriter:
    """Waits for a decision about an ended writer."""

    def __init__(self, mark: Mark, candidate: Candidate, wished: asyncio.Event) -> None:
        """``wished`` is set when somebody asked to restart it."""
        self._wished = wished
        self._mark = mark
        self._on = candidate

    async def wait_for_decision(self) -> OpenedVolume | None:
        """The writer again, or ``None`` when its data must be thrown away."""
        while True:
            copies = await self._full_copies()
            higher = sum((c.promised_term or 0) > self._mark.promise.term for c in copies)
            if higher >= AURORA_QUORUM.write_quorum:
                log.info("ended writer is superseded", copies=higher)
                return None
            if self._wished.is_set() and copies:
                members = highest(c.record.members for c in copies if c.record is not None)
                verdict = judge_restart(self._mark, copies, members, AURORA_QUORUM)
                log.info("restart in place judged", sentence=verdict.sentence)
                if isinstance(verdict, Wipe):
                    return None
                if isinstance(verdict, Proceed):
                    return await self._restart(copies)
            pause = _HURRIED_LOOK_SECONDS if self._wished.is_set() else _LOOK_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wished.wait()
            if self._wished.is_set():
                await asyncio.sleep(_HURRIED_LOOK_SECONDS)

    async def _restart(self, copies: Sequence[CopyView]) -> OpenedVolume | None:
        started = time.monotonic()
        following: Following | None = None
        try:
            facts = self._facts(copies)
            await self._on.machine.start_again()
            own = await self._on.machine.sql.writer_facts()
            if own.history.last != facts.history.last:
                raise LookupError(f"it recovered {own.history}, the copies hold {facts.history}")
            await self._on.machine.prepare_promotion(facts.members.identities)
            following = Following(
                self._on.tier, self._mark.promise, facts.members, self._on.address
            )
            following.start()
            following.follow(facts, {})
            async with asyncio.timeout(_OPEN_SECONDS):
                opened = await following.wait_open(own.flushed_lsn)
        except BaseException as error:
            if following is not None:
                await following.stop()
            await self._on.machine.stop()
            if not isinstance(error, Exception):
                raise
            log.exception("restart in place failed; the data is thrown away")
            return None
        let_clients_in(following, self._on.machine)
        seconds = time.monotonic() - started
        log.info("writer restarted in place", sentence=opened.sentence, seconds=round(seconds, 2))
        return OpenedVolume(self._mark.promise, following, seconds)

    def _facts(self, copies: Sequence[CopyView]) -> WriterFacts:
        """What this writer told its copies once; any that adopted it knows."""
        promise = self._mark.promise
        for copy in copies:
            record = copy.record
            if (
                record is not None
                and record.promise == promise
                and record.history.last.term == promise.term
            ):
                members = _renewed(copies, promise.term)
                return WriterFacts(promise, record.history, record.first_record_end, members)
        raise LookupError(f"no copy that answers has adopted {promise}")

    async def _full_copies(self) -> list[CopyView]:
        statuses = await self._on.tier.statuses(_STATUS_SECONDS)
        return [view_from_status(status) for status in statuses if status.state is CopyState.FULL]


def _renewed(copies: Sequence[CopyView], term: Term) -> MemberList:
    """The members, under a version that this writer certainly never used.

    It may have made one more list before it ended, which none of these copies keeps (rule 8).
    """
    members = highest(c.record.members for c in copies if c.record is not None)
    once_more = members.renewed(term, members.version)
    return once_more.renewed(term, once_more.version)
