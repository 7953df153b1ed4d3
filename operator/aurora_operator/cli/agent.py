"""``aurora-operator agent storage|instance``: process 1 of a pod.

Defaults are the places that the operator mounts; options move them, for tests and for a run by
hand. A storage pod's agent never loads the Kubernetes client.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Sequence
from pathlib import Path

import uvloop

from aurora_operator.agent.client import AgentAddress
from aurora_operator.agent.place import Place
from aurora_operator.agent.supervisor import Supervisor
from aurora_operator.api.agent_config import AgentConfig
from aurora_operator.telemetry.logs import configure_logging


def main(argv: Sequence[str]) -> int:
    """Run the agent until it is told to stop; returns the exit code."""
    options = _parser().parse_args(argv)
    # PostgreSQL refuses a data directory that others can read, and its temporary files too.
    os.umask(0o077)
    place = Place.from_environment(
        config_file=options.config,
        tls=options.tls,
        master=options.master,
        disk=options.disk,
        run=options.run,
        listen=options.listen,
    )
    config = place.read_config()
    configure_logging(config.log_level, cluster=config.cluster, pod=place.pod)
    work = _storage if options.kind == "storage" else _instance
    code = uvloop.run(work(place, config, options))
    # All that is left goes with the process. Looking through it for garbage first, as Python does,
    # holds up the end of the pod, by seconds on a busy node.
    gc.freeze()
    return code


async def _storage(place: Place, config: AgentConfig, options: argparse.Namespace) -> int:
    del options  # a storage pod never talks to Kubernetes
    from aurora_operator.agent.storage.pod import STOP_SECONDS, StoragePod

    supervisor = Supervisor()
    pod = StoragePod(place, config, supervisor)
    await pod.start()
    return await supervisor.run(pod.shut_down, STOP_SECONDS)


async def _instance(place: Place, config: AgentConfig, options: argparse.Namespace) -> int:
    from aurora_operator.agent.instance.herald import Herald, KubernetesHerald, SilentHerald
    from aurora_operator.agent.instance.pod import STOP_SECONDS, InstancePod

    herald: Herald = SilentHerald(options.peer)
    if not options.without_kubernetes:
        herald = KubernetesHerald.in_cluster(place, config)
    supervisor = Supervisor()
    pod = InstancePod(place, config, supervisor, herald)
    await pod.start()
    return await supervisor.run(pod.shut_down, STOP_SECONDS, pod.leave)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aurora-operator agent", description=__doc__)
    parser.add_argument("kind", choices=("storage", "instance"))
    place = parser.add_argument_group("places")
    place.add_argument("--config", type=Path, default=Path("/etc/aurora/agent.json"))
    place.add_argument("--tls", type=Path, default=Path("/etc/aurora/tls"))
    place.add_argument("--master", type=Path, default=Path("/etc/aurora/master"))
    place.add_argument("--disk", type=Path, default=Path("/var/lib/aurora"))
    place.add_argument("--run", type=Path, default=Path("/run/aurora"))
    place.add_argument("--listen", help="the one address to listen on (default: all)")
    parser.add_argument(
        "--without-kubernetes",
        action="store_true",
        help="tell nobody about conditions and endpoints; only log them",
    )
    parser.add_argument(
        "--peer",
        action="append",
        type=_peer,
        default=[],
        metavar="POD=HOST",
        help="without Kubernetes: an instance that may take over when this one ends",
    )
    return parser


def _peer(text: str) -> AgentAddress:
    pod, _, host = text.partition("=")
    return AgentAddress(pod, host)
