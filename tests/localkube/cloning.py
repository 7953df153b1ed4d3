"""Give a node an image that another node has, by hard links instead of unpacking it again.

All nodes share one disk, and nobody writes to an unpacked layer: containers write to their own.
So a layer's files can be the same inodes on every node, which saves time, disk and page cache.
Only containerd's own commands are used: each layer is prepared as a snapshot, filled with links
and committed under the name that unpacking would have given it; blobs are linked into the store,
where containerd takes what is there instead of asking for it.
"""

import hashlib
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from localkube import launch
from localkube.errors import LocalKubeError
from localkube.layout import Node

_CTR = "ctr --namespace k8s.io"
_IN_NODE = "/var/lib/containerd"
_BLOBS = Path("io.containerd.content.v1.content/blobs/sha256")
_CLONE_LIMIT_SECONDS = 120.0


@dataclass(frozen=True)
class Layer:
    """One unpacked layer: the blob it came from, and its name with all below it."""

    digest: str
    size_bytes: int
    chain_id: str


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The names of a stack of layers, as the OCI image specification defines them."""
    names: list[str] = []
    for diff_id in diff_ids:
        both = f"{names[-1]} {diff_id}" if names else ""
        names.append(f"sha256:{hashlib.sha256(both.encode()).hexdigest()}" if both else diff_id)
    return names


def lower_folders(mount_command: str) -> list[str]:
    """The folders of a read-only snapshot, lowest layer first, from `ctr snapshots mounts`."""
    stacked = re.search(r"lowerdir=([^,\s]+)", mount_command)
    if stacked:
        return stacked[1].split(":")[::-1]
    single = re.search(r"mount -t bind (\S+)", mount_command)
    if single is None:
        raise LocalKubeError(f"no folders in {mount_command!r}")
    return [single[1]]


def clone_layers(
    source: Node, source_pid: int, target: Node, pid: int, layers: list[Layer]
) -> None:
    """Make all layers of the source known to the target's containerd."""
    folders = _folders_of(source, source_pid, layers[-1].chain_id)
    if len(folders) != len(layers):
        raise LocalKubeError(f"{source.name} has {len(folders)} of {len(layers)} layers")
    words = ("ctr", "--namespace", "k8s.io")
    held = set(launch.in_node(pid, *words, "content", "list", "--quiet").split())
    here = launch.in_node(pid, *words, "snapshots", "list")
    known = {line.split()[0] for line in here.splitlines()[1:]}
    script = ["set -e"]
    for number, (layer, folder) in enumerate(zip(layers, folders, strict=True)):
        if layer.digest not in held:
            _link_blob(source, target, layer.digest)
            script.append(_ingest(target, layer))
        if layer.chain_id not in known:
            below = layers[number - 1].chain_id if number else ""
            script += _fill_snapshot(target, layer.chain_id, below, folder)
    launch.in_node(pid, "sh", "-c", "\n".join(script), timeout_seconds=_CLONE_LIMIT_SECONDS)


def _folders_of(node: Node, pid: int, chain_id: str) -> list[Path]:
    view = f"view-{os.getpid()}-{os.urandom(4).hex()}"
    # Told by the call that makes the view: containerd's garbage collection, which any deletion
    # starts, may take it right away. Then there is nothing left to remove either.
    said = launch.in_node(
        *(pid, "sh", "-c"),
        f"{_CTR} snapshots view --target /nowhere {view} {chain_id} || exit 1; "
        f"{_CTR} snapshots rm {view} 2>&1 | grep -v 'not found' >&2 || true",
    )
    return [_on_host(node, folder) for folder in lower_folders(said)]


def _on_host(node: Node, folder: str) -> Path:
    """The same folder outside the node's bind mount: links do not cross mounts."""
    return node.state / "containerd" / Path(folder).relative_to(_IN_NODE)


def _link_blob(source: Node, target: Node, digest: str) -> None:
    name = digest.removeprefix("sha256:")
    blob = target.state / "containerd" / _BLOBS / name
    blob.parent.mkdir(parents=True, exist_ok=True)
    if not blob.exists():
        os.link(source.state / "containerd" / _BLOBS / name, blob)


def _ingest(target: Node, layer: Layer) -> str:
    """Register a blob; its own file is the input, though containerd finds that it has it all."""
    expected = f"--expected-digest {layer.digest} --expected-size {layer.size_bytes}"
    blob = target.state / "containerd" / _BLOBS / layer.digest.removeprefix("sha256:")
    return f"{_CTR} content ingest {expected} clone-{layer.digest} <{shlex.quote(str(blob))}"


def _fill_snapshot(target: Node, chain_id: str, below: str, folder: Path) -> list[str]:
    key = f"clone-{os.getpid()}-{os.urandom(4).hex()}"
    found = r"s/.*upperdir=\([^, ]*\).*/\1/p; s/^mount -t bind \([^ ]*\) .*/\1/p"
    own = shlex.quote(str(target.state / "containerd"))
    return [
        f"{_CTR} snapshots prepare {key} {below} >/dev/null",
        f"inside=$({_CTR} snapshots mounts /nowhere {key} | sed -n '{found}')",
        'test -n "$inside"',
        f"cp -al {shlex.quote(str(folder))}/. {own}/${{inside#{_IN_NODE}/}}/",
        f"{_CTR} snapshots commit {chain_id} {key}",
    ]
