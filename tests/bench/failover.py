"""`make bench-failover`: how long nobody can write when the writer is lost, fault by fault.

On the local Kubernetes, through the writer's Service, from the client node, which no fault hits.
One client begins a write every 20 ms, each on a connection of its own with 500 ms to succeed;
another has one session open; a third reads through the reader endpoint. ``FAULT=name,name`` and
``N=rounds`` choose; each case appends a line to the result file, from which the table is made. A
wrong result (a row lost, doubled or taken back, two writers) ends the run with an error; times do
not, since they depend on the machine.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.outages import Round, outage_ms, summary, two_writers
from bench.report import markdown
from localkube import cluster, faults
from support.aurora import Aurora
from support.checker import Outcome
from support.install import build_images, install_chart, load_images, operator_away
from support.kube import Kube, local_kube
from support.namespaces import create_namespace, remove_namespaces
from support.traffic import Traffic
from support.waiting import NotYet, wait_for

BUILD: Final = Path(__file__).resolve().parents[2] / "build"
RESULTS: Final = BUILD / "bench" / "failover.jsonl"
REPLICAS: Final = 2
CALM_SECONDS: Final = 11.0
"""Longer than the hold-down of a young writer, so that each round meets a settled cluster."""
BASELINE_SECONDS: Final = 1.0
AFTER_SECONDS: Final = 2.0
GIVE_UP_SECONDS: Final = 90.0
POSTMASTER: Final = r"(^|/)postgres\b.* -D|^postgres$"


@dataclass(frozen=True)
class Scene:
    """What a fault may strike."""

    kube: Kube
    aurora: Aurora
    writer: str

    def zone(self, *, of_writer: bool) -> str:
        """The writer's zone, or another."""
        own = str(cluster.node_of_pod(self.aurora.namespace, self.writer).zone)
        return own if of_writer else next(z for z in sorted(cluster.zones()) if z != own)


Strike = Callable[[Scene], AbstractContextManager[None]]


@contextmanager
def _sigkill(scene: Scene) -> Iterator[None]:
    faults.kill_process(scene.aurora.namespace, scene.writer, POSTMASTER)
    yield


@contextmanager
def _delete_by_force(scene: Scene) -> Iterator[None]:
    words = ("delete", "pod", scene.writer, "--namespace", scene.aurora.namespace)
    scene.kube.run(*words, "--force", "--grace-period=0", "--wait=false")
    yield


@contextmanager
def _delete(scene: Scene) -> Iterator[None]:
    scene.kube.delete("pod", scene.writer, namespace=scene.aurora.namespace)
    yield


@contextmanager
def _frozen_server(scene: Scene) -> Iterator[None]:
    pod = (scene.aurora.namespace, scene.writer)
    servers = [p for p in cluster.pids_of_pod(*pod) if re.search(r"^postgres|/postgres", p.command)]
    with faults.stopped_processes(servers):
        yield


@contextmanager
def _frozen_node(scene: Scene) -> Iterator[None]:
    with faults.frozen_nodes(cluster.node_of_pod(scene.aurora.namespace, scene.writer).name):
        yield


@contextmanager
def _cut_node(scene: Scene) -> Iterator[None]:
    with faults.cut_off(cluster.node_of_pod(scene.aurora.namespace, scene.writer).name):
        yield


@contextmanager
def _cut_zone(scene: Scene) -> Iterator[None]:
    with faults.cut_off(scene.zone(of_writer=True)):
        yield


@contextmanager
def _cut_other_zone(scene: Scene) -> Iterator[None]:
    with faults.cut_off(scene.zone(of_writer=False)):
        yield


@dataclass(frozen=True)
class Fault:
    """One way to lose a writer (or a zone without it), and how often it is tried by default."""

    strike: Strike
    rounds: int
    moves: bool = True
    """Whether another instance must take over."""


FAULTS: Final = {
    "sigkill": Fault(_sigkill, 50),
    "delete-by-force": Fault(_delete_by_force, 50),
    "delete": Fault(_delete, 50),
    "frozen-server": Fault(_frozen_server, 10),
    "frozen-node": Fault(_frozen_node, 10),
    "cut-node": Fault(_cut_node, 10),
    "cut-zone": Fault(_cut_zone, 10),
    "cut-zone-without-writer": Fault(_cut_other_zone, 10, moves=False),
}
WITHOUT_OPERATOR: Final = "-without-operator"
ROUNDS_WITHOUT_OPERATOR: Final = 5


def strike_once(kube: Kube, aurora: Aurora, name: str, number: int) -> Round:
    """One round on a settled cluster; returns what was seen once all is healed again."""
    fault = FAULTS[name.removesuffix(WITHOUT_OPERATOR)]
    settle(aurora)
    scene = Scene(kube, aurora, aurora.writer())
    old = _address(aurora, scene.writer)
    folder = BUILD / "bench" / "failover-clients"
    label = re.sub(r"\W", "_", f"{name}_{number}_{int(time.time())}")
    with (
        Traffic(aurora, folder, f"p_{label}", write_mode="probe") as probe,
        Traffic(aurora, folder, f"s_{label}") as session,
    ):
        probe.wait_acked(time.monotonic() + BASELINE_SECONDS, timeout_seconds=GIVE_UP_SECONDS)
        with operator_away(kube) if name.endswith(WITHOUT_OPERATOR) else nullcontext():
            moment = time.monotonic()
            with fault.strike(scene):
                other = old if fault.moves else None
                probe.wait_acked(moment, timeout_seconds=GIVE_UP_SECONDS, not_by=other)
                settled = time.monotonic() + AFTER_SECONDS
                for client in (probe, session):
                    client.wait_acked(settled, timeout_seconds=GIVE_UP_SECONDS)
        faults.heal_all()
        return _judge(name, probe, session, moment)


def _judge(name: str, probe: Traffic, session: Traffic, moment: float) -> Round:
    lost = doubled = vanished = acked = 0
    for client in (probe, session):
        client.stop()
        table = client.table_ids()
        history = client.writes()
        acknowledged = history.ids(Outcome.ACKED)
        read = {number for look in client.reads().reads for number in look.ids}
        acked += len(acknowledged)
        lost += len(acknowledged - set(table))
        doubled += len(table) - len(set(table))
        vanished += len(read - set(table))
    return Round(
        fault=name,
        outage_ms=outage_ms(probe.writes(), moment),
        session_ms=outage_ms(session.writes(), moment),
        acked=acked,
        lost=lost,
        doubled=doubled,
        vanished=vanished,
        two_writers=two_writers(probe.writes()),
    )


def settle(aurora: Aurora) -> None:
    """Wait until everything is well and the writer is no longer young."""
    aurora.wait_available(replicas=REPLICAS)
    begun = time.monotonic()

    def probe() -> None:
        if time.monotonic() - begun < CALM_SECONDS:
            raise NotYet("the writer is young")

    wait_for("a settled cluster", probe, timeout_seconds=2 * CALM_SECONDS)
    aurora.wait_available(replicas=REPLICAS)


def _address(aurora: Aurora, pod: str) -> str:
    return str(aurora.kube.get("pod", pod, aurora.namespace)["status"]["podIP"])


def run(names: list[str], rounds: int | None) -> int:
    """Run the cases one after the other; the number of wrong results."""
    cluster.up()
    images = build_images()
    load_images()
    faults.heal_all()
    kube = local_kube()
    install_chart(kube, images)
    remove_namespaces(kube)
    create_namespace(kube, "bench")
    aurora = Aurora(kube, "bench")
    wrong = 0
    try:
        aurora.apply(replicas=REPLICAS)
        aurora.wait_available(replicas=REPLICAS)
        for name in names:
            default = FAULTS[name.removesuffix(WITHOUT_OPERATOR)].rounds
            if name.endswith(WITHOUT_OPERATOR):
                default = ROUNDS_WITHOUT_OPERATOR
            wrong += _case(kube, aurora, name, rounds or default)
    finally:
        faults.heal_all()
        remove_namespaces(kube)
    return wrong


def _case(kube: Kube, aurora: Aurora, name: str, rounds: int) -> int:
    done: list[Round] = []
    for number in range(1, rounds + 1):
        done.append(strike_once(kube, aurora, name, number))
        print(
            f"{name} {number}/{rounds}: {done[-1].outage_ms:.0f} ms"
            f" (a session: {done[-1].session_ms:.0f} ms)",
            flush=True,
        )
    line = summary(done)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a") as results:
        results.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)
    return sum(r.lost + r.doubled + r.vanished + r.two_writers for r in done)


def table() -> str:
    """All cases of the result file; the last line of a fault counts."""
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    latest = {line["fault"]: line for line in lines}
    head = ("fault", "N", "p50 ms", "p95 ms", "max ms", "session p50", "session max", "acked")
    keys = ("n", "p50_ms", "p95_ms", "max_ms", "session_p50_ms", "session_max_ms", "acked")
    wrong = ("lost", "doubled", "vanished", "two_writers")
    rows = [
        (line["fault"], *(str(line[key]) for key in keys), "/".join(str(line[k]) for k in wrong))
        for line in latest.values()
    ]
    return markdown((*head, "lost/doubled/vanished/two writers"), rows)


def main() -> int:
    """Choose the cases by the environment, run them, print the table."""
    every = [*FAULTS, *(name + WITHOUT_OPERATOR for name in FAULTS)]
    chosen = [name for name in os.environ.get("FAULT", "").split(",") if name] or every
    unknown = set(chosen) - set(every)
    if unknown:
        print(f"unknown faults: {', '.join(sorted(unknown))}; known: {', '.join(every)}")
        return 2
    rounds = int(os.environ["N"]) if os.environ.get("N") else None
    wrong = run(chosen, rounds)
    print(f"\n{table()}")
    if wrong:
        print(f"{wrong} wrong results: rows lost, doubled, taken back, or two writers at once")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
