"""Running programs, and the processes that they leave."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from aurora_operator.core.lsn import Lsn
from aurora_operator.engines.postgresql.leftovers import end_users_of, users_of
from aurora_operator.engines.postgresql.programs import (
    ProgramFailed,
    environment,
    parse_control_data,
    run_program,
)

CONTROL_DATA = """\
pg_control version number:            1300
Database system identifier:           7711287836597325842
Database cluster state:               in archive recovery
Latest checkpoint location:           0/1C547E0
Latest checkpoint's REDO location:    0/1C54700
Latest checkpoint's TimeLineID:       7
Minimum recovery ending location:     0/1C64000
"""


def test_control_data_is_read() -> None:
    data = parse_control_data(CONTROL_DATA)
    assert data.system_identifier == "7711287836597325842"
    assert data.state == "in archive recovery"
    assert data.checkpoint_lsn == Lsn.parse("0/1C547E0")
    assert data.redo_lsn == Lsn.parse("0/1C54700")
    assert data.minimum_recovery_lsn == Lsn.parse("0/1C64000")
    assert data.timeline == 7


def test_control_data_with_a_part_missing_names_it() -> None:
    with pytest.raises(KeyError, match="TimeLineID"):
        parse_control_data("\n".join(CONTROL_DATA.splitlines()[:5]))


async def test_a_program_that_fails_tells_its_last_words() -> None:
    code = "import sys; sys.exit('no such thing')"
    with pytest.raises(ProgramFailed, match="ended with 1: no such thing"):
        await run_program([sys.executable, "-c", code], timeout_seconds=20)


async def test_a_program_that_hangs_is_killed() -> None:
    begun = time.monotonic()
    with pytest.raises(ProgramFailed, match="did not end within"):
        await run_program(["sleep", "600"], timeout_seconds=0.2)
    assert time.monotonic() - begun < 10


def test_other_servers_settings_do_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere")
    assert "PGHOST" not in environment()
    assert environment({"PGDATA": "here"})["PGDATA"] == "here"


async def test_t13_what_uses_a_directory_is_found_and_ended(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"], cwd=tmp_path) as process:  # noqa: ASYNC220
        assert users_of(tmp_path) == [process.pid]
        await end_users_of(tmp_path)
        assert process.wait(timeout=10) == -9
    assert users_of(tmp_path) == []
