"""Component tests: real PostgreSQL 17 without a cluster, in the engine image's own file system.

The host has neither trixie's PostgreSQL nor its Python, so the tests run where the agent will run:
in the engine image (without our wheel) plus the locked test tools. The checkout is mounted
read-only and our package imported from it, so a change of Python code needs no build.

Memory answers an fsync at once. A run that has to pay for it gets a folder of a real disk,
``--disk FOLDER``, mounted where pods have theirs.

Each run has mount, process and network namespaces of its own. The kernel takes all of it down
with the first process, so nothing is left behind even when the run is killed, and two runs never
fight over a port.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from imagekit import base, buildah, wheels
from imagekit.cache import CHECKOUT, cache_dir, digest_of, keep
from imagekit.process import run
from imagekit.recipes import engine_runtime

USER_ID = 26
PACKAGES = "opt/tests"
DISK = "var/lib/aurora"
TMPFS_SIZE = "4g"
SMALL_DISKS = 6
SMALL_DISK_SIZE = "384m"
"""``/run/small/0`` to ``5``: disks that a test may fill to the last byte."""
PR_SET_PDEATHSIG = 1
DISK_VARIABLE = "AURORA_COMPONENT_DISK"
MS_NOSUID, MS_NODEV = 2, 4
LOSING_DISK = "run/losing"
ENVIRONMENT = {
    "HOME": "/tmp",
    "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis",
    "LANG": "C.UTF-8",
    "PATH": f"/{PACKAGES}/bin:/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/bin:/bin",
    # The checkout is read-only: pytest keeps no cache in it.
    "PYTEST_ADDOPTS": "-p no:cacheprovider",
    "PYTHONPATH": f"/src/operator:/src/tests:/{PACKAGES}",
    # One cache for all processes of a run: every agent would compile our code anew.
    "PYTHONPYCACHEPREFIX": "/tmp/pycache",
    "PYTHONUNBUFFERED": "1",
    "TERM": os.environ.get("TERM", "dumb"),
}


def ensure_root() -> Path:
    """The file system for component tests; made when the image's inputs or the tools change."""
    tools = [Path(wheels.__file__), wheels.TEST_LOCK]
    folder = cache_dir("component") / digest_of([engine_runtime().inputs, *tools])
    return keep(folder, _make_root, "file system for component tests")


def _make_root(scratch: Path) -> None:
    runtime = engine_runtime()
    with tempfile.TemporaryDirectory() as context, buildah.our_store():
        base.ensure()
        runtime.lay_out(Path(context))
        buildah.build(Path(context), runtime.reference, runtime.inputs, target="runtime")
        with buildah.mounted(runtime.reference) as root:
            run(["cp", "-a", f"{root}/.", scratch])
    wheels.install_into(scratch / PACKAGES, wheels.TEST_LOCK)
    shutil.rmtree(scratch / "opt/aurora")
    for name in ("src", "tmp", "dev", "proc", "run", DISK):
        (scratch / name).mkdir(parents=True, exist_ok=True)


def run_inside(command: Sequence[str], disk: Path | None = None) -> int:
    """Run ``command`` in the component root, as PostgreSQL's user; return its exit code.

    It may write into ``disk``, a folder that must exist.
    """
    root = ensure_root()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    if disk is not None:
        shutil.chown(disk, USER_ID, USER_ID)
        environment[DISK_VARIABLE] = str(disk.resolve())
    process = subprocess.Popen(
        [
            "unshare",
            *("--mount", "--propagation=private", "--pid", "--fork", "--kill-child"),
            *("--net", "--ipc", "--uts"),
            *(sys.executable, __file__, str(root), *command),
        ],
        env=environment,
        preexec_fn=_end_with_parent,
    )
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the terminal told the tests too; they end, and then this does


def _end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however the parent ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def _enter(root: Path) -> None:
    """Lay the mounts and move in. Nobody outside this namespace sees them."""
    mounts = [
        ("--bind", str(root), root),
        ("-t", "proc", "proc", root / "proc"),
        ("-t", "tmpfs", "-o", f"mode=1777,size={TMPFS_SIZE}", "tmpfs", root / "tmp"),
        ("-t", "tmpfs", "-o", "mode=1777", "tmpfs", root / "run"),
        ("-t", "tmpfs", "-o", "mode=755", "tmpfs", root / "dev"),
        ("--bind", "-o", "ro", str(CHECKOUT), root / "src"),
    ]
    if disk := os.environ.get(DISK_VARIABLE):
        mounts.append(("--bind", disk, root / DISK))
    for words in mounts:
        run(["mount", *words])
    run(["mount", "-o", "remount,bind,ro", root / "src"])
    for device in ("null", "zero", "full", "random", "urandom", "tty"):
        (root / "dev" / device).touch()
        run(["mount", "--bind", f"/dev/{device}", root / "dev" / device])
    (root / "dev/shm").mkdir()
    run(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", root / "dev/shm"])
    for number in range(SMALL_DISKS):
        disk = root / "run/small" / str(number)
        disk.mkdir(parents=True)
        run(["mount", "-t", "tmpfs", "-o", f"mode=1777,size={SMALL_DISK_SIZE}", "tmpfs", disk])
    _mount_losing_disk(root)
    run(["ip", "link", "set", "lo", "up"])
    os.chroot(root)
    os.chdir("/src")


def _mount_losing_disk(root: Path) -> None:
    """Mount a file system that a test serves itself, on a descriptor that the test inherits.

    Mounting needs the privilege that this process is about to give up; serving needs none. Nobody
    answers on it until a test does (``tests/support/losing_disk.py``).
    """
    if not Path("/dev/fuse").exists():
        return  # the tests that need it say so
    place = root / LOSING_DISK
    place.mkdir()
    descriptor = os.open("/dev/fuse", os.O_RDWR)
    os.set_inheritable(descriptor, True)
    options = f"fd={descriptor},rootmode=40000,user_id={USER_ID},group_id={USER_ID}"
    words = (b"losing", os.fsencode(place), b"fuse", MS_NOSUID | MS_NODEV, options.encode())
    if ctypes.CDLL(None, use_errno=True).mount(*words) != 0:
        raise OSError(ctypes.get_errno(), "the losing disk could not be mounted")
    ENVIRONMENT["AURORA_LOSING_DISK"] = f"{descriptor}:/{LOSING_DISK}"


def _become_user_and_run(command: Sequence[str]) -> NoReturn:
    os.setgroups([])
    os.setgid(USER_ID)
    os.setuid(USER_ID)
    try:
        os.execvpe(command[0], list(command), ENVIRONMENT)
    except OSError as error:
        print(f"cannot run {command[0]} in the component root: {error}", file=sys.stderr)
        os._exit(127)


def _serve_as_init(child: int) -> int:
    """Be process 1: reap what is orphaned, pass signals on, end with the child's exit code.

    When process 1 ends, the kernel kills whatever is left in the namespace.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: os.kill(child, received))
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def _main(root: Path, command: Sequence[str]) -> int:
    # unshare --kill-child tells the kernel to end this process when unshare ends.
    _enter(root)
    child = os.fork()
    if child == 0:
        _become_user_and_run(command)
    return abs(_serve_as_init(child))


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), sys.argv[2:]))
