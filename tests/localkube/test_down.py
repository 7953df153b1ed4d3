"""Taking the cluster down leaves nothing, in whatever state it is: run this last.

The cluster is down afterwards; with LOCALKUBE_KEEP=1 it is brought up again.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localkube import faults, lifecycle, network, shell

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True, scope="module")
def _up_again() -> Iterator[None]:
    yield
    if os.environ.get("LOCALKUBE_KEEP"):
        lifecycle.up()


def routes() -> str:
    return shell.run("ip", "-4", "route")


def test_down_leaves_nothing_of_a_cluster_with_faults_in_force() -> None:
    lifecycle.up()
    assert lifecycle.leftovers(), "a running cluster must be seen, or this test proves nothing"
    faults.cut(["zone-a"])
    faults.freeze_nodes(["zone-b"])

    lifecycle.down()

    assert lifecycle.leftovers() == []
    assert "10.96." not in routes()


@pytest.mark.parametrize("step", ["starting control plane", "waiting for nodes"])
def test_down_cleans_up_after_a_killed_up(step: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "localkube", "up"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if step in line:
                break
        shell.wait_until(
            "no node has begun",
            lambda: None if network.leftovers() else "no link yet",
            timeout_seconds=30,
        )
        running.send_signal(signal.SIGKILL)

    lifecycle.down()

    assert lifecycle.leftovers() == []


def test_down_of_nothing_is_fine() -> None:
    lifecycle.down()

    assert lifecycle.leftovers() == []
