"""Control groups, version 1 (tried) and version 2 (written after its documentation, untried).

A node's processes and pods live below one group of each hierarchy; so they can be counted,
frozen and killed together, and what a killed run left behind can be found.
"""

import os
import signal
import time
from pathlib import Path

from localkube import layout
from localkube.errors import LocalKubeError

ROOT = Path("/sys/fs/cgroup")
_V1_CONTROLLERS = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")
_V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")


def is_v2() -> bool:
    """Whether the whole tree is version 2 (a hybrid tree counts as version 1)."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """The root of every hierarchy in use; `cpu` and `cpuacct` may be the same one by two names."""
    if is_v2():
        return [ROOT]
    found: dict[tuple[int, int], Path] = {}
    for path in sorted(ROOT.iterdir()) if ROOT.is_dir() else []:
        if path.is_dir() and (path / "cgroup.procs").exists():
            status = path.stat()
            found.setdefault((status.st_dev, status.st_ino), path)
    return list(found.values())


def missing_controllers() -> list[str]:
    """Controllers that a kubelet needs and this machine does not offer."""
    if is_v2():
        offered = (ROOT / "cgroup.controllers").read_text().split()
        return [name for name in _V2_CONTROLLERS if name not in offered]
    return [name for name in _V1_CONTROLLERS if not (ROOT / name / "cgroup.procs").exists()]


def create(group: str) -> None:
    """Make a group in every hierarchy, ready for children."""
    for hierarchy in hierarchies():
        path = hierarchy
        for part in Path(group).parts:
            if is_v2():
                offered = (path / "cgroup.controllers").read_text().split()
                wanted = " ".join(f"+{name}" for name in _V2_CONTROLLERS if name in offered)
                (path / "cgroup.subtree_control").write_text(wanted)
            path /= part
            path.mkdir(exist_ok=True)
            _inherit_cpuset(path)


def _inherit_cpuset(path: Path) -> None:
    """A version 1 cpuset begins empty and then takes no process."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        own = path / name
        if not is_v2() and own.exists() and not own.read_text().strip():
            own.write_text((path.parent / name).read_text())


def join(group: str, pid: int) -> None:
    """Move a process into a group in every hierarchy."""
    for hierarchy in hierarchies():
        (hierarchy / group / "cgroup.procs").write_text(str(pid))


def groups_below(group: str) -> list[Path]:
    """The group's directories in all hierarchies, children before their parents."""
    found: list[Path] = []
    for hierarchy in hierarchies():
        top = hierarchy / group
        if top.is_dir():
            found.extend(Path(folder) for folder, _, _ in os.walk(top, topdown=False))
    return found


def pids_below(group: str) -> set[int]:
    """Processes of the group and of all below it."""
    pids: set[int] = set()
    for path in groups_below(group):
        try:
            pids.update(int(line) for line in (path / "cgroup.procs").read_text().split())
        except (FileNotFoundError, OSError):  # the group went away while we looked
            continue
    return pids


def freezer_group(group: str) -> Path:
    """Where the group is frozen and thawed."""
    return (ROOT if is_v2() else ROOT / "freezer") / group


def set_frozen(path: Path, frozen: bool, timeout_seconds: float = 10) -> None:
    """Freeze or thaw a group with all below it, and wait until the kernel says so."""
    if is_v2():
        (path / "cgroup.freeze").write_text("1" if frozen else "0")
    else:
        (path / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
    deadline = time.monotonic() + timeout_seconds
    while is_frozen(path) is not frozen:
        if time.monotonic() >= deadline:
            raise LocalKubeError(f"{path} is not {'frozen' if frozen else 'thawed'} in time")
        time.sleep(0.01)


def is_frozen(path: Path) -> bool:
    """Whether every process of the group stands still."""
    if is_v2():
        return "frozen 1" in (path / "cgroup.events").read_text()
    return (path / "freezer.state").read_text().strip() == "FROZEN"


def asked_to_freeze(path: Path) -> bool:
    """Whether this very group (not one above it) was told to freeze."""
    if is_v2():
        return (path / "cgroup.freeze").read_text().strip() == "1"
    return (path / "freezer.self_freezing").read_text().strip() == "1"


def thaw_all(group: str) -> list[str]:
    """Thaw the group and all below it; returns what had been frozen."""
    thawed = []
    top = freezer_group(group)
    folders = [Path(folder) for folder, _, _ in os.walk(top)] if top.is_dir() else []
    for path in folders:
        try:
            if asked_to_freeze(path):
                set_frozen(path, False)
                thawed.append(str(path))
        except FileNotFoundError:  # a pod that ended meanwhile
            continue
    return thawed


def kill_all(group: str, timeout_seconds: float = 20) -> None:
    """SIGKILL every process below the group until none is left."""
    thaw_all(group)
    deadline = time.monotonic() + timeout_seconds
    while pids := pids_below(group):
        if time.monotonic() >= deadline:
            raise LocalKubeError(f"processes of {group} survive SIGKILL: {sorted(pids)[:20]}")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def remove(group: str, timeout_seconds: float = 10) -> None:
    """Remove the group with all below it.

    A process that was just being started when its `up` was killed may join only now: whatever is
    found here is killed as well.
    """
    deadline = time.monotonic() + timeout_seconds
    while paths := groups_below(group):
        kill_all(group)
        for path in paths:
            try:
                path.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:  # a process that is just ending still counts
                if time.monotonic() >= deadline:
                    raise LocalKubeError(f"cgroup {path} cannot be removed: {error}") from error
        time.sleep(0.02)


def describe_kind() -> str:
    """One word on what this machine has, for messages."""
    return "v2 (untried)" if is_v2() else "v1"


def top_groups() -> list[str]:
    """Directories of ours that exist in any hierarchy."""
    return [str(h / layout.CGROUP) for h in hierarchies() if (h / layout.CGROUP).exists()]
