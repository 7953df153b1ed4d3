"""Who is who and where: nodes, zones, addresses and paths of the local cluster.

Addresses are fixed, so certificates and routes can be written before anything runs. Nothing
here does I/O.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STATE: Final = Path("/var/lib/aurora-localkube")
RUN: Final = Path("/run/aurora-localkube")
KUBECONFIG: Final = STATE / "kubeconfig"
PKI: Final = STATE / "pki"
BIN: Final = STATE / "bin"
CONTROL: Final = STATE / "control"
LOCK_FILE: Final = Path("/run/aurora-localkube.lock")
CGROUP: Final = "aurora-localkube"

BRIDGE: Final = "lkbr0"
BRIDGE_ADDRESS: Final = "10.97.0.1"
NODE_CIDR: Final = "10.97.0.0/24"
POD_CIDR: Final = "10.98.0.0/16"
SERVICE_CIDR: Final = "10.96.0.0/16"
API_SERVICE_ADDRESS: Final = "10.96.0.1"
DNS_ADDRESS: Final = "10.96.0.10"
CLUSTER_DOMAIN: Final = "cluster.local"
API_PORT: Final = 6443
API_SERVER: Final = f"https://{BRIDGE_ADDRESS}:{API_PORT}"
ETCD_PORT: Final = 12379
ETCD_PEER_PORT: Final = 12380

ZONE_LABEL: Final = "topology.kubernetes.io/zone"
CLIENT_TAINT: Final = "aurora-localkube/client"
PROVISIONER: Final = "aurora-localkube/local-volumes"
CONTROL_PEER: Final = "control"


@dataclass(frozen=True)
class Node:
    """One machine of the cluster; `zone` is None for the client node, which no fault hits."""

    name: str
    zone: str | None
    number: int

    @property
    def address(self) -> str:
        """The node's own address on the bridge."""
        return f"10.97.0.{10 + self.number}"

    @property
    def pod_cidr(self) -> str:
        """The addresses of this node's pods."""
        return f"10.98.{self.number}.0/24"

    @property
    def namespace(self) -> str:
        """Name of its network namespace."""
        return f"lk-{self.name}"

    @property
    def link(self) -> str:
        """Name of its veth's end on the bridge (15 characters at most)."""
        return f"lk-{self.name}"

    @property
    def state(self) -> Path:
        """What stays on its disk: images, volumes, logs, configuration."""
        return STATE / "nodes" / self.name

    @property
    def cgroup(self) -> str:
        """Path of its cgroup below each hierarchy's root."""
        return f"{CGROUP}/{self.name}"

    @property
    def pid_file(self) -> Path:
        """Holds the pid, as the host sees it, of the node's first process."""
        return RUN / f"{self.name}.pid"


CLIENT: Final = Node("client", None, 7)
FAULT_NODES: Final = (
    Node("node-a1", "zone-a", 1),
    Node("node-a2", "zone-a", 2),
    Node("node-b1", "zone-b", 3),
    Node("node-b2", "zone-b", 4),
    Node("node-c1", "zone-c", 5),
    Node("node-c2", "zone-c", 6),
)
NODES: Final = (*FAULT_NODES, CLIENT)
ZONES: Final = tuple(sorted({node.zone for node in FAULT_NODES if node.zone}))


def node_by_name(name: str) -> Node:
    """The node of that name; a KeyError names the known ones."""
    for node in NODES:
        if node.name == name:
            return node
    raise KeyError(f"no node {name!r}; there are {', '.join(n.name for n in NODES)}")


def nodes_of(names: list[str] | tuple[str, ...]) -> tuple[Node, ...]:
    """Nodes for names of nodes or zones, in the cluster's order, each once."""
    chosen: set[str] = set()
    for name in names:
        if name in ZONES:
            chosen.update(node.name for node in FAULT_NODES if node.zone == name)
        else:
            chosen.add(node_by_name(name).name)
    return tuple(node for node in NODES if node.name in chosen)


def cache_root() -> Path:
    """Where builds are kept between runs, outside the checkout."""
    explicit = os.environ.get("AURORA_CACHE")
    if explicit:
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "aurora-operator"
