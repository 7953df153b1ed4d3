"""How a copy's log is read again on the disk, and what follows from a broken piece.

Disks forget. Log that nobody asks for may lie broken for months, and is found out on the day when
three other copies are gone. So each copy reads its own log at a low rate, all of it within a bound
of time, and what does not have its checksum any more is taken from a peer whose history says that
its bytes there are the same. A piece that no peer can give in time makes the copy FAILED: it is
filled anew as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aurora_operator.core.copy import CopyState, CopyView
from aurora_operator.core.gate import serve_point
from aurora_operator.core.history import common_prefix_end
from aurora_operator.core.lsn import Lsn
from aurora_operator.core.names import Slot

PIECE_BYTES: Final = 64 * 1024
"""Read at a time: little enough to be in nobody's way."""
RATE_BYTES_MIN: Final = 1024**2
"""A second."""
PASS_SECONDS_MIN: Final = 3600.0
"""A pass begins this long after the one before began, or later."""
PASS_SECONDS_MAX: Final = 24 * 3600.0
"""Within this time all of the log was read once."""
REPAIR_SECONDS: Final = 120.0
"""How long a damaged copy looks for a peer that has what it lost."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Durable log bytes that cannot be believed any more; they lie in one segment."""

    begin: Lsn
    end: Lsn

    def __str__(self) -> str:
        return f"{self.begin} to {self.end}"


def pause_seconds(log_bytes: int, read_bytes: int) -> float:
    """How long to wait after so many bytes, so that the rate holds for a log of this size."""
    rate_bytes = max(RATE_BYTES_MIN, log_bytes / PASS_SECONDS_MAX)
    return read_bytes / rate_bytes


def repair_sources(own: CopyView, damage: Damage, peers: Iterable[CopyView]) -> tuple[Slot, ...]:
    """The copies whose gates serve exactly the bytes that were lost.

    A gate serves what is durable on four copies and no more, so its bytes are the volume's own; and
    the two histories agree over all of the range, so they are this copy's (rule 5).
    """
    if own.record is None or own.scl is None:
        return ()
    slots = []
    for peer in peers:
        if peer.state is not CopyState.FULL or peer.record is None or peer.scl is None:
            continue
        point = serve_point(peer.record.history, peer.scl, peer.record.known_vdl)
        has_begin = peer.log_start is not None and peer.log_start <= damage.begin
        if point is None or not has_begin or point.limit < damage.end:
            continue
        common = common_prefix_end(own.record.history, own.scl, peer.record.history)
        if common >= damage.end:
            slots.append(peer.slot)
    return tuple(slots)
