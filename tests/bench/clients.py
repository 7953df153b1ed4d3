"""The client of every arm: pgbench, or a session, over TCP with TLS or without."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

SCALE = 2
"""200,000 accounts."""
FILL_PERCENT = 60
"""Room in each page for new versions of its rows, so that pages stay the same ones."""
CHECKPOINTS = {"checkpoint_timeout": "1h", "max_wal_size": "8GB"}
"""In all arms: after a checkpoint each page's first change logs the whole page, which would make
the transactions of a slow arm larger than those of a fast one."""
_TPS = re.compile(r"^tps = ([0-9.]+) \(without initial", re.MULTILINE)
_DONE = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Target:
    """A server that takes clients."""

    host: str
    port: int
    user: str
    database: str
    password: str = ""

    @property
    def conninfo(self) -> str:
        """For a session with TLS."""
        return make_conninfo(
            host=self.host,
            port=self.port,
            user=self.user,
            dbname=self.database,
            password=self.password,
            sslmode="require",
        )

    def session(self) -> psycopg.Connection[Any]:
        """A session that commits each statement."""
        return psycopg.connect(self.conninfo, autocommit=True)

    def answers(self) -> bool:
        """Whether it takes clients; raises why not."""
        self.session().close()
        return True

    def pgbench(self, *arguments: str, tls: bool = True) -> str:
        """Run pgbench against it; its output."""
        environment = {
            **os.environ,
            "PGPASSWORD": self.password,
            "PGSSLMODE": "require" if tls else "disable",
        }
        words = ["pgbench", "-h", self.host, "-p", str(self.port), "-U", self.user]
        done = subprocess.run(
            [*words, *arguments, self.database],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"pgbench at {self.host}:{self.port} failed: {done.stderr[-800:]}")
        return done.stdout

    def fill(self) -> None:
        """Make pgbench's tables."""
        self.pgbench("-i", "-q", "-s", str(SCALE), "-F", str(FILL_PERCENT))

    def touch_every_page(self) -> None:
        """Get checkpoint and full page images over with."""
        with self.session() as session:
            session.execute("CHECKPOINT")
            session.execute(
                "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE ctid = ANY"
                " (SELECT min(ctid) FROM pgbench_accounts GROUP BY (ctid::text::point)[0])"
            )

    def simple_updates(self, clients: int, seconds: float, *, tls: bool) -> tuple[float, int]:
        """pgbench -N: transactions a second, and how many there were."""
        output = self.pgbench(
            *("-n", "-N", "-c", str(clients), "-j", str(min(clients, 2))),
            *("-T", str(max(1, round(seconds)))),
            tls=tls,
        )
        tps, done = _TPS.search(output), _DONE.search(output)
        if tps is None or done is None:
            raise RuntimeError(f"pgbench said {output!r}")
        return float(tps[1]), int(done[1])
