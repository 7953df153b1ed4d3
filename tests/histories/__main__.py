"""`python -m histories`: build the checkers, judge a kept history again, or make new ones.

    python -m histories checkers
    python -m histories judge build/histories/seed-7
    python -m histories cluster --seeds 20 --first 1

The last needs the local cluster and brings the product onto it. Each seed gives one line; what
broke a promise is kept below build/histories: the clients' log, when each fault was struck and
undone, what every server showed in the end, and the logs of all pods.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from demo import ground
from histories import checkers, records
from histories.faults import Kind, draw
from histories.judge import Dump, judge
from histories.local_cluster import REPLICAS, LocalCluster
from histories.run import Result, run_seed
from localkube import faults
from localkube.errors import LocalKubeError
from support.aurora import Aurora
from support.evidence import collect
from support.kube import Kube
from support.namespaces import create_namespace
from support.waiting import Failed

FOLDER = Path(__file__).resolve().parents[2] / "build" / "histories"
NAMESPACE = "histories"
ROUNDS = 3


def run_on_cluster(
    kube: Kube, namespace: str, seeds: Sequence[int], rounds: int, kinds: frozenset[Kind]
) -> list[Result]:
    """One history after the other on one AuroraCluster; a seed that cannot end is an error."""
    aurora = Aurora(kube, namespace)
    aurora.apply(replicas=REPLICAS)
    FOLDER.mkdir(parents=True, exist_ok=True)
    place = LocalCluster(aurora, FOLDER)
    results = []
    for seed in seeds:
        folder = FOLDER / f"seed-{seed}"
        schedule = draw(seed, kinds, rounds=rounds)
        try:
            result = asyncio.run(run_seed(place, seed, schedule, folder))
        except BaseException:
            print(f"seed {seed}: {' | '.join(map(str, schedule))}: it did not come to its end")
            collect(kube, folder / "evidence")
            raise
        finally:
            faults.heal_all()
        print(result.line(), flush=True)
        if result.verdict.violations:
            collect(kube, folder / "evidence")
        results.append(result)
    return results


def _cluster(options: argparse.Namespace) -> int:
    checkers.ensure()
    kube, _ = ground.lay()
    create_namespace(kube, NAMESPACE)
    seeds = range(options.first, options.first + options.seeds)
    results = run_on_cluster(kube, NAMESPACE, seeds, options.rounds, options.kinds)
    broken = [result.seed for result in results if result.verdict.violations]
    print(f"{len(results) - len(broken)} of {len(results)} histories hold; broken: {broken or '-'}")
    return 1 if broken else 0


def _judge(options: argparse.Namespace) -> int:
    checkers.ensure()
    dumps = [Dump(**told) for told in json.loads((options.folder / "dumps.json").read_text())]
    verdict = judge(records.load(options.folder / "history.jsonl"), dumps[0], dumps[1:])
    print("\n".join(verdict.violations) or "holds")
    print(f"{verdict.counts}; stale reads: {len(verdict.stale)}, {verdict.stale_ms_max:.0f} ms")
    return 1 if verdict.violations else 0


def _kinds(words: str) -> frozenset[Kind]:
    return frozenset(map(Kind, words.split(","))) if words else LocalCluster.kinds


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="histories", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("checkers", help="build both checkers")
    again = commands.add_parser("judge", help="judge a kept history again")
    again.add_argument("folder", type=Path)
    made = commands.add_parser("cluster", help="make histories on the local cluster")
    made.add_argument("--seeds", type=int, default=5, help="how many")
    made.add_argument("--first", type=int, default=1, help="the first of them")
    made.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of faults in each")
    made.add_argument("--kinds", type=_kinds, default="", help="names of faults, with commas")
    return parser.parse_args(argv)


def main() -> int:
    """Do what the command line asks."""
    options = _options(sys.argv[1:])
    try:
        match options.command:
            case "checkers":
                checkers.ensure()
            case "judge":
                return _judge(options)
            case "cluster":
                return _cluster(options)
    except (Failed, LocalKubeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
