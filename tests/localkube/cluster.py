"""The local cluster as tests and scripts use it; everything here needs a cluster that is up.

Programs that play a client run in the client node's network, where Services answer and names
resolve, and where no fault ever strikes.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from localkube import archives, cgroups, gobuild, layout, lifecycle, network, nodes, shell
from localkube.apiclient import Api, Json
from localkube.archives import Image
from localkube.errors import LocalKubeError
from localkube.layout import Node
from localkube.locks import exclusive

_PARALLEL_IMPORTS = 2
_LOAD_LIMIT_SECONDS = 600.0
_KUBECTL_LIMIT_SECONDS = 120.0
# The group makes `down` find the program; the bind mount is seen by this program only.
_AS_CLIENT = 'echo $$ > "$1" && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"'

up = lifecycle.up
down = lifecycle.down
leftovers = lifecycle.leftovers


@dataclass(frozen=True)
class PodProcess:
    """A process of a pod, as the host sees it."""

    pid: int
    container: str
    command: str


def kubeconfig_path() -> Path:
    """The admin's kubeconfig."""
    return layout.KUBECONFIG


def helm_path() -> Path:
    """The pinned helm."""
    return gobuild.path_of("helm")


def kubectl(
    *arguments: str,
    input_text: str | None = None,
    timeout_seconds: float = _KUBECTL_LIMIT_SECONDS,
) -> str:
    """What kubectl prints; a failure is a LocalKubeError with what it said."""
    return shell.run(
        layout.BIN / "kubectl",
        f"--kubeconfig={layout.KUBECONFIG}",
        *arguments,
        input_text=input_text,
        timeout_seconds=timeout_seconds,
    )


def kubectl_json(*arguments: str) -> Any:
    """What `kubectl … --output=json` tells."""
    return json.loads(kubectl(*arguments, "--output=json"))


def node_names() -> list[str]:
    """The six nodes that faults may hit."""
    return [node.name for node in layout.FAULT_NODES]


def zones() -> dict[str, list[str]]:
    """The nodes of every zone."""
    return {
        zone: [node.name for node in layout.FAULT_NODES if node.zone == zone]
        for zone in layout.ZONES
    }


def node_of_pod(namespace: str, pod: str) -> Node:
    """The node that a pod was given to."""
    return _node_of(_pod(namespace, pod))


def pids_of_pod(namespace: str, pod: str) -> list[PodProcess]:
    """Every process of a pod's containers (not the sandbox), the oldest first."""
    document = _pod(namespace, pod)
    containers = _container_names(document)
    found = []
    for pid, group in sorted(nodes.pids_of_pod(_node_of(document), _uid(document)).items()):
        command = _command_line(pid)
        if group in containers and command is not None:
            found.append(PodProcess(pid, containers[group], command))
    return sorted(found, key=lambda process: _started_ticks(process.pid))


def group_of_pod(namespace: str, pod: str) -> Path:
    """The control group by which a pod is frozen."""
    document = _pod(namespace, pod)
    groups = nodes.pod_groups(_node_of(document), _uid(document))
    if not groups:
        raise LocalKubeError(f"pod {namespace}/{pod} runs nothing on {_node_of(document).name}")
    return groups[0]


def load_image(archive: Path, names: Iterable[str] | None = None) -> None:
    """Import an image archive into nodes (by names of nodes or zones; all six if none is named).

    A node that has this very image already is left alone.
    """
    chosen = layout.nodes_of(list(names)) if names is not None else layout.FAULT_NODES
    image = archives.read(archive)
    with exclusive(layout.RUN / "load.lock", _LOAD_LIMIT_SECONDS):
        _spread(image, [node for node in chosen if not archives.has(node, image)])


def _spread(image: Image, lacking: list[Node]) -> None:
    """Unpack an image once and clone it from there; also nodes that nobody asked about have it."""
    if not lacking:
        return
    on = [node for node in layout.NODES if nodes.pid_of(node) is not None]
    source = next((node for node in on if node not in lacking and archives.has(node, image)), None)
    if source is None:
        source = lacking.pop(0)
        archives.load(source, image)
    with ThreadPoolExecutor(_PARALLEL_IMPORTS) as pool:
        list(pool.map(lambda node: archives.clone(source, node, image), lacking))


def client_exec(
    *argv: str,
    stdin: int | IO[Any] | None = None,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    env: dict[str, str] | None = None,
    text: bool = False,
) -> subprocess.Popen[Any]:
    """Start a program of this machine in the client node's network with the cluster's DNS."""
    return subprocess.Popen(
        client_command(*argv), stdin=stdin, stdout=stdout, stderr=stderr, env=env, text=text
    )


def client_run(*argv: str, timeout_seconds: float = 60) -> str:
    """Run a program as `client_exec` does, to its end, and return what it printed."""
    return shell.run(*client_command(*argv), timeout_seconds=timeout_seconds)


def client_command(*argv: str) -> list[str]:
    """The command line that puts a program into the client node's network."""
    group = cgroups.freezer_group(lifecycle.CLIENTS_GROUP) / "cgroup.procs"
    namespace = network.namespace_path(layout.CLIENT)
    return [
        *("nsenter", f"--net={namespace}", "--"),
        *("unshare", "--mount", "--propagation", "private", "--"),
        *("sh", "-c", _AS_CLIENT, "client", str(group), str(lifecycle.CLIENT_RESOLV_CONF)),
        *argv,
    ]


def signal_process(process: PodProcess, number: signal.Signals) -> None:
    """Send a signal; a process that has just ended is reported, not ignored."""
    try:
        os.kill(process.pid, number)
    except ProcessLookupError as error:
        raise LocalKubeError(f"{process.command[:80]} ({process.pid}) has ended") from error


def _pod(namespace: str, pod: str) -> Json:
    return Api.admin().get(f"/api/v1/namespaces/{namespace}/pods/{pod}")


def _uid(document: Json) -> str:
    """Static pods apart, the group is named after the pod's uid."""
    return str(document["metadata"]["uid"])


def _node_of(document: Json) -> Node:
    name = document["spec"].get("nodeName")
    if name is None:
        raise LocalKubeError(f"pod {document['metadata']['name']} is not on any node yet")
    return layout.node_by_name(name)


def _container_names(document: Json) -> dict[str, str]:
    """Container ID -> name."""
    kinds = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    return {
        status["containerID"].rpartition("/")[2]: status["name"]
        for kind in kinds
        for status in document["status"].get(kind, [])
        if status.get("containerID")
    }


def _started_ticks(pid: int) -> int:
    """When the process started; one that ended meanwhile counts as the youngest."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except (FileNotFoundError, ProcessLookupError):
        return sys.maxsize
    return int(after_name.split()[19])


def _command_line(pid: int) -> str | None:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()
