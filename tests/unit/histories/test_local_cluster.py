"""Every kind of fault finds its hand on the local cluster, and is put right afterwards."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from histories import local_cluster
from histories.faults import OF_COPIES, OF_INSTANCE, OF_ZONE, Fault, Kind, Role
from histories.local_cluster import LocalCluster
from histories.run import Missed
from localkube.cluster import PodProcess
from localkube.errors import LocalKubeError
from localkube.layout import FAULT_NODES, Node

LASTING = {
    *(Kind.FREEZE_SERVER, Kind.FREEZE_POD, Kind.FREEZE_COPIES, Kind.FILL_DISKS),
    *(Kind.STOP_OPERATOR, Kind.STOP_API, Kind.KILL_NODE, Kind.FREEZE_NODE, Kind.CUT_NODE),
    *(Kind.CUT_NODE_OUT, Kind.CUT_NODE_IN, Kind.CUT_FROM_STORAGE),
    *(Kind.KILL_ZONE, Kind.FREEZE_ZONE, Kind.CUT_ZONE),
}
"""What stays broken until it is undone."""


class SmallKube:
    """Remembers what was asked of kubectl."""

    def __init__(self, done: list[str]) -> None:
        self._done = done

    def delete(self, kind: str, *names: str, namespace: str) -> None:
        self._done.append(f"delete {kind} {' '.join(names)} of {namespace}")

    def run(self, *words: str) -> str:
        self._done.append(" ".join(words))
        return ""


class SmallAurora:
    """A cluster with a writer and two replicas, as far as faults ask for it."""

    namespace = "here"
    name = "shop"

    def __init__(self, done: list[str]) -> None:
        self.kube = SmallKube(done)

    def status(self) -> dict[str, str]:
        return {"writer": "shop-instance-2"}

    def pods(self, _component: str) -> list[dict[str, Any]]:
        return [{"metadata": {"name": f"shop-instance-{number}"}} for number in (3, 2, 1)]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was done to the local cluster, in order; nothing of it is there."""
    done: list[str] = []

    @contextmanager
    def lasting(what: str, *targets: Any, **options: Any) -> Iterator[None]:
        named = " ".join(map(str, targets))
        done.append(f"{what} {named}{options or ''}")
        yield
        done.append(f"undo {what} {named}")

    def fault(name: str) -> Any:
        return lambda *targets, **options: lasting(name, *targets, **options)

    def kill(_namespace: str, pod: str, _match: str, *, number: signal.Signals) -> PodProcess:
        done.append(f"{number.name} {pod}")
        return PodProcess(1, "c", "postgres")

    def node_of_pod(_namespace: str, pod: str) -> Node:
        return FAULT_NODES[int(pod[-1])]

    for name in ("frozen_pod", "frozen_nodes", "killed_nodes", "cut_off"):
        monkeypatch.setattr(local_cluster.faults, name, fault(name))
    monkeypatch.setattr(
        local_cluster.faults,
        "kill_process",
        lambda *words, number=signal.SIGKILL: kill(*words, number=number),
    )
    monkeypatch.setattr(local_cluster, "operator_away", lambda _kube: lasting("operator_away"))
    monkeypatch.setattr(local_cluster.cluster, "node_of_pod", node_of_pod)
    monkeypatch.setattr(
        local_cluster.cluster,
        "signal_process",
        lambda _, number: done.append(f"undo {number.name}"),
    )
    monkeypatch.setattr(LocalCluster, "_disk", lambda _self, _pod: tmp_path)
    monkeypatch.setattr(LocalCluster, "_fill_disk", lambda _self, pod: done.append(f"fill {pod}"))
    monkeypatch.setattr(
        LocalCluster, "_empty_disk", lambda _self, pod: done.append(f"undo fill {pod}")
    )
    return done


def fault_of(kind: Kind, role: Role = Role.WRITER) -> Fault:
    return Fault(
        kind,
        0,
        1,
        role if kind in OF_INSTANCE | OF_ZONE else None,
        (1, 4) if kind in OF_COPIES else (),
    )


def ground(done: list[str]) -> LocalCluster:
    return LocalCluster(SmallAurora(done), Path("/nowhere"))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", Kind)
async def test_every_kind_is_done_and_undone(done: list[str], kind: Kind) -> None:
    place = ground(done)
    fault = fault_of(kind)
    await place.strike(fault)
    struck = list(done)
    assert struck
    assert not any(line.startswith("undo") for line in struck)
    await place.undo(fault)
    undone = done[len(struck) :]
    assert bool(undone) is (kind in LASTING), undone
    await place.undo(fault)
    assert len(done) == len(struck) + len(undone)


@pytest.mark.parametrize(
    ("kind", "role", "what"),
    [
        (Kind.KILL_SERVER, Role.WRITER, "SIGKILL shop-instance-2"),
        (Kind.KILL_SERVER, Role.REPLICA, "SIGKILL shop-instance-1"),
        (Kind.FREEZE_SERVER, Role.WRITER, "SIGSTOP shop-instance-2"),
        (Kind.KILL_NODE, Role.WRITER, f"killed_nodes {FAULT_NODES[2].name}"),
        (Kind.KILL_ZONE, Role.WRITER, f"killed_nodes {FAULT_NODES[2].zone}"),
        (Kind.FREEZE_ZONE, Role.REPLICA, f"frozen_nodes {FAULT_NODES[1].zone}"),
        (Kind.CUT_NODE_OUT, Role.WRITER, f"cut_off {FAULT_NODES[2].name}{{'direction': 'out'}}"),
        (Kind.CUT_ZONE, Role.WRITER, f"cut_off {FAULT_NODES[2].zone}{{'direction': 'both'}}"),
        (Kind.DELETE_POD, Role.WRITER, "delete pod shop-instance-2 of here"),
    ],
)
async def test_it_hits_whom_it_should(done: list[str], kind: Kind, role: Role, what: str) -> None:
    await ground(done).strike(fault_of(kind, role))
    assert done == [what]


async def test_cut_from_storage_leaves_clients_and_control_plane(done: list[str]) -> None:
    await ground(done).strike(fault_of(Kind.CUT_FROM_STORAGE))
    others = [node.name for node in FAULT_NODES if node.name != FAULT_NODES[2].name]
    assert done == [f"cut_off {FAULT_NODES[2].name}{{'peers': {others}}}"]


async def test_a_fault_whose_object_is_gone_has_missed(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> PodProcess:
        raise LocalKubeError("no such pod")

    monkeypatch.setattr(local_cluster.faults, "kill_process", gone)
    with pytest.raises(Missed, match="no such pod"):
        await ground(done).strike(fault_of(Kind.KILL_POD))
