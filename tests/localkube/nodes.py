"""Start, stop, power off and inspect nodes.

A node lives when its first process lives. Stopping one kills that process and with it all that
the node runs and mounts; its disk (images, volumes) stays until the cluster is taken down.
"""

import os
import shutil
import signal
from datetime import UTC, datetime
from pathlib import Path

from localkube import cgroups, launch, network, node_config, shell
from localkube.apiclient import Api, Json
from localkube.errors import LocalKubeError
from localkube.layout import Node

_READY_LIMIT_SECONDS = 120.0
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def pid_of(node: Node) -> int | None:
    """The host's pid of the node's first process, or None when the node is off."""
    return launch.pid_of(node.pid_file, f"{node.cgroup}/system")


def require_pid(node: Node) -> int:
    """The host's pid of the node's first process."""
    pid = pid_of(node)
    if pid is None:
        raise LocalKubeError(f"{node.name} is off: `revive {node.name}` or `heal` starts it")
    return pid


def start(node: Node, images: list[str]) -> None:
    """Start a node that is off, with the small images that every node needs."""
    if pid_of(node) is not None:
        return
    stop(node)  # what a half-dead one may have left
    for target in node_config.OWN_FOLDERS:
        Path(target).mkdir(parents=True, exist_ok=True)
    network.ensure_node(node)
    cgroups.create(f"{node.cgroup}/system")
    node_config.write_all(node)
    spec = node_config.supervisor_spec(node, str(network.namespace_path(node)), images)
    launch.launch(spec, node.state)


def stop(node: Node) -> None:
    """Power a node off: the cable first, so that nobody hears a goodbye; then every process."""
    network.remove_node(node)
    cgroups.thaw_all(node.cgroup)
    pid = pid_of(node)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    cgroups.kill_all(node.cgroup)
    cgroups.remove(node.cgroup)
    node.pid_file.unlink(missing_ok=True)


def wait_ready(
    wanted: tuple[Node, ...],
    *,
    heard_since: str = "",
    timeout_seconds: float = _READY_LIMIT_SECONDS,
) -> None:
    """Wait until Kubernetes calls these nodes ready.

    It calls a dead node ready for a while; `heard_since` (see `now`) asks for a sign of life.
    """
    api = Api.admin()

    def check() -> str | None:
        listed = {item["metadata"]["name"]: item for item in api.items("/api/v1/nodes")}
        renewed = {
            item["metadata"]["name"]: item["spec"].get("renewTime", "")
            for item in (api.items(_LEASES) if heard_since else [])
        }
        reasons = {node.name: _not_ready_reason(listed.get(node.name)) for node in wanted}
        for node in wanted:
            if renewed.get(node.name, "") < heard_since and reasons[node.name] is None:
                reasons[node.name] = "not heard of since it was started"
        return "; ".join(f"{name}: {why}" for name, why in reasons.items() if why) or None

    shell.wait_until("not every node is ready", check, timeout_seconds=timeout_seconds)


def now() -> str:
    """The time as Kubernetes' leases write it; such texts compare like the times they mean."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _not_ready_reason(item: Json | None) -> str | None:
    if item is None:
        return "not registered (see its logs folder)"
    for condition in item["status"].get("conditions", []):
        if condition["type"] == "Ready":
            return None if condition["status"] == "True" else str(condition.get("message"))
    return "no Ready condition yet"


def pids_of_pod(node: Node, pod_uid: str) -> dict[int, str]:
    """Pids, as the host sees them, of a pod's processes, each with its container's ID."""
    found: dict[int, str] = {}
    for folder in pod_groups(node, pod_uid):
        for group, _, _ in os.walk(folder):
            path = Path(group)
            if path == folder:
                continue
            for line in (path / "cgroup.procs").read_text().split():
                found[int(line)] = path.relative_to(folder).parts[0]
    return found


def pod_groups(node: Node, pod_uid: str) -> list[Path]:
    """The pod's directory in the hierarchy that freezes (there is one, or none)."""
    top = cgroups.freezer_group(node.cgroup)
    return [path for path in top.glob("kubepods/**/*") if path.name == f"pod{pod_uid}"]


def remove_state(node: Node) -> None:
    """Forget a stopped node's disk."""
    shutil.rmtree(node.state, ignore_errors=False) if node.state.exists() else None
