"""Break the cluster on purpose, and put it right again.

Every lasting fault is a context manager that undoes itself; `heal_all` undoes whatever is in
force, also what a killed test left. The client node and the control plane are never hit, though
nodes can be cut off from them.
"""

import re
import signal
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from localkube import cgroups, cluster, cuts, layout, lifecycle, nodes
from localkube.cluster import PodProcess
from localkube.errors import LocalKubeError
from localkube.layout import Node


def kill_process(
    namespace: str,
    pod: str,
    match: str,
    *,
    container: str | None = None,
    number: signal.Signals = signal.SIGKILL,
) -> PodProcess:
    """Signal the one process of a pod whose command line matches a regular expression.

    The first (oldest) one is meant where a program has forked others with the same words.
    """
    processes = [
        process
        for process in cluster.pids_of_pod(namespace, pod)
        if container in (None, process.container) and re.search(match, process.command)
    ]
    if not processes:
        raise LocalKubeError(f"no process of {namespace}/{pod} matches {match!r}")
    cluster.signal_process(processes[0], number)
    return processes[0]


@contextmanager
def stopped_processes(processes: Iterable[PodProcess]) -> Iterator[None]:
    """Processes that stand still (SIGSTOP) for the length of the block; the rest of the pod runs.

    Some may end meanwhile, by the hand of those that run on.
    """
    chosen = list(processes)
    if not chosen:
        raise LocalKubeError("no process to stop")
    for process in chosen:
        _signal_if_there(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in chosen:
            _signal_if_there(process, signal.SIGCONT)


def _signal_if_there(process: PodProcess, number: signal.Signals) -> None:
    with suppress(LocalKubeError):
        cluster.signal_process(process, number)


def freeze_pod(namespace: str, pod: str) -> None:
    """Stop all of a pod's processes where they stand; the kernel still holds its connections."""
    cgroups.set_frozen(cluster.group_of_pod(namespace, pod), True)


def thaw_pod(namespace: str, pod: str) -> None:
    """Let a frozen pod go on."""
    cgroups.set_frozen(cluster.group_of_pod(namespace, pod), False)


@contextmanager
def frozen_pod(namespace: str, pod: str) -> Iterator[None]:
    """A pod that stands still for the length of the block."""
    group = cluster.group_of_pod(namespace, pod)
    cgroups.set_frozen(group, True)
    try:
        yield
    finally:
        if group.exists():
            cgroups.set_frozen(group, False)


def freeze_nodes(names: Iterable[str]) -> None:
    """Stop nodes (or all nodes of zones) where they stand: kubelet, runtime and pods."""
    for node in _targets(names):
        nodes.require_pid(node)
        cgroups.set_frozen(cgroups.freezer_group(node.cgroup), True)


def thaw_nodes(names: Iterable[str]) -> None:
    """Let frozen nodes go on; a pod in them that was frozen by itself stays so."""
    for node in _targets(names):
        group = cgroups.freezer_group(node.cgroup)
        if group.exists():
            cgroups.set_frozen(group, False)


@contextmanager
def frozen_nodes(*names: str) -> Iterator[None]:
    """Nodes or zones that stand still for the length of the block."""
    try:
        freeze_nodes(names)
        yield
    finally:
        thaw_nodes(names)


def kill_nodes(names: Iterable[str]) -> None:
    """Power nodes (or zones) off: no goodbye on the network, no process left, the disk kept.

    The page cache is this machine's, so what was written but not synced is not lost with it.
    """
    _each(nodes.stop, _targets(names))


def revive_nodes(names: Iterable[str]) -> None:
    """Switch nodes on again and wait until Kubernetes calls them ready."""
    _revive(_targets(names))


@contextmanager
def killed_nodes(*names: str) -> Iterator[None]:
    """Nodes or zones that are off for the length of the block."""
    try:
        kill_nodes(names)
        yield
    finally:
        revive_nodes(names)


def cut(
    targets: Iterable[str],
    *,
    direction: cuts.Direction = "both",
    peers: Iterable[str] | None = None,
    name: str = "",
) -> str:
    """Cut nodes or zones, as one group, off from peers; returns the name that undoes it.

    `peers` are nodes, zones, `client` or `control` (the control plane); none means everybody
    outside the group. `out` loses what the targets send, `in` what is sent to them.
    """
    chosen = [node.name for node in _targets(targets)]
    cut_name = name or f"cut-{uuid.uuid4().hex[:8]}"
    cuts.add(cut_name, cuts.pairs(chosen, direction, peers))
    return cut_name


def uncut(name: str) -> None:
    """Undo one cut."""
    cuts.remove(name)


@contextmanager
def cut_off(
    *targets: str,
    direction: cuts.Direction = "both",
    peers: Iterable[str] | None = None,
) -> Iterator[None]:
    """Nodes or zones that are cut off for the length of the block."""
    name = cut(targets, direction=direction, peers=peers)
    try:
        yield
    finally:
        uncut(name)


def heal_all() -> list[str]:
    """Undo every fault in force and wait until all nodes are ready; returns what was undone."""
    healed = lifecycle.heal_links_and_freezers()
    off = tuple(node for node in layout.NODES if nodes.pid_of(node) is None)
    healed += [f"off {node.name}" for node in off]
    _revive(off)
    nodes.wait_ready(layout.NODES)
    return healed


def _revive(chosen: tuple[Node, ...]) -> None:
    started = nodes.now()
    _each(lambda node: nodes.start(node, lifecycle.start_images(node)), chosen)
    nodes.wait_ready(chosen, heard_since=started)


def _targets(names: Iterable[str]) -> tuple[Node, ...]:
    chosen = layout.nodes_of(list(names))
    if layout.CLIENT in chosen:
        raise LocalKubeError("the client node belongs to the ground: no fault may hit it")
    return chosen


def _each(action: Callable[[Node], None], chosen: tuple[Node, ...]) -> None:
    """All at once: a zone fails as a whole, not node by node."""
    with ThreadPoolExecutor(max(1, len(chosen))) as pool:
        list(pool.map(action, chosen))
