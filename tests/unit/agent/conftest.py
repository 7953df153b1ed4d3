"""A small volume, and waits shortened from seconds to milliseconds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from aurora_operator.agent.instance import (
    attendant,
    isolation,
    lifecycle,
    opening,
    replacing,
    replica,
    restart,
    switchover,
)
from aurora_operator.core import copy
from aurora_operator.core import isolation as core_isolation
from aurora_operator.core import switchover as core_switchover
from support.small_machine import end_tasks
from support.small_volume import SmallVolume

SHORTENED = (
    (copy, "SILENT_SECONDS", 0.0),
    (copy, "HOLD_SECONDS", 0.0),
    (attendant, "BEAT_SECONDS", 0.01),
    (attendant, "_ATTEND_SECONDS", 0.02),
    (attendant, "_RETRY_SECONDS", 0.005),
    (attendant, "_SILENT_SECONDS", 0.3),
    (attendant, "_RENEW_NS", 5_000_000),
    (core_isolation, "HOLD_NS", 50_000_000),
    (core_isolation, "LOST_NS", 100_000_000),
    (core_isolation, "AWAKE_NS", 20_000_000),
    (isolation, "_PERIOD_SECONDS", 0.005),
    (lifecycle, "_LIFE_PAUSE_SECONDS", 0.001),
    (lifecycle, "_ERROR_PAUSE_SECONDS", 0.01),
    (opening, "_PREVOTE_SECONDS", 0.1),
    (opening, "_PREVOTE_PAUSE_SECONDS", 0.005),
    (opening, "_CATCH_UP_SECONDS", 0.3),
    (opening, "_OPEN_SECONDS", 0.3),
    (replacing, "_BUSY_SECONDS", 0.005),
    (replacing, "_CALM_SECONDS", 0.02),
    (replica, "_PERIOD_SECONDS", 0.002),
    (replica, "_SHUT_PERIOD_SECONDS", 0.002),
    (restart, "_LOOK_SECONDS", 0.01),
    (restart, "_HURRIED_LOOK_SECONDS", 0.005),
    (restart, "_OPEN_SECONDS", 0.1),
    (core_switchover, "STRANDED_HOLD_SECONDS", 0.0),
    (switchover, "TARGET_SILENT_SECONDS", 0.02),
    (switchover, "_TARGET_PERIOD_SECONDS", 0.005),
    (switchover, "_STRANDED_PERIOD_SECONDS", 0.01),
)


PLAIN = (structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer())
"""Log lines without colours and frames: these took most of the time of these tests."""

VolumeMaker = Callable[[Path], SmallVolume]


@pytest.fixture
async def volume_of(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[VolumeMaker]:
    """Makes volumes: six full copies each, newly born, in the given directory."""
    for module, name, time in SHORTENED:
        monkeypatch.setattr(module, name, time)
    made: list[SmallVolume] = []
    before = structlog.get_config()
    structlog.configure(processors=PLAIN)

    def make(directory: Path) -> SmallVolume:
        made.append(SmallVolume(directory, monkeypatch))
        return made[-1]

    yield make
    for volume in made:
        await volume.close()
    await end_tasks("")
    structlog.configure(**before)


@pytest.fixture
async def volume(volume_of: VolumeMaker, tmp_path: Path) -> SmallVolume:
    """Six full copies of a newly born volume."""
    return volume_of(tmp_path)
