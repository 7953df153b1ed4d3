"""A writer and a reader that go on while a test breaks things, and the verdict at the end.

The clients are processes of their own (`support.client`) on the client node, which no fault hits;
they reach the database through its Services as an application does. Their logs are files that this
class follows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from localkube import cluster
from support import client
from support.aurora import Aurora
from support.checker import (
    Attempt,
    History,
    LogReader,
    find_violations,
    first_ack_after,
    longest_outage_seconds,
)
from support.waiting import Failed, NotYet, wait_for

DUMP_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 15.0
DEADLINE_SECONDS = {"write": 3.0, "probe": 0.5, "read": 3.0, "prepare": 3.0, "dump": 3.0}
WriteMode: TypeAlias = Literal["write", "probe"]
StartTraffic: TypeAlias = Callable[[Aurora], "Traffic"]
"""The fixture of the end-to-end tests that starts clients and ends them with the test."""


class Follower:
    """Reads a growing file of JSON lines, each line once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._reader = LogReader()

    def history(self) -> History:
        """Everything up to the last whole line."""
        if self._path.exists():
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                for line in stream:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    self._reader.feed(line.decode())
        return self._reader.history()


class Traffic:
    """One writing and one reading client against an AuroraCluster of the local Kubernetes."""

    def __init__(
        self, aurora: Aurora, folder: Path, name: str, *, write_mode: WriteMode = "write"
    ) -> None:
        """``write_mode``: one session that writes, or a probe with a session for each write."""
        self.aurora = aurora
        self.name = name
        self._write_mode = write_mode
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[Any]] = {}
        self._writes = Follower(folder / f"{name}-{write_mode}.jsonl")
        self._reads = Follower(folder / f"{name}-read.jsonl")

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        for mode in (self._write_mode, "read"):
            (self._folder / f"{self.name}-{mode}.jsonl").unlink(missing_ok=True)
        self._once("prepare")
        self._start(self._write_mode)
        if self.aurora.status().get("readyReplicas"):
            self._start("read")
        self.wait_acked(time.monotonic(), timeout_seconds=10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def writes(self) -> History:
        """What the writing client was told so far."""
        return self._writes.history()

    def reads(self) -> History:
        """What the reading client saw so far."""
        return self._reads.history()

    def wait_acked(
        self, moment: float, *, timeout_seconds: float, not_by: str | None = None
    ) -> Attempt:
        """The first write begun after a moment that was acknowledged (by another server)."""

        def probe() -> Attempt:
            history = self.writes()
            found = first_ack_after(history, moment, not_by=not_by)
            if found is None:
                raise NotYet(_last_words(history))
            return found

        return wait_for(
            f"{self.name}: an acknowledged write",
            probe,
            timeout_seconds=timeout_seconds,
            interval_seconds=0.1,
        )

    def wait_read(self, number: int, *, timeout_seconds: float) -> None:
        """Wait until the reading client has seen an id."""

        def probe() -> None:
            reads = self.reads().reads
            if not any(number in look.ids for look in reads):
                last = reads[-1] if reads else None
                raise NotYet(f"id {number} not among the rows read; last look: {last}")

        wait_for(f"{self.name}: row {number} is read", probe, timeout_seconds=timeout_seconds)

    def stop(self) -> None:
        """End the clients; each finishes the attempt that is under way."""
        for process in self._processes.values():
            process.terminate()
        for mode, process in self._processes.items():
            try:
                code = process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_TIMEOUT_SECONDS)
                raise Failed(f"{self.name}: the {mode} client did not stop") from None
            if code != 0:
                raise Failed(f"{self.name}: the {mode} client ended with {code}; see its .err file")
        self._processes.clear()

    def verdict(self) -> list[str]:
        """Stop, read the whole table, and name every broken promise."""
        self.stop()
        return find_violations(self.writes(), self.table_ids(), self.reads())

    def table_ids(self, host: str | None = None) -> list[int]:
        """All ids of this writer that are in the table now, as the writer or `host` shows it."""
        text = self._once("dump", host)
        ids: list[int] = json.loads(text.splitlines()[-1])["ids"]
        return ids

    def takes_writes(self, host: str) -> bool:
        """Whether the instance at an address does what only a writer can."""
        argv = cluster.client_command(*self._argv("prepare", "-", host=host))
        done = subprocess.run(
            argv, env=_environment(), capture_output=True, timeout=10, check=False
        )
        return done.returncode == 0

    def longest_outage_seconds(self, since: float, until: float) -> float:
        """The longest time without an acknowledged write in a window."""
        return longest_outage_seconds(self.writes(), since, until)

    def _argv(
        self, mode: str, out: str, *, reader: bool = False, host: str | None = None
    ) -> list[str]:
        secret = self.aurora.secret()
        password = self._folder / f"{self.name}.password"
        password.touch(mode=0o600)
        password.write_text(secret["password"])  # a cluster made anew may have a new one
        host = host or self.aurora.service_address(reader=reader)
        return [
            *(sys.executable, client.__file__, mode),
            *("--host", host, "--port", secret["port"]),
            *("--user", secret["username"], "--dbname", secret["dbname"]),
            *("--client", self.name, "--out", out),
            *("--interval-seconds", "0.25" if reader else "0.02"),
            *("--statement-timeout-seconds", str(DEADLINE_SECONDS[mode])),
            *("--password-file", str(password)),
        ]

    def _start(self, mode: str) -> None:
        out = self._folder / f"{self.name}-{mode}.jsonl"
        with (self._folder / f"{self.name}-{mode}.err").open("w") as errors:
            argv = self._argv(mode, str(out), reader=mode == "read")
            self._processes[mode] = cluster.client_exec(*argv, stderr=errors, env=_environment())

    def _once(self, mode: str, host: str | None = None) -> str:
        """Run a client that ends by itself; again until it works, or a minute has passed."""
        argv = cluster.client_command(*self._argv(mode, "-", host=host))

        def probe() -> str:
            done = subprocess.run(
                argv, env=_environment(), capture_output=True, text=True, timeout=30, check=False
            )
            if done.returncode != 0:
                raise NotYet(done.stderr.strip().rpartition("\n")[2])
            return done.stdout

        return wait_for(
            f"{self.name}: {mode}", probe, timeout_seconds=DUMP_TIMEOUT_SECONDS, interval_seconds=1
        )


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")}


def _last_words(history: History) -> str:
    last = history.attempts[-1] if history.attempts else None
    refused = history.refused_connections[-1] if history.refused_connections else None
    return f"last attempt: {last}; last refused connection: {refused}"
