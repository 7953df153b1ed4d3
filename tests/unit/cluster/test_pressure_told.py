"""What people are told when copies cannot keep up: a condition and an Event of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aurora_operator.core.cluster.observation import ClusterObservation, Role
from aurora_operator.core.cluster.plan import decide
from aurora_operator.core.names import Slot
from aurora_operator.core.pressure import Pressure
from support.observations import copy, healthy, instance, instances


def seen_with(pressure: Pressure, *slots: int, streaming: int = 6, **changes: Any) -> Any:
    copies = {
        Slot(slot): copy(slot, pressure=pressure, pressure_sentence=f"short of {slot}", **changes)
        if slot in slots
        else copy(slot)
        for slot in range(6)
    }
    writer = instance(1, Role.WRITER, copies_streaming=streaming)
    return healthy(copies=copies, instances=instances(writer, instance(2)))


def told(seen: ClusterObservation) -> tuple[dict[str, tuple[bool, str]], set[str]]:
    plan = decide(seen)
    words = {verdict.type: (verdict.status, verdict.reason) for verdict in plan.conditions}
    return words, {note.reason for note in plan.notes if note.warning}


@pytest.mark.parametrize(
    ("pressure", "reason"),
    [
        (Pressure.LOW_SPACE, "StoragePressure"),
        (Pressure.SLOW, "CopySlow"),
        (Pressure.NO_ROOM, "StorageFull"),
        (Pressure.LEFT_BEHIND, "CopyLeftBehind"),
    ],
)
def test_pressure_is_a_condition_and_an_event(pressure: Pressure, reason: str) -> None:
    words, events = told(seen_with(pressure, 3))
    assert words["StorageHealthy"] == (False, reason)
    assert reason in events
    assert words["Available"] == (True, "WriterOpen")
    assert words["Ready"][0] is False


def test_a_cluster_without_pressure_says_so() -> None:
    words, events = told(seen_with(Pressure.NONE))
    assert words["StorageHealthy"] == (True, "Roomy")
    assert words["Ready"] == (True, "AllWell")
    assert not events


def test_commits_that_wait_are_told_before_what_they_wait_for() -> None:
    words, events = told(seen_with(Pressure.NO_ROOM, 3, 4, 5, streaming=3))
    assert words["Available"] == (False, "WritesWait")
    assert words["StorageHealthy"] == (False, "WritesWait")
    assert events >= {"WritesWait", "StorageFull"}
    message = next(
        v.message for v in decide(seen_with(Pressure.NO_ROOM, 3)).conditions[4:] if not v.status
    )
    assert "slot 3 is short of 3" in message


def test_one_event_lasts_while_the_figures_change() -> None:
    seen = seen_with(Pressure.SLOW, 3)
    later = replace(seen.copies[Slot(3)], pressure_sentence="slow: by other figures")
    again = replace(seen, copies={**seen.copies, Slot(3): later})
    warnings = [{n.identity for n in decide(s).notes if n.warning} for s in (seen, again)]
    assert warnings[0] == warnings[1] != set()
