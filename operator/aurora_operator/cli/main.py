"""``aurora-operator``: one program for the operator, the agents and the generators.

Each sub-command imports what it needs when it is called: an agent runs in many pods and must not
carry Kopf, the operator must not carry an engine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from aurora_operator import __doc__ as about


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["agent"]:
        from aurora_operator.cli.agent import main as run_agent

        return run_agent(arguments[1:])
    if arguments[:1] == ["run"]:
        from aurora_operator.cli.run import main as run_operator

        return run_operator(arguments[1:])
    parser = argparse.ArgumentParser(prog="aurora-operator", description=about)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("run", help="run the operator (add --help for its options)")
    commands.add_parser("agent", help="run the agent of a pod: agent storage, agent instance")
    if arguments[:1] == ["generate"]:
        from aurora_operator.cli import generate

        generate.add_parser(commands)
    else:
        commands.add_parser("generate", help="write files that are made from the models")
    parsed = parser.parse_args(arguments)
    return int(parsed.run(parsed))


if __name__ == "__main__":
    sys.exit(main())
