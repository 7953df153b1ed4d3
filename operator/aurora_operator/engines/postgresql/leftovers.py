"""Processes that still use a data directory although their postmaster is gone.

A backend that outlives its postmaster ends by itself, but not at once, and what it writes until
then would land in a directory that a new server, or a new base, already uses. Every process of a
server has the data directory as its working directory; that is how they are found.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Final

_POLL_SECONDS: Final = 0.005


class StillInUse(Exception):
    """Processes that use the directory would not end."""


def users_of(data: Path) -> list[int]:
    """Process ids with ``data`` as their working directory; zombies have none any more."""
    wanted = data.resolve()
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            target = (entry / "cwd").readlink()
        except OSError:  # it ended, or is not ours: then it is no server of ours either
            continue
        if target == wanted:
            found.append(int(entry.name))
    return found


async def end_users_of(data: Path, *, timeout_seconds: float = 10.0) -> None:
    """Kill what uses ``data`` and wait until it is gone (T13)."""
    deadline = time.monotonic() + timeout_seconds
    while left := users_of(data):
        if time.monotonic() > deadline:
            raise StillInUse(
                f"processes {left} still use {data} after SIGKILL; nothing may be started or"
                " copied there until they are gone (a disk that does not answer holds them)"
            )
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        await asyncio.sleep(_POLL_SECONDS)
