"""Volumes of real size: a sparse file with XFS on it, loop-mounted inside one node.

Such a volume fills up, keeps its data when the node loses power, can be grown while mounted and
clones files by reflink. A volume is two paths of its node: volumes/NAME.img, which stays, and
mounts/NAME, which exists in the node's mount namespace only. What Kubernetes knows of it is the
provisioner's business.
"""

import os
from pathlib import Path

from localkube import shell
from localkube.layout import Node

MINIMUM_BYTES = 300 << 20  # mkfs.xfs refuses less
_FORMAT_LIMIT_SECONDS = 60.0


def usable_size(requested_bytes: int) -> int:
    """The size a volume gets: what was asked for, in whole MiB, at least what XFS needs."""
    whole_mib = -(-requested_bytes // (1 << 20)) << 20
    return max(MINIMUM_BYTES, whole_mib)


def image_path(node: Node, name: str) -> Path:
    """The file that holds the volume."""
    return node.state / "volumes" / f"{name}.img"


def mount_path(node: Node, name: str) -> Path:
    """Where the node's pods get it from."""
    return node.state / "mounts" / name


def images_of(node: Node) -> list[Path]:
    """The files of all volumes of a node."""
    return sorted((node.state / "volumes").glob("*.img"))


def create(node: Node, name: str, size_bytes: int) -> None:
    """Make and format the file; one that has its final name is whole and is kept."""
    image = image_path(node, name)
    if image.exists():
        return
    image.parent.mkdir(parents=True, exist_ok=True)
    unfinished = image.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with unfinished.open("xb") as file:
        os.truncate(file.fileno(), size_bytes)
    shell.run(
        *("mkfs.xfs", "-q", "-m", "reflink=1", unfinished), timeout_seconds=_FORMAT_LIMIT_SECONDS
    )
    unfinished.replace(image)


def mount_here(image: Path) -> None:
    """Mount in the mount namespace of the caller; the loop device goes with the mount."""
    target = image.parent.parent / "mounts" / image.stem
    target.mkdir(parents=True, exist_ok=True)
    shell.run("mount", "-o", "loop,noatime", image, target)


def is_mounted(node_pid: int, target: Path) -> bool:
    """Whether the node has the volume mounted."""
    lines = Path(f"/proc/{node_pid}/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(target) for line in lines)


def mount_in_node(node: Node, node_pid: int, name: str) -> None:
    """Mount in the node, if it is not."""
    target = mount_path(node, name)
    if is_mounted(node_pid, target):
        return
    target.mkdir(parents=True, exist_ok=True)
    shell.run(*_inside(node_pid), "mount", "-o", "loop,noatime", image_path(node, name), target)


def grow(node: Node, node_pid: int, name: str, size_bytes: int) -> None:
    """Grow file, loop device and file system under whoever uses them; never shrinks."""
    image = image_path(node, name)
    if image.stat().st_size < size_bytes:
        os.truncate(image, size_bytes)
    for device in _loop_devices(image):
        shell.run("losetup", "--set-capacity", device)
    shell.run(*_inside(node_pid), "xfs_growfs", "-d", mount_path(node, name))


def delete(node: Node, node_pid: int | None, name: str) -> None:
    """Unmount where mounted and remove for ever."""
    target = mount_path(node, name)
    if node_pid is not None and is_mounted(node_pid, target):
        shell.run(*_inside(node_pid), "umount", target)
    image_path(node, name).unlink(missing_ok=True)
    if target.exists():
        target.rmdir()


def _inside(node_pid: int) -> tuple[str, ...]:
    """Enter the node's mounts; its processes too, or the /proc there would not know the caller."""
    return ("nsenter", f"--target={node_pid}", "--mount", "--pid", "--")


def _loop_devices(image: Path) -> list[str]:
    listed = shell.run("losetup", "--associated", image, "--noheadings", "--output", "NAME")
    return listed.split()


def loop_devices_below(folder: Path) -> list[str]:
    """Loop devices whose file lies (or lay) below a folder, as `device file`."""
    listed = shell.run("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE")
    return [line for line in listed.splitlines() if f" {folder}/" in line]
