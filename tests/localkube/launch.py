"""Start supervisors, and tell whether the one that a pid file names is still ours."""

import os
import subprocess
import sys
from pathlib import Path

from localkube import cgroups, layout, shell
from localkube.errors import LocalKubeError
from localkube.supervisor import Spec

_SOURCE_ROOT = Path(__file__).parent.parent
_START_LIMIT_SECONDS = 30.0


def launch(spec: Spec, folder: Path) -> None:
    """Start a supervisor in the background; returns when its pid file is there."""
    layout.RUN.mkdir(parents=True, exist_ok=True)
    Path(spec.pid_file).unlink(missing_ok=True)
    Path(spec.log_folder).mkdir(parents=True, exist_ok=True)
    spec_file = folder / "supervisor.json"
    spec.write(spec_file)
    log_path = Path(spec.log_folder) / "supervisor.log"
    with log_path.open("ab") as log:
        done = subprocess.run(
            [sys.executable, "-m", "localkube.supervisor", str(spec_file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=os.environ | {"PYTHONPATH": str(_SOURCE_ROOT), "PYTHONSAFEPATH": "1"},
            timeout=_START_LIMIT_SECONDS,
            check=False,
        )
    if done.returncode != 0 or not Path(spec.pid_file).exists():
        said = log_path.read_text(errors="replace")[-1500:]
        raise LocalKubeError(f"{spec.name} cannot be started; {log_path} ends with: {said}")


def pid_of(pid_file: Path, group: str) -> int | None:
    """The supervisor's pid, or None when it is gone (the pid may belong to another by now)."""
    try:
        pid = int(pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    ours = b"localkube.supervisor" in command and pid in cgroups.pids_below(group)
    return pid if ours else None


def in_node(pid: int, *argv: str | Path, timeout_seconds: float = 120) -> str:
    """Run a program inside a node: its mounts, network and processes."""
    enter = ("nsenter", f"--target={pid}", "--mount", "--net", "--pid", "--uts", "--")
    return shell.run(*enter, *argv, timeout_seconds=timeout_seconds)
