"""Rule 13: where the record of the volume is found, and when anything may be formatted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aurora_operator.core.cluster.observation import CopyGrade, VolumeFacts
from aurora_operator.core.cluster.volume_record import (
    Contradiction,
    Fill,
    Format,
    Known,
    NoVolume,
    Pending,
    Record,
    find_volume,
    next_birth_step,
)
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import Slot, VolumeId
from support.observations import (
    NEW_VOLUME,
    SYSTEM,
    VOLUME,
    claim,
    claims,
    copy,
    healthy,
    in_birth,
    unborn,
    without,
)

BASED = replace(NEW_VOLUME, system_identifier=SYSTEM)
BLANK_CLAIMS = claims(NEW_VOLUME)


def birth_copies(*full: int, blank: CopyGrade = CopyGrade.BLANK) -> dict[Slot, Any]:
    return {
        Slot(slot): copy(slot, log_term=Term(1)) if slot in full else copy(slot, blank)
        for slot in range(6)
    }


def test_nothing_anywhere_is_no_volume() -> None:
    assert find_volume(unborn()) == NoVolume()


@pytest.mark.parametrize("source", ["recorded", "configured"])
def test_the_record_in_the_status_or_the_configuration_is_enough(source: str) -> None:
    assert find_volume(unborn(**{source: NEW_VOLUME})) == Known(NEW_VOLUME)


@pytest.mark.parametrize("slot", range(6))
def test_one_claim_alone_restores_the_whole_record(slot: int) -> None:
    assert find_volume(unborn(claims={Slot(slot): claim(slot)})) == Known(VOLUME)


def test_a_lost_completion_is_seen_from_a_copy_of_a_later_term() -> None:
    seen = unborn(claims=claims(BASED), copies={Slot(2): copy(2, log_term=Term(7))})
    assert find_volume(seen) == Known(VOLUME)


def test_claims_of_two_volumes_contradict() -> None:
    other = claim(4, volume_id=VolumeId("vol-2"))
    found = find_volume(unborn(claims={**claims(), Slot(4): other}))
    assert isinstance(found, Contradiction)
    assert found.reason == "VolumeMismatch"
    assert "slot 4: vol-2" in found.sentence


def test_lists_that_differ_contradict() -> None:
    swapped = (VOLUME.identities[1], VOLUME.identities[0], *VOLUME.identities[2:])
    found = find_volume(unborn(claims={**claims(), Slot(4): claim(4, identities=swapped)}))
    assert isinstance(found, Contradiction)


def test_a_complete_volume_without_any_claim_is_lost_not_new() -> None:
    found = find_volume(unborn(recorded=VOLUME))
    assert isinstance(found, Contradiction)
    assert found.reason == "VolumeLost"


def test_a_claim_without_a_record_is_somebody_elses() -> None:
    stranger = claim(0, volume_id=None, identity=None, identities=(), owned_by_other=True)
    found = find_volume(unborn(claims={Slot(0): stranger}))
    assert isinstance(found, Contradiction)
    assert found.reason == "ClaimNotOurs"


STEPS = {
    "six-blank-formats": (in_birth(), NEW_VOLUME, Format),
    "five-answer-waits": (
        in_birth(copies=without(birth_copies(), Slot(3))),
        NEW_VOLUME,
        Pending,
    ),
    "one-failed-waits": (
        in_birth(copies={**birth_copies(), Slot(1): copy(1, CopyGrade.FAILED)}),
        NEW_VOLUME,
        Pending,
    ),
    "five-claims-waits": (
        in_birth(claims=without(BLANK_CLAIMS, Slot(5))),
        NEW_VOLUME,
        Pending,
    ),
    "slot-0-full-is-recorded-first": (in_birth(copies=birth_copies(0)), NEW_VOLUME, Record),
    "recorded-base-fills": (in_birth(BASED, copies=birth_copies(0, 2)), BASED, Fill),
    "filling-is-asked-again": (
        in_birth(BASED, copies=birth_copies(0, blank=CopyGrade.FILLING)),
        BASED,
        Fill,
    ),
    "recorded-base-never-formats-again": (in_birth(BASED), BASED, Contradiction),
    "slot-0-silent-waits": (
        in_birth(BASED, copies=without(birth_copies(1, 2, 3, 4, 5), Slot(0))),
        BASED,
        Pending,
    ),
    "six-full-completes": (in_birth(BASED, copies=birth_copies(0, 1, 2, 3, 4, 5)), BASED, Record),
    "another-volume-on-a-disk": (
        in_birth(copies={**birth_copies(), Slot(2): copy(2, volume_id=VolumeId("vol-9"))}),
        NEW_VOLUME,
        Contradiction,
    ),
    "another-system-on-a-disk": (
        in_birth(BASED, copies={**birth_copies(0), Slot(2): copy(2, system_identifier="5")}),
        BASED,
        Contradiction,
    ),
}


@pytest.mark.parametrize("case", STEPS)
def test_birth_step(case: str) -> None:
    seen, volume, kind = STEPS[case]
    step = next_birth_step(seen, volume)
    assert isinstance(step, kind), step


def test_fill_names_exactly_the_copies_that_lack() -> None:
    step = next_birth_step(in_birth(BASED, copies=birth_copies(0, 2, 5)), BASED)
    assert step == Fill((Slot(1), Slot(3), Slot(4)))


def test_rule_13_no_state_of_six_copies_formats_once_anything_was_ever_full() -> None:
    """All 4^6 answers: formatting happens only when every one is blank and nothing is recorded."""
    grades = list(CopyGrade)
    volumes: tuple[VolumeFacts, ...] = (NEW_VOLUME, BASED)
    for number in range(len(grades) ** 6):
        chosen = [grades[number // len(grades) ** slot % len(grades)] for slot in range(6)]
        copies = {
            Slot(slot): copy(slot, grade, log_term=Term(1) if grade is CopyGrade.FULL else None)
            for slot, grade in enumerate(chosen)
        }
        for volume in volumes:
            step = next_birth_step(in_birth(volume, copies=copies), volume)
            blank = all(grade is CopyGrade.BLANK for grade in chosen)
            allowed = blank and volume.system_identifier is None
            assert isinstance(step, Format) is allowed, (chosen, volume, step)


def test_a_healthy_cluster_knows_its_volume() -> None:
    assert find_volume(healthy()) == Known(VOLUME)
