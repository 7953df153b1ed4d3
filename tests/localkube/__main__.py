"""The local cluster for people: `python -m localkube --help`."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from localkube import cluster, cuts, faults, layout, lifecycle, nodes, preflight
from localkube.errors import LocalKubeError

Action = Callable[[argparse.Namespace], int]
_SIGNALS = {number.name.removeprefix("SIG"): number for number in signal.Signals}


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; the exit code tells whether it worked."""
    options = _parser().parse_args(arguments)
    action: Action = options.action
    try:
        return action(options)
    except (LocalKubeError, KeyError) as error:
        print(f"localkube: {error.args[0]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("localkube: interrupted; `up` or `down` go on from here", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"localkube: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localkube", description="a three-zone local Kubernetes")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action: Action, help_text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help_text, description=help_text)
        added.set_defaults(action=action)
        return added

    command("preflight", _preflight, "say what this machine lacks")
    command("up", _up, "make the cluster run (again)")
    command("down", _down, "take everything away")
    command("status", _status, "nodes, faults in force, health")
    command("env", _env, "shell lines that point kubectl and helm at the cluster")
    command("leftovers", _leftovers, "list what exists of a cluster")
    command("heal", _heal, "undo every fault")
    kubectl = command("kubectl", _kubectl, "run the cluster's kubectl")
    kubectl.add_argument("words", nargs=argparse.REMAINDER)
    client = command("exec-client", _exec_client, "run a program as a client of the cluster")
    client.add_argument("words", nargs=argparse.REMAINDER)
    load = command("load", _load, "import an image archive")
    load.add_argument("archive", type=Path)
    load.add_argument("--nodes", nargs="+", metavar="NODE_OR_ZONE", help="default: all six")
    fault = command("fault", _status, "break something")
    _add_faults(fault.add_subparsers(required=True, metavar="FAULT"))
    return parser


def _add_faults(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    kill = commands.add_parser("kill-process", help="signal a process in a pod")
    kill.add_argument("pod", help="NAMESPACE/POD")
    kill.add_argument("match", help="regular expression for its command line")
    kill.add_argument("--container")
    kill.add_argument("--signal", choices=sorted(_SIGNALS), default="KILL")
    kill.set_defaults(action=_kill_process)
    pods: dict[str, Callable[[str, str], None]] = {
        "freeze-pod": faults.freeze_pod,
        "thaw-pod": faults.thaw_pod,
    }
    for name, pod_action in pods.items():
        added = commands.add_parser(name, help=name.replace("-", " a "))
        added.add_argument("pod", help="NAMESPACE/POD")
        added.set_defaults(action=_on_pod, pod_action=pod_action)
    on_nodes: dict[str, Callable[[list[str]], None]] = {
        "freeze": faults.freeze_nodes,
        "thaw": faults.thaw_nodes,
        "kill": faults.kill_nodes,
        "revive": faults.revive_nodes,
    }
    for name, nodes_action in on_nodes.items():
        added = commands.add_parser(name, help=f"{name} nodes or zones")
        added.add_argument("names", nargs="+", metavar="NODE_OR_ZONE")
        added.set_defaults(action=_on_nodes, nodes_action=nodes_action)
    cut = commands.add_parser("cut", help="cut nodes or zones off until healed")
    cut.add_argument("names", nargs="+", metavar="NODE_OR_ZONE")
    cut.add_argument("--direction", choices=("both", "in", "out"), default="both")
    cut.add_argument("--peers", nargs="+", metavar="NODE_OR_ZONE", help="default: everybody")
    cut.set_defaults(action=_cut)


def _preflight(_: argparse.Namespace) -> int:
    problems = preflight.problems()
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def _up(_: argparse.Namespace) -> int:
    lifecycle.up()
    return 0


def _down(_: argparse.Namespace) -> int:
    lifecycle.down()
    return 0


def _status(_: argparse.Namespace) -> int:
    problem = lifecycle.health_problem()
    for node in layout.NODES:
        pid = nodes.pid_of(node)
        state = "off" if pid is None else f"on (pid {pid})"
        print(f"{node.name:10} {node.zone or '-':8} {node.address:14} {state}")
    for name, pairs in cuts.in_force().items():
        print(f"{name}: {', '.join(f'{sender}→{receiver}' for sender, receiver in pairs)}")
    print(problem or f"healthy; kubeconfig {layout.KUBECONFIG}")
    return 1 if problem else 0


def _env(_: argparse.Namespace) -> int:
    print(f"export KUBECONFIG={layout.KUBECONFIG}")
    print(f'export PATH="{layout.BIN}:$PATH"')
    return 0


def _leftovers(_: argparse.Namespace) -> int:
    for line in lifecycle.leftovers():
        print(line)
    return 0


def _heal(_: argparse.Namespace) -> int:
    print(json.dumps(faults.heal_all(), indent=1))
    return 0


def _kubectl(options: argparse.Namespace) -> int:
    kubectl = str(layout.BIN / "kubectl")
    os.execv(kubectl, [kubectl, f"--kubeconfig={layout.KUBECONFIG}", *options.words])


def _exec_client(options: argparse.Namespace) -> int:
    command = cluster.client_command(*options.words)
    os.execvp(command[0], command)


def _load(options: argparse.Namespace) -> int:
    cluster.load_image(options.archive, options.nodes)
    return 0


def _pod_of(text: str) -> tuple[str, str]:
    namespace, slash, pod = text.partition("/")
    return (namespace, pod) if slash else ("default", text)


def _kill_process(options: argparse.Namespace) -> int:
    killed = faults.kill_process(
        *_pod_of(options.pod),
        options.match,
        container=options.container,
        number=_SIGNALS[options.signal],
    )
    print(f"{killed.container}: {killed.pid} {killed.command}")
    return 0


def _on_pod(options: argparse.Namespace) -> int:
    options.pod_action(*_pod_of(options.pod))
    return 0


def _on_nodes(options: argparse.Namespace) -> int:
    options.nodes_action(options.names)
    return 0


def _cut(options: argparse.Namespace) -> int:
    name = faults.cut(options.names, direction=options.direction, peers=options.peers)
    print(f"{name}; undo with: python -m localkube heal")
    return 0


if __name__ == "__main__":
    sys.exit(main())
