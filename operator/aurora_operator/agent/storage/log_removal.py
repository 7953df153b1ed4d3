"""Removing log that nobody may ask for any more, within a bound (rule 14).

Here is gathered who needs what: the members' ends and the page stores' redo points from their
answers, the own redo point from the own pages, the positions of the standbys that read here. What
a member said last counts while it is silent. ``core.retention`` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from aurora_operator.agent.storage.page_store import PageStore
from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.convert import view_from_status
from aurora_operator.api.messages import CopyState, StorageStatus
from aurora_operator.core.lsn import SEGMENT_BYTES, Lsn
from aurora_operator.core.names import Identity, Slot
from aurora_operator.core.pressure import Pressure, is_left_behind, log_bound_bytes
from aurora_operator.core.retention import LogNeeds, decide_retention
from aurora_operator.volume.copy_store import CopyStore

log = structlog.get_logger()

_STATUS_SECONDS: Final = 1.0
_MARGIN_BYTES_MAX: Final = 16 * SEGMENT_BYTES


class LogRemoval:
    """Looks when it is told to, and remembers what the others said."""

    def __init__(
        self,
        *,
        store: CopyStore,
        page_store: PageStore,
        tier: StorageTier,
        slot: Slot,
        sessions: Callable[[], Sequence[Lsn]],
    ) -> None:
        """``sessions`` says where the standbys stand that read from the own gate."""
        self.left_behind = False
        """Nobody keeps the log that this copy needs next."""
        self._store = store
        self._page_store = page_store
        self._tier = tier
        self._slot = slot
        self._sessions = sessions
        self._members: dict[Identity, Lsn] = {}
        self._page_stores: dict[Identity, Lsn] = {}
        self._scl_before: Lsn | None = None

    async def look(self, total_bytes: int, *, low_on_space: bool) -> None:
        """Ask the others, and remove what may go; ``total_bytes`` is the size of the disk."""
        statuses = await self._tier.statuses(_STATUS_SECONDS, but=self._slot)
        self._take_in(statuses)
        if low_on_space:
            await self._page_store.move_redo()
        own_redo = await self._page_store.redo_lsn()
        view = self._store.view()
        if view.record is None or view.scl is None or view.log_start is None:
            return
        needs = LogNeeds(
            scl=view.scl,
            own_redo=own_redo,
            own_pages_stand=self._page_store.stands,
            members={
                identity: self._members.get(identity)
                for identity in view.record.members.identities
                if identity != view.identity
            },
            page_stores=self._page_stores,
            sessions=self._sessions(),
            bases_elsewhere=sum(_has_base(status) for status in statuses),
        )
        bound_bytes = log_bound_bytes(total_bytes)
        margin_bytes = min(_MARGIN_BYTES_MAX, bound_bytes // 2)
        kept = decide_retention(
            needs,
            bound_bytes=margin_bytes if low_on_space else bound_bytes,
            margin_bytes=margin_bytes,
        )
        if kept.limit is None or kept.limit <= view.log_start:
            return
        self._store.remove_log_before(kept.limit)
        log.info(
            "old log removed",
            below=str(kept.limit),
            low_on_space=low_on_space,
            left_behind=list(kept.left_behind),
            gives_up_pages=kept.gives_up_pages,
        )

    def _take_in(self, statuses: Sequence[StorageStatus]) -> None:
        for status in statuses:
            if status.scl is not None:
                self._members[status.identity] = status.scl
            if status.page_store.redo_lsn is not None:
                self._page_stores[status.identity] = status.page_store.redo_lsn
        view = self._store.view()
        try:
            peers = [view_from_status(status) for status in statuses]
            self.left_behind = is_left_behind(view, self._scl_before, peers)
        except ValueError as error:
            log.warning("peers' answers make no sense", reason=str(error))
        self._scl_before = view.scl


def _has_base(status: StorageStatus) -> bool:
    """Whether an instance could start from this pod: pages that run, and all log since then."""
    redo, start = status.page_store.redo_lsn, status.log_start
    return (
        status.state is CopyState.FULL
        and status.pressure.state is not Pressure.LEFT_BEHIND
        and status.page_store.running
        and redo is not None
        and start is not None
        and redo >= start
    )
