"""How much log a copy keeps, and for whom (rule 14).

Log is kept as long as somebody may ask for it: another member that lacks it, a standby that reads
here, a page store elsewhere whose base somebody may start from. That has a bound, since a full
disk would cost the volume a copy for the sake of one that is away; who needs older log is then
filled anew, or takes a fresh base.

One need stands above the bound: log since the redo point of the own pages. Pages without it are
worth nothing, and if every copy dropped it, a volume whose instances are lost would have no base
to start from. It is given up only by a page store that stands still while a write quorum of others
runs: then four bases remain, and any three lost copies leave one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aurora_operator.core.lsn import Lsn
from aurora_operator.core.names import Identity
from aurora_operator.core.quorum import AURORA_QUORUM


@dataclass(frozen=True, slots=True)
class LogNeeds:
    """Who may ask one copy for which log."""

    scl: Lsn
    """The end of the own log."""
    own_redo: Lsn | None
    """The own pages need log from here on; ``None``: not known, or there are no pages."""
    own_pages_stand: bool
    """The own page store does not run, and will not in a moment."""
    members: Mapping[Identity, Lsn | None]
    """Where each other member's log ends, as last heard; ``None``: never heard."""
    page_stores: Mapping[Identity, Lsn]
    """The redo points of other page stores, as last heard."""
    sessions: Sequence[Lsn]
    """Where standbys read here at this moment."""
    bases_elsewhere: int
    """Other page stores that run just now, on pages whose log their copy has."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What may go. ``limit`` is the start of a segment; ``None`` while nothing may go."""

    limit: Lsn | None
    left_behind: tuple[Identity, ...] = ()
    """Members that need log below the limit: they have to be filled anew."""
    gives_up_pages: bool = False
    """The own page store has to take a fresh base."""


def decide_retention(needs: LogNeeds, *, bound_bytes: int, margin_bytes: int) -> Retention:
    """Log below the limit may go. ``margin_bytes`` are kept in any case, for who reconnects."""
    bound = Lsn(max(0, needs.scl - bound_bytes))
    lacking = {identity: Lsn(0) if lsn is None else lsn for identity, lsn in needs.members.items()}
    others = (*lacking.values(), *needs.page_stores.values(), *needs.sessions)
    wanted = min(others, default=needs.scl)
    limit = min(max(wanted, bound), Lsn(max(0, needs.scl - margin_bytes)))
    gives_up = False
    if needs.own_redo is None or needs.own_redo < limit:
        bases_remain = needs.bases_elsewhere >= AURORA_QUORUM.write_quorum
        gives_up = needs.own_pages_stand and bases_remain
        if not gives_up:
            if needs.own_redo is None:
                return Retention(None)
            limit = needs.own_redo
    limit = limit.segment_start
    behind = tuple(
        identity for identity, lsn in needs.members.items() if lsn is not None and lsn < limit
    )
    return Retention(limit, behind, gives_up)


def may_give_base(redo: Lsn | None, log_start: Lsn | None) -> bool:
    """Whether pages with this redo point can be run from log that begins at ``log_start``."""
    return redo is not None and (log_start is None or redo >= log_start)
