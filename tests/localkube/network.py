"""The wires: one bridge on the host, one network namespace and one cable for each node.

The host is the nodes' router and plays the control plane's machine. Pod addresses are routed node
to node without translation; the service range is routed to the client node, whose kube-proxy
answers for it, so that the host reaches Services as a client would.
"""

import json
from pathlib import Path

from localkube import layout, shell
from localkube.layout import Node

_NAMESPACES = Path("/run/netns")
COMMENT = "aurora-localkube"
_FORWARD_RULES = (
    ("FORWARD", "-i", layout.BRIDGE, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"),
    ("FORWARD", "-o", layout.BRIDGE, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"),
)


def namespace_path(node: Node) -> Path:
    """The file that keeps the node's network namespace alive."""
    return _NAMESPACES / node.namespace


def link_exists(name: str) -> bool:
    """Whether the host has a link of that name."""
    return Path("/sys/class/net", name).exists()


def ensure_host() -> None:
    """Bridge, address, forwarding and routes of the host."""
    if not link_exists(layout.BRIDGE):
        shell.run("ip", "link", "add", layout.BRIDGE, "type", "bridge")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    routes = [f"route replace {node.pod_cidr} via {node.address}" for node in layout.NODES]
    _batch(
        f"addr replace {layout.BRIDGE_ADDRESS}/24 dev {layout.BRIDGE}",
        f"link set {layout.BRIDGE} up",
        *routes,
        f"route replace {layout.SERVICE_CIDR} via {layout.CLIENT.address}",
    )
    for rule in _FORWARD_RULES:
        if not shell.succeeds("iptables", "-w", "-C", *rule):
            shell.run("iptables", "-w", "-I", *rule)


def ensure_node(node: Node) -> None:
    """The node's namespace, its cable to the bridge and its routes."""
    if not namespace_path(node).exists():
        shell.run("ip", "netns", "add", node.namespace)
    if not link_exists(node.link):
        _batch(
            f"link add {node.link} type veth peer name eth0 netns {node.namespace}",
            f"link set {node.link} master {layout.BRIDGE} up",
        )
    others = [other for other in layout.NODES if other != node]
    _batch(
        "link set lo up",
        f"addr replace {node.address}/24 dev eth0",
        "link set eth0 up",
        f"route replace default via {layout.BRIDGE_ADDRESS}",
        *(f"route replace {other.pod_cidr} via {other.address}" for other in others),
        namespace=node.namespace,
    )
    shell.run(
        *("nsenter", f"--net={namespace_path(node)}", "--"),
        *("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
    )


def remove_node(node: Node) -> None:
    """Pull the node's cable and forget its namespace; connections end without a word."""
    if link_exists(node.link):
        shell.run("ip", "link", "del", node.link)
    if namespace_path(node).exists():
        shell.run("ip", "netns", "del", node.namespace)


def remove_host() -> None:
    """Take bridge, routes and rules of the host away."""
    if link_exists(layout.BRIDGE):
        shell.run("ip", "link", "del", layout.BRIDGE)  # the routes go with it
    if _namespaces_mounted_for_nothing():
        shell.run("umount", _NAMESPACES)  # `ip netns add` made it a mount, and never undoes that
    for rule in _FORWARD_RULES:
        while shell.succeeds("iptables", "-w", "-C", *rule):
            shell.run("iptables", "-w", "-D", *rule)


def _namespaces_mounted_for_nothing() -> bool:
    """Whether the folder of namespaces is a mount without any namespace in it."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    mounted = any(line.split()[4] == str(_NAMESPACES) for line in lines)
    return mounted and not any(_NAMESPACES.glob("*"))


def leftovers() -> list[str]:
    """What of the network still exists."""
    found = [f"link {name}" for name in (layout.BRIDGE, *(n.link for n in layout.NODES))
             if link_exists(name)]  # fmt: skip
    found += [
        f"network namespace {n.namespace}" for n in layout.NODES if namespace_path(n).exists()
    ]
    if _namespaces_mounted_for_nothing():
        found.append(f"mount {_NAMESPACES}")
    ours = (layout.SERVICE_CIDR, layout.NODE_CIDR, *(node.pod_cidr for node in layout.NODES))
    routes = json.loads(shell.run("ip", "-json", "route", "show", "table", "all") or "[]")
    found += [f"route {route['dst']}" for route in routes if route.get("dst") in ours]
    rules = shell.run("iptables-save") if shell.succeeds("iptables", "--version") else ""
    found += [f"iptables {line}" for line in rules.splitlines() if COMMENT in line]
    return found


def _batch(*lines: str, namespace: str | None = None) -> None:
    """Several `ip` commands by one process; the first that fails ends it."""
    target = ("-netns", namespace) if namespace else ()
    shell.run("ip", *target, "-batch", "-", input_text="\n".join(lines) + "\n")
