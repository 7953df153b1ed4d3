"""The answers that decisions of the volume protocol have in common.

Every verdict carries one sentence, written for the person who reads the log; nothing ever parses
it. What a verdict means is its type: go on, wait and look again, stop this attempt, or throw the
data of this instance away. Verdicts that carry results of their own stand beside their decision.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Proceed:
    """Yes: what was asked about may happen now."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: the same question may get another answer once more is known."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """No, and asking again with the same facts will not help."""

    sentence: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """This attempt to open cannot succeed; another one takes a higher term."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Wipe:
    """The instance's data must be thrown away: it may hold log that the volume does not have."""

    sentence: str
