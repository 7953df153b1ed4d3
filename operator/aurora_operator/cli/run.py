"""``aurora-operator run``: the operator, one of two, working while it holds the Lease."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
import uvloop

from aurora_operator.api import labels
from aurora_operator.handlers.probes import serve_probes
from aurora_operator.handlers.watching import run_watching
from aurora_operator.kube.client import KubeClient, login
from aurora_operator.kube.lease import LeaseElection, LeaseLost
from aurora_operator.reconcile.agents import connect_agents
from aurora_operator.reconcile.observe import Surroundings
from aurora_operator.telemetry.logs import configure_logging
from aurora_operator.telemetry.operator_metrics import LEADER

_LOG = structlog.get_logger(__name__)


@dataclass
class _Health:
    """What ``/readyz`` tells."""

    reached: bool = False

    def why_not(self) -> str | None:
        return None if self.reached else "the API server has not been reached yet"


def main(argv: Sequence[str]) -> int:
    """Run until a signal, or until the Lease is lost; the exit code."""
    options = _parser().parse_args(argv)
    if not options.engine_image:
        print(
            "no engine image: give --engine-image or set AURORA_ENGINE_IMAGE to the image that "
            "storage pods and instances run",
            file=sys.stderr,
        )
        return 2
    configure_logging(options.log_level, pod=options.identity)
    # Kopf tells of every event that it hands over; the loops tell what came of it.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        uvloop.run(_run(options))
    except LeaseLost as error:
        _LOG.error("stopping", why=str(error))
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aurora-operator run", description=__doc__)
    environment = os.environ
    parser.add_argument(
        "--engine-image",
        default=environment.get("AURORA_ENGINE_IMAGE", ""),
        help="image of storage pods and instances (AURORA_ENGINE_IMAGE)",
    )
    parser.add_argument(
        "--engine-pull-secrets",
        default=environment.get("AURORA_ENGINE_PULL_SECRETS", ""),
        type=_names,
        metavar="NAME[,NAME...]",
        help="Secrets, in each cluster's namespace, to pull the engine image with "
        "(AURORA_ENGINE_PULL_SECRETS)",
    )
    parser.add_argument("--log-level", default=environment.get("AURORA_LOG_LEVEL", "info"))
    parser.add_argument(
        "--lease-name", default=environment.get("AURORA_LEASE_NAME", "aurora-operator")
    )
    parser.add_argument(
        "--namespace",
        default=environment.get("POD_NAMESPACE", "default"),
        help="namespace of the Lease (POD_NAMESPACE)",
    )
    parser.add_argument(
        "--identity",
        default=environment.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}",
        help="who holds the Lease (POD_NAME)",
    )
    parser.add_argument("--kubeconfig", default=None, help="outside a pod: the kubeconfig to use")
    parser.add_argument("--port", type=int, default=labels.PORT_OPERATOR)
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


async def _run(options: argparse.Namespace) -> None:
    if options.kubeconfig is not None:
        # Kopf logs in by itself and reads only this.
        os.environ["KUBECONFIG"] = options.kubeconfig
    _stop_on_signals()
    health = _Health()
    probes = await serve_probes(options.port, health.why_not)
    kube = KubeClient(await login(options.kubeconfig))
    around = Surroundings(
        kube,
        connect_agents,
        options.engine_image,
        options.log_level,
        options.engine_pull_secrets,
    )
    election = LeaseElection(kube, options.namespace, options.lease_name, options.identity)

    async def work() -> None:
        LEADER.set(1)
        await run_watching(around, asyncio.Event())

    def reached() -> None:
        health.reached = True

    election.reached = reached
    try:
        await election.run(work)
    finally:
        LEADER.set(0)
        await kube.close()
        await probes.cleanup()


def _stop_on_signals() -> None:
    """End this task on SIGTERM and SIGINT; while Kopf runs it does that itself."""
    task = asyncio.current_task()
    if task is None:
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
