"""The member list: which six disks are the volume.

The list is part of the volume. Every copy keeps it durably and sends it with every promise, and
a candidate counts only members of the highest list among its answers (rule 8, H1): taken from
anywhere else, two lists could each find four copies and make two writers. Only the open writer
changes it, one identity at a time, through a list of five.

Any two neighbours of such a chain keep what the volume rests on: four of the one and four of the
other share at least two copies. A list of four exists only after three disks were lost for good
(rule 10): every commit is then on all four of it, and it grows to six again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aurora_operator.core.lsn import FORMAT_TERM, Term
from aurora_operator.core.names import SLOT_COUNT, Identity, Slot

SMALLEST_LIST: Final = 4
"""Fewer than a write quorum could not commit anything."""


@dataclass(frozen=True, slots=True, order=True)
class MemberVersion:
    """Orders lists: the term of the writer that made it, then a number within the term."""

    term: Term
    number: int

    def __str__(self) -> str:
        return f"{self.term}.{self.number}"


BIRTH_VERSION: Final = MemberVersion(FORMAT_TERM, 0)
"""Of the list that a volume is born with (rule 13)."""


@dataclass(frozen=True, slots=True)
class MemberList:
    """The identities that count, in slot order; fewer than six while disks are being replaced."""

    version: MemberVersion
    identities: tuple[Identity, ...]
    slots: tuple[Slot, ...] = ()
    """The slot of each identity; by default the first slots, as in a list of six."""

    def __post_init__(self) -> None:
        if len(set(self.identities)) != len(self.identities):
            raise ValueError(f"{self.identities} names one disk twice; a copy counts once")
        if not SMALLEST_LIST <= len(self.identities) <= SLOT_COUNT:
            raise ValueError(f"{self.identities} is no member list: it has four to six identities")
        if not self.slots:
            slots = tuple(Slot(number) for number in range(len(self.identities)))
            object.__setattr__(self, "slots", slots)
        in_order = sorted(set(self.slots)) == list(self.slots)
        if len(self.slots) != len(self.identities) or not in_order or self.slots[-1] >= SLOT_COUNT:
            raise ValueError(f"{self.identities} do not fit the slots {self.slots}")

    def __contains__(self, identity: object) -> bool:
        return identity in self.identities

    def __str__(self) -> str:
        return f"{self.version} ({', '.join(self.identities)})"

    @property
    def empty_slots(self) -> tuple[Slot, ...]:
        """Slots without a member: their copies are on their way in."""
        return tuple(Slot(n) for n in range(SLOT_COUNT) if n not in self.slots)

    def identity_in(self, slot: Slot) -> Identity | None:
        """Which member a slot holds."""
        return next(
            (i for s, i in zip(self.slots, self.identities, strict=True) if s == slot), None
        )

    def slot_of(self, identity: Identity) -> Slot:
        """Which slot a member is in; raises ``ValueError`` for any other identity."""
        return self.slots[self.identities.index(identity)]

    def restricted_to(self, identities: Iterable[Identity]) -> MemberList:
        """Those of the members that are among ``identities``; it is no list that anybody keeps."""
        wanted = set(identities)
        by_slot = {s: i for s, i in self._by_slot().items() if i in wanted}
        return MemberList(self.version, tuple(by_slot.values()), tuple(by_slot))

    def renewed(self, term: Term, above: MemberVersion) -> MemberList:
        """The same members, as a list of the writer of ``term`` that goes before ``above``."""
        version = max(self._next(term), MemberList._after(above, term))
        return MemberList(version, self.identities, self.slots)

    def without(self, identity: Identity, term: Term) -> MemberList:
        """The list one change later: ``identity`` is no member any more, for ever."""
        return self._changed({s: i for s, i in self._by_slot().items() if i != identity}, term)

    def with_member(self, slot: Slot, identity: Identity, term: Term) -> MemberList:
        """The list one change later: the copy in the empty ``slot`` counts from now on."""
        if self.identity_in(slot) is not None:
            raise ValueError(f"slot {slot} is taken by {self.identity_in(slot)}")
        return self._changed({**self._by_slot(), slot: identity}, term)

    def of_survivors(
        self, left: Iterable[Identity], slot: Slot, new: Identity, term: Term
    ) -> MemberList:
        """Rule 10: the three that are left, and a new copy in ``slot``, which is none of theirs."""
        by_slot = {s: i for s, i in self._by_slot().items() if i in set(left)}
        if slot in by_slot:
            raise ValueError(f"slot {slot} is taken by {by_slot[slot]}")
        return self._changed({**by_slot, slot: new}, term)

    def _by_slot(self) -> dict[Slot, Identity]:
        return dict(zip(self.slots, self.identities, strict=True))

    def _changed(self, by_slot: dict[Slot, Identity], term: Term) -> MemberList:
        slots = tuple(sorted(by_slot))
        return MemberList(self._next(term), tuple(by_slot[slot] for slot in slots), slots)

    def _next(self, term: Term) -> MemberVersion:
        return self._after(self.version, term)

    @staticmethod
    def _after(version: MemberVersion, term: Term) -> MemberVersion:
        """The version after this one; a writer never goes on with another writer's numbers."""
        if term < version.term:
            raise ValueError(f"the writer of term {term} cannot change a list of {version}")
        return MemberVersion(term, version.number + 1 if term == version.term else 1)


def highest(lists: Iterable[MemberList]) -> MemberList:
    """The list with the highest version; refuses two different lists of that version (rule 8)."""
    known = tuple(lists)
    newest = max(known, key=lambda members: members.version)
    for members in known:
        if members.version == newest.version and members != newest:
            raise ValueError(
                f"two member lists of version {newest.version}: "
                f"{newest.identities} and {members.identities}; nothing may count on either"
            )
    return newest
