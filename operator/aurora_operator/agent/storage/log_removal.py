"""Removing log that nobody can ask for any more (rule 14).

Kept is all that the own page store needs to start again, all that some member may still lack, and
a margin for instances that reconnect. A member that does not answer counts with what it last said;
one that was never heard keeps everything. That has a bound: when the disk is nearly full, the log
of an absent member goes too, because a full disk here would cost the volume a second copy. A
member that then comes back can only be filled anew.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

import structlog

from aurora_operator.agent.storage.page_store import PageStore
from aurora_operator.agent.tier import StorageTier
from aurora_operator.core.lsn import SEGMENT_BYTES, Lsn
from aurora_operator.core.names import Identity, Slot
from aurora_operator.volume.copy_store import CopyStore

log = structlog.get_logger()

_PERIOD_SECONDS: Final = 30.0
_STATUS_SECONDS: Final = 1.0
_RESERVE_BYTES: Final = 1024**3
_MARGIN_BYTES: Final = 16 * SEGMENT_BYTES


async def remove_old_log(
    store: CopyStore, page_store: PageStore, tier: StorageTier, slot: Slot, disk: Path
) -> None:
    """Look every now and then, until cancelled; ``disk`` is where the copy lies."""
    heard: dict[Identity, Lsn] = {}
    while True:
        await asyncio.sleep(_PERIOD_SECONDS)
        view = store.view()
        if view.record is None or view.scl is None or view.log_start is None:
            continue
        if view.scl - view.log_start < 2 * _MARGIN_BYTES:
            continue
        for status in await tier.statuses(_STATUS_SECONDS, but=slot):
            if status.scl is not None:
                heard[status.identity] = status.scl
        redo = await page_store.redo_lsn()
        others = [i for i in view.record.members.identities if i != view.identity]
        members = [heard.get(identity) for identity in others]
        nearly_full = is_nearly_full(disk)
        limit = removable_end(view.scl, redo, members, nearly_full=nearly_full)
        if limit is not None and limit > view.log_start:
            store.remove_log_before(limit)
            log.info("old log removed", below=str(limit), nearly_full=nearly_full)


def is_nearly_full(disk: Path) -> bool:
    """Less than the reserve is free: 10 % of the disk, at most 1 GiB."""
    usage = shutil.disk_usage(disk)
    return usage.free < min(usage.total // 10, _RESERVE_BYTES)


def removable_end(
    scl: Lsn, redo: Lsn | None, members: list[Lsn | None], *, nearly_full: bool
) -> Lsn | None:
    """Log below this position may go; ``None`` while something that counts is not known."""
    if nearly_full:
        members = []
    known = [lsn for lsn in (redo, *members) if lsn is not None]
    if len(known) < 1 + len(members):
        return None
    end = min(*known, Lsn(max(0, scl - _MARGIN_BYTES)))
    return end.segment_start
