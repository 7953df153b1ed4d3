"""A virtual environment with the locked development dependencies, made when it is missing.

It lies in the cache under a name that is a digest of the lock file and of the Python that runs it,
so a changed lock means a new environment and an old one is never half right. A stamp written last
says that it is whole; one without a stamp (an earlier run was killed) is thrown away. The project
itself is not installed into it: its folders are put on PYTHONPATH, so that two checkouts can share
one environment.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tools.paths import IMPORT_PATH, ROOT, cache_root
from tools.say import complain, say

LOCK_FILE: Final = ROOT / "requirements-dev.lock"
PYTHON_OLDEST: Final = (3, 11)
APT_TIMEOUT_SECONDS: Final = 600
PIP_TIMEOUT_SECONDS: Final = 900


class SetupError(Exception):
    """The environment cannot be made; the text says what to do."""


def environment() -> dict[str, str]:
    """The environment of every program that the Makefile starts."""
    path = os.pathsep.join(str(folder) for folder in IMPORT_PATH)
    return os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def python() -> Path:
    """The environment's interpreter; the environment is made first when it is not there."""
    if sys.version_info < PYTHON_OLDEST:
        raise SetupError(
            f"Python {sys.version.split()[0]} is too old; this project needs 3.11 or newer."
            " Name another with `make PYTHON=python3.13 …`."
        )
    digest = hashlib.sha256(LOCK_FILE.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache_root() / f"venv-{digest}"
    stamp = folder / "complete"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists():
            _make(folder)
            stamp.touch()
    return folder / "bin" / "python"


def _make(folder: Path) -> None:
    complain(f"making the Python environment {folder} (about a minute) …")
    _have_venv_module()
    if folder.exists():
        shutil.rmtree(folder)
    _run([sys.executable, "-m", "venv", str(folder)], 120)
    interpreter = str(folder / "bin" / "python")
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([interpreter, *install, "--require-hashes", "-r", str(LOCK_FILE)], PIP_TIMEOUT_SECONDS)


def _have_venv_module() -> None:
    """Debian keeps `ensurepip` in a package of its own, which a bare machine lacks."""
    if importlib.util.find_spec("ensurepip") is not None:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError("Python's venv module is not complete; install the package python3-venv.")
    _run(["apt-get", "-qq", "update"], APT_TIMEOUT_SECONDS)
    install = ["apt-get", "-qq", "--no-install-recommends", "install", "python3-venv"]
    _run(install, APT_TIMEOUT_SECONDS)


def _run(argv: list[str], timeout_seconds: float) -> None:
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            argv,
            env=os.environ | quiet,
            timeout=timeout_seconds,
            check=False,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired as error:
        raise SetupError(
            f"{' '.join(argv)} was stopped after {timeout_seconds:.0f} s; run it again when the"
            " package servers answer."
        ) from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise SetupError(f"{' '.join(argv)} ended with {done.returncode}:\n{said}")


if __name__ == "__main__":
    try:
        say(str(python()))
    except SetupError as error:
        complain(f"error: {error}")
        sys.exit(1)
