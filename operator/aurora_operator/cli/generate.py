"""``aurora-operator generate crds``: write, or check, what is generated from the models.

The same text goes to ``crds/`` (for people) and into the chart (for helm). ``--check`` writes
nothing and fails when a file differs, so that a change of a model cannot leave them behind.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from aurora_operator.api import labels
from aurora_operator.api.render import render_crd

_HEADER = "# Generated from operator/aurora_operator/api by `aurora-operator generate crds`.\n"


def crd_text() -> str:
    """The CRD as YAML."""
    return _HEADER + yaml.safe_dump(render_crd(), sort_keys=False, width=100, allow_unicode=True)


def crd_paths(root: Path) -> tuple[Path, ...]:
    """Where the CRD is kept in a checkout."""
    name = f"{labels.GROUP}_{labels.PLURAL}.yaml"
    return (root / "crds" / name, root / "charts" / "aurora-operator" / "crds" / name)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the sub-command."""
    generate = commands.add_parser("generate", help="write files that are made from the models")
    generate.add_argument("what", choices=["crds"])
    generate.add_argument("--check", action="store_true", help="write nothing, fail on differences")
    generate.add_argument("--root", type=Path, default=Path(), help="the checkout (default: here)")
    generate.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write or compare; the exit code."""
    wanted = crd_text()
    stale = 0
    for path in crd_paths(arguments.root):
        if path.exists() and path.read_text(encoding="utf-8") == wanted:
            continue
        if arguments.check:
            stale += 1
            print(f"{path} is not what the models say; run: make generate", file=sys.stderr)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted, encoding="utf-8")
        print(f"wrote {path}")
    return 1 if stale else 0
