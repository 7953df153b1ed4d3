"""Say, in one sentence each, what this machine lacks for a local cluster."""

import ipaddress
import json
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from localkube import cgroups, layout, network, shell

_CORES = 2
_MEMORY_GIB = 8
_DISK_GIB = 25
_DEBIAN = 12


def problems() -> list[str]:
    """Everything that is missing; an empty list means that `up` may go on."""
    checks: tuple[Callable[[], str | None], ...] = (
        *(_root, _debian, _architecture, _cores, _memory, _disk, _loop_devices, _xfs, _overlay),
        *(_cgroups, _addresses),
    )
    return [problem for check in checks if (problem := check()) is not None]


def _root() -> str | None:
    if os.geteuid() == 0:
        return None
    return "It must run as root, because it makes namespaces and mounts: use sudo."


def _debian() -> str | None:
    path = Path("/etc/os-release")
    lines = path.read_text().splitlines() if path.exists() else []
    fields = {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}
    version = fields.get("VERSION_ID", "0").split(".")[0]
    if fields.get("ID") == "debian" and version.isdigit() and int(version) >= _DEBIAN:
        return None
    return f"It needs Debian {_DEBIAN} or newer; this is {fields.get('PRETTY_NAME', 'unknown')}."


def _architecture() -> str | None:
    if platform.machine() == "x86_64":
        return None
    return f"It was built and tried on x86_64 only; this is {platform.machine()}."


def _cores() -> str | None:
    cores = len(os.sched_getaffinity(0))
    return None if cores >= _CORES else f"It needs {_CORES} cores; there is {cores}."


def _memory() -> str | None:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if pages >= (_MEMORY_GIB - 0.5) * (1 << 30):  # the kernel keeps some for itself
        return None
    return f"It needs {_MEMORY_GIB} GiB of memory; there are {pages / (1 << 30):.1f}."


def _disk() -> str | None:
    """Disk that builds and clusters of ours already use is not missing."""
    needed = 5 if layout.cache_root().joinpath("bin").exists() else _DISK_GIB
    free = shutil.disk_usage(layout.STATE.parent).free / (1 << 30)
    if free >= needed:
        return None
    return f"It needs {needed} GiB of free disk below {layout.STATE.parent}; there are {free:.1f}."


def _loop_devices() -> str | None:
    if Path("/dev/loop-control").exists():
        return None
    return "It needs loop devices for its volumes: load the kernel module `loop`."


def _xfs() -> str | None:
    return _file_system("xfs", "its volumes")


def _overlay() -> str | None:
    return _file_system("overlay", "its containers")


def _file_system(name: str, purpose: str) -> str | None:
    known = Path("/proc/filesystems").read_text().split()
    if name in known or shell.succeeds("modprobe", "--dry-run", name):
        return None
    return f"It needs the file system {name} for {purpose}, and this kernel has none."


def _cgroups() -> str | None:
    missing = cgroups.missing_controllers()
    if not missing:
        return None
    return f"It needs the cgroup controllers {', '.join(missing)}, which are not mounted."


def _addresses() -> str | None:
    """Routes that are not ours and cover our addresses."""
    if network.link_exists(layout.BRIDGE) or shutil.which("ip") is None:
        return None
    ours = [ipaddress.ip_network(cidr) for cidr in
            (layout.NODE_CIDR, layout.POD_CIDR, layout.SERVICE_CIDR)]  # fmt: skip
    for route in json.loads(shell.run("ip", "-json", "-4", "route") or "[]"):
        if route["dst"] == "default":
            continue
        taken = ipaddress.ip_network(route["dst"])
        if any(taken.overlaps(own) for own in ours):
            return f"It needs the addresses {', '.join(map(str, ours))}; {taken} is in use here."
    return None
