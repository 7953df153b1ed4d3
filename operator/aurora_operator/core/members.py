"""The member list: which six disks are the volume.

The list is part of the volume. Every copy keeps it durably and sends it with every promise, and
a candidate counts only members of the highest list among its answers (rule 8, H1): taken from
anywhere else, two lists could each find four copies and make two writers. Only the open writer
changes it, one identity at a time, through a list of five.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aurora_operator.core.lsn import Term
from aurora_operator.core.names import SLOT_COUNT, Identity


@dataclass(frozen=True, slots=True, order=True)
class MemberVersion:
    """Orders lists: the term of the writer that made it, then a number within the term."""

    term: Term
    number: int


@dataclass(frozen=True, slots=True)
class MemberList:
    """The identities that count, in slot order; five of them while one is being replaced."""

    version: MemberVersion
    identities: tuple[Identity, ...]

    def __post_init__(self) -> None:
        if len(set(self.identities)) != len(self.identities):
            raise ValueError(f"{self.identities} names one disk twice; a copy counts once")
        if len(self.identities) not in (SLOT_COUNT - 1, SLOT_COUNT):
            raise ValueError(f"{self.identities} is no member list: it has five or six identities")

    def __contains__(self, identity: object) -> bool:
        return identity in self.identities


def highest(lists: Iterable[MemberList]) -> MemberList:
    """The list with the highest version; refuses two different lists of that version (rule 8)."""
    known = tuple(lists)
    newest = max(known, key=lambda members: members.version)
    for members in known:
        if members.version == newest.version and members.identities != newest.identities:
            raise ValueError(
                f"two member lists of version {newest.version}: "
                f"{newest.identities} and {members.identities}; nothing may count on either"
            )
    return newest
