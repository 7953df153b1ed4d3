"""The Makefile's targets: which programs each one runs, in which order.

`python3 -m tools.tasks TARGET` makes the Python environment when it is missing and starts itself
again inside it. `test` is the sum of the parts; a part whose groundwork failed is skipped and
counted as failed, the others still run, and a table of times is printed at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.mutants import BadMutant
from tools.mutants import run as run_mutants
from tools.paths import BUILD, CHART, ROOT, cache_root
from tools.say import complain, say
from tools.venv import SetupError, environment, python

E2E: Final = ROOT / "tests" / "e2e"
HOST_COMPONENTS: Final = ("operator",)
INSIDE: Final = "AURORA_TOOLS_INSIDE"
MYPY_PACKAGES: Final = (
    *("aurora_operator", "localkube", "support", "demo", "bench", "histories", "tools"),
)


class TaskFailed(Exception):
    """A program ended with an error; it has said why itself."""


def call(*argv: str | Path, env: Mapping[str, str] | None = None) -> None:
    """Run a program in the environment; its output goes to the person who waits."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, cwd=ROOT, env=env or environment(), check=False)
    if done.returncode != 0:
        raise TaskFailed(f"{' '.join(words)} ended with {done.returncode}")


def call_python(*argv: str | Path) -> None:
    """Run a program with the environment's Python."""
    call(sys.executable, *argv)


def _output(*argv: str) -> str:
    """What a program of the environment's Python prints."""
    words = [sys.executable, *argv]
    done = subprocess.run(
        words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise TaskFailed(f"{' '.join(words)} ended with {done.returncode}")
    return done.stdout.strip()


def pytest(*argv: str | Path) -> None:
    """Run tests on this machine (not inside an image)."""
    call_python("-m", "pytest", *argv)


def lint() -> None:
    """All that can be said about the code without running it; every check, then the verdict."""
    folders = [name for name in ("operator", "tests", "images", "tools") if (ROOT / name).is_dir()]
    checks: tuple[Callable[[], None], ...] = (
        lambda: call_python("-m", "ruff", "check", *folders),
        lambda: call_python("-m", "ruff", "format", "--check", *folders),
        types,
        lambda: call(Path(sys.executable).with_name("lint-imports")),
        check_generate,
        lambda: pytest("-q", "tests/unit/test_tidy.py"),
    )
    complaints = [complaint for check in checks if (complaint := _attempt(check))]
    if complaints:
        raise TaskFailed("\n       ".join(complaints))


def types() -> None:
    """Check the types of every package of ours."""
    present = [name for name in MYPY_PACKAGES if _package_exists(name)]
    words = [sys.executable, "-m", "mypy", *(word for name in present for word in ("-p", name))]
    # Without PYTHONPATH: mypy takes what lies on it for installed packages and skips it.
    call(*words, env=environment() | {"PYTHONPATH": ""})


def unit() -> None:
    """Unit and property tests: no network, no process, under 30 s.

    The agents' tests wait for each other's tasks and take half of the time: they run beside.
    """
    agents = ROOT / "tests" / "unit" / "agent"
    others = _test_folders("unit", "property")
    run = ("-m", "pytest", "-q")
    _side_by_side((*run, f"--ignore={agents}", *others), (*run, agents))


def sim() -> None:
    """The volume in one process, from SEEDS seeds, beginning with FIRST; two at a time.

    Before them the simulation's own tests, and the seeds that once found something.
    """
    pytest("-q", *_test_folders("simulation"))
    seeds, first = os.environ.get("SEEDS") or "2000", os.environ.get("FIRST") or "0"
    call_python("-m", "support.simulation.run", "--seeds", seeds, "--first", first)


def mutants() -> None:
    """Faults on purpose; every one must be found. ONLY=word takes those with it in their name."""
    try:
        survived = not run_mutants(os.environ.get("ONLY", ""))
    except BadMutant as error:
        raise TaskFailed(str(error)) from error
    if survived:
        raise TaskFailed("not every mutant was killed")


def component() -> None:
    """Parts against a real PostgreSQL (in the engine image's file system) and a real API server.

    The operator's tests start etcd and kube-apiserver of the local cluster, so they run outside,
    and beside the others: they mostly wait.
    """
    checkers()
    folders = [f for f in _subfolders("component") if f.name not in HOST_COMPONENTS]
    inside = [folder.relative_to(ROOT) for folder in folders]
    outside = [ROOT / "tests" / "component" / name for name in HOST_COMPONENTS]
    run_inside: tuple[str | Path, ...] = (
        "images/build.py",
        "run-component",
        "--",
        "pytest",
        "-q",
        *inside,
    )
    _side_by_side(run_inside, ("-m", "pytest", "-q", *outside))


def _side_by_side(first: Sequence[str | Path], second: Sequence[str | Path]) -> None:
    """Run two programs of the environment's Python at once; what the second says comes last."""
    words = [sys.executable, *map(str, second)]
    with tempfile.TemporaryFile() as said:
        beside = subprocess.Popen(
            words, cwd=ROOT, env=environment(), stdout=said, stderr=subprocess.STDOUT
        )
        try:
            complaint = _attempt(lambda: call_python(*first))
            code = beside.wait()
        except BaseException:
            beside.terminate()
            beside.wait()
            raise
        said.seek(0)
        say(said.read().decode(errors="replace"))
    if complaint:
        raise TaskFailed(complaint)
    if code != 0:
        raise TaskFailed(f"{' '.join(words)} ended with {code}")


def bench_commit() -> None:
    """What a commit costs, beside what others cost; FAST=1: a short look."""
    _bench("commit")


def bench_lag() -> None:
    """How far a replica is behind; FAST=1: a short look."""
    _bench("lag")


def bench_failover() -> None:
    """How long nobody writes when the writer is lost; FAULT=name,name and N=rounds choose."""
    call_python("-m", "bench.failover")


def _bench(name: str) -> None:
    """Run a benchmark on this disk; its raw rows stay in build/bench/results."""
    disk = BUILD / "bench"
    disk.mkdir(parents=True, exist_ok=True)
    words = ["--fast"] if os.environ.get("FAST") else []
    run_inside: tuple[str | Path, ...] = ("images/build.py", "run-component", "--disk", disk, "--")
    call_python(*run_inside, "python3", "-m", f"bench.{name}", *words)


def e2e() -> None:
    """The whole on the local three-zone cluster; LEVEL=full adds the long tests, part by part."""
    words = ("-v", "--durations=0", "-o", "timeout=900")
    if os.environ.get("LEVEL") != "full":
        pytest(*words, E2E)
        return
    done = _passed_parts()
    for part in sorted(E2E.glob("test_*.py")):
        if done is not None and (done / part.name).exists():
            say(f"{part.name}: passed before at this commit")
            continue
        pytest(*words, part)
        if done is not None:
            done.mkdir(parents=True, exist_ok=True)
            (done / part.name).touch()


def _passed_parts() -> Path | None:
    """Where the long run notes what passed at this commit; nowhere while files are changed."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    version = done.stdout.strip()
    if done.returncode != 0 or version.endswith("-dirty"):
        return None
    return BUILD / "e2e-full" / version


def generate() -> None:
    """Write the CRDs from the models."""
    call_python("-m", "aurora_operator.cli.main", "generate", "crds")


def check_generate() -> None:
    """Fail when the CRDs differ from the models."""
    call_python("-m", "aurora_operator.cli.main", "generate", "crds", "--check")


def images() -> None:
    """Build both images; they stay in the builder's store."""
    call_python("-c", "from localkube import packages; packages.install_missing()")
    for name in ("engine", "operator"):
        call_python("images/build.py", name)


def chart() -> None:
    """Lint, test and pack the Helm chart."""
    BUILD.mkdir(exist_ok=True)
    helm = _output("-c", "from support.helm import helm_path; print(helm_path())")
    call(helm, "lint", "--strict", "--quiet", CHART)
    pytest("-q", "tests/chart")
    call(helm, "package", CHART, "--destination", BUILD)


def checkers() -> None:
    """Build the checkers of histories, where the component tests find them."""
    call_python("-m", "histories", "checkers")


def histories() -> None:
    """Make histories on the local cluster and judge them; settings come from the environment."""
    names = ("SEEDS", "FIRST", "ROUNDS", "KINDS")
    given = [(name, value) for name in names if (value := os.environ.get(name))]
    words = [word for name, value in given for word in (f"--{name.lower()}", value)]
    call_python("-m", "histories", "cluster", *words)


def cluster_up() -> None:
    """Bring the local Kubernetes up; a second time it takes seconds."""
    call_python("-m", "localkube", "up")


def ground() -> None:
    """The local Kubernetes itself: its services, volumes and faults."""
    pytest("-q", "tests/localkube/test_ground.py")


def leftovers() -> None:
    """Taking the local Kubernetes down leaves nothing behind; afterwards it is down."""
    pytest("-q", "tests/localkube/test_down.py")


def cluster_down() -> None:
    """Take the local Kubernetes down, leaving nothing behind."""
    call_python("-m", "localkube", "down")


def demo() -> None:
    """From nothing to a cluster whose writer is killed before your eyes."""
    call_python("-m", "demo")


def psql() -> None:
    """An SQL prompt at the demo's writer."""
    call_python("-m", "demo", "psql")


def clean() -> None:
    """Remove what was built in the checkout; the cache outside it stays."""
    for folder in (BUILD, ROOT / "dist"):
        shutil.rmtree(folder, ignore_errors=True)
    for name in (".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"):
        shutil.rmtree(ROOT / name, ignore_errors=True)
    say(f"The cache {cache_root()} is kept; remove it by hand to build everything anew.")


@dataclass(frozen=True)
class Part:
    """One part of `make test`, and the parts that must have passed before it makes sense."""

    name: str
    run: Callable[[], None]
    needs: tuple[str, ...] = ()


PARTS: Final = (
    Part("lint", lint),
    Part("unit", unit),
    Part("sim", sim),
    Part("cluster-up", cluster_up),
    Part("images", images),
    Part("chart", chart, ("cluster-up",)),
    Part("component", component, ("images", "cluster-up")),
    Part("ground", ground, ("cluster-up",)),
    Part("e2e", e2e, ("images", "cluster-up", "chart")),
    Part("leftovers", leftovers, ("cluster-up",)),
)


def test() -> None:
    """Every part, and a table of what passed and how long it took."""
    outcome: dict[str, str] = {}
    lines: list[str] = []
    for part in PARTS:
        missing = [name for name in part.needs if outcome.get(name) != "passed"]
        begun = time.monotonic()
        if missing:
            outcome[part.name] = "skipped"
            detail = f"{', '.join(missing)} did not pass"
        else:
            say(f"\n=== {part.name}")
            detail = _attempt(part.run)
            outcome[part.name] = "failed" if detail else "passed"
        seconds = time.monotonic() - begun
        lines.append(f"{part.name:<12} {outcome[part.name]:<8} {seconds:7.1f} s  {detail}")
    say("\n=== summary\n" + "\n".join(lines))
    bad = [name for name, result in outcome.items() if result != "passed"]
    if bad:
        raise TaskFailed(f"not passed: {', '.join(bad)}")


def _attempt(run: Callable[[], None]) -> str:
    """What went wrong, or nothing."""
    try:
        run()
    except TaskFailed as error:
        return str(error)
    return ""


def _package_exists(name: str) -> bool:
    return any((ROOT / base / name).is_dir() for base in ("operator", "tests", "."))


def _subfolders(name: str) -> list[Path]:
    """Folders of tests below tests/NAME."""
    base = ROOT / "tests" / name
    return sorted(folder for folder in base.iterdir() if any(folder.glob("test_*.py")))


def _test_folders(*names: str) -> list[Path]:
    return [folder for name in names if (folder := ROOT / "tests" / name).is_dir()]


TASKS: Final[dict[str, Callable[[], None]]] = {
    "lint": lint,
    "unit": unit,
    "sim": sim,
    "mutants": mutants,
    "component": component,
    "bench-commit": bench_commit,
    "bench-lag": bench_lag,
    "bench-failover": bench_failover,
    "e2e": e2e,
    "generate": generate,
    "check-generate": check_generate,
    "images": images,
    "chart": chart,
    "checkers": checkers,
    "histories": histories,
    "cluster-up": cluster_up,
    "cluster-down": cluster_down,
    "demo": demo,
    "psql": psql,
    "clean": clean,
    "test": test,
}


def main() -> int:
    """Run one target; errors end in one line, not in a traceback."""
    if len(sys.argv) != 2 or sys.argv[1] not in TASKS:
        complain(f"usage: python3 -m tools.tasks {{{','.join(TASKS)}}}")
        return 2
    if os.environ.get(INSIDE) is None:
        try:
            interpreter = python()
        except SetupError as error:
            complain(f"error: {error}")
            return 1
        argv = [str(interpreter), "-m", "tools.tasks", sys.argv[1]]
        os.chdir(ROOT)
        os.execve(interpreter, argv, environment() | {INSIDE: "1"})  # noqa: S606
    try:
        TASKS[sys.argv[1]]()
    except TaskFailed as error:
        complain(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        complain("stopped; run the same again, it takes up what is there")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
