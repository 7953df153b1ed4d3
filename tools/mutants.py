"""Faults on purpose: each must be found by a test, or the tests do not hold the rule.

A mutant (tests/mutants/*.toml) is one small change of the source, what goes wrong with it, and
who should find out: tests, or the simulation from a seed on. It is made in a copy of the tree,
never here. Every killer must pass on the unchanged copy first; then each mutant must make one
fail. A mutant whose text is not found any more, or that breaks the tests in another way than by
failing one, is an error: it shows nothing.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from tools.paths import ROOT
from tools.say import say

FOLDER: Final = ROOT / "tests" / "mutants"
WORKERS: Final = 2
TEST_SECONDS: Final = 120.0
SEEDS_MAX: Final = 1500
"""How many seeds a mutant may live before it is called a survivor."""
_COPIED: Final = (
    "operator",
    "images/engine/guard",
    "tests/support",
    "tests/simulation",
    "tests/property",
    "tests/unit",
)
_FAILED_TEST: Final = re.compile(r"^FAILED (\S+)", re.MULTILINE)
_FAILED_SEED: Final = re.compile(r"^(seed \d+), step \d+: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """One fault, and who should find it."""

    name: str
    file: str
    """Below operator/aurora_operator."""
    old: str
    new: str
    wrong: str
    """What goes wrong with it, for people."""
    killers: tuple[str, ...] = ()
    """Tests, as pytest names them."""
    seed: int | None = None
    """Where the simulation begins to search; ``None``: tests find it."""


class BadMutant(Exception):
    """A definition that shows nothing, whatever the tests do."""


def read_mutants() -> list[Mutant]:
    """All definitions, by file and in the order in which they stand there."""
    found: list[Mutant] = []
    for path in sorted(FOLDER.glob("*.toml")):
        for entry in tomllib.loads(path.read_text())["mutant"]:
            entry["killers"] = tuple(entry.get("killers", ()))
            found.append(Mutant(**entry))
    names = [mutant.name for mutant in found]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise BadMutant(f"two mutants are called {', '.join(sorted(doubled))}")
    for mutant in found:
        if bool(mutant.killers) == (mutant.seed is not None):
            raise BadMutant(f"{mutant.name} needs either killers or a seed")
    return found


class Tree:
    """A copy of the source in which one mutant at a time is made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in _COPIED:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", folder)
        # By content, not by time: a mutant may be made and taken back within one tick.
        compileall.compile_dir(
            folder,
            quiet=2,
            invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH,
        )

    @contextmanager
    def with_mutant(self, mutant: Mutant) -> Iterator[None]:
        """The fault is there, until the end."""
        path = self._folder / "operator" / "aurora_operator" / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            raise BadMutant(
                f"{mutant.name}: its text stands {text.count(mutant.old)} times in {mutant.file};"
                " say the fault anew in the code as it is now"
            )
        path.write_text(text.replace(mutant.old, mutant.new))
        try:
            yield
        finally:
            path.write_text(text)

    def test(self, killers: Sequence[str]) -> str:
        """Run tests until one fails; which one, or nothing."""
        words = ("-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider")
        code, text = self._run(*words, *killers)
        if code not in (0, 1):
            raise BadMutant(f"pytest ended with {code}: {text[-2000:]}")
        found = _FAILED_TEST.search(text)
        return found.group(1) if found is not None else ""

    def simulate(self, first: int, seeds: int) -> str:
        """Run seeds until one is violated; which one and how, or nothing."""
        words = ("--first", first, "--seeds", seeds, "--workers", 1, "--violations", 1)
        code, text = self._run("-m", "support.simulation.run", *(str(word) for word in words))
        if code not in (0, 1):
            raise BadMutant(f"the simulation ended with {code}: {text[-2000:]}")
        found = _FAILED_SEED.search(text)
        return f"{found.group(1)}: {found.group(2)}" if found is not None else ""

    def _run(self, *words: str) -> tuple[int, str]:
        path = os.pathsep.join((str(self._folder / "operator"), str(self._folder / "tests")))
        try:
            done = subprocess.run(
                [sys.executable, *words],
                cwd=self._folder,
                env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TEST_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BadMutant(f"no end within {TEST_SECONDS:.0f} s") from error
        return done.returncode, done.stdout


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    mutant: Mutant
    killer: str
    problem: str
    seconds: float

    def __str__(self) -> str:
        state = "killed  " if self.killer else "ERROR   " if self.problem else "SURVIVED"
        told = self.killer or self.problem or self.mutant.wrong
        return f"{state} {self.seconds:5.1f} s  {self.mutant.name:<44} {told[:120]}"


def try_mutant(tree: Tree, mutant: Mutant) -> Outcome:
    """Make the fault and let its killers look."""
    begun = time.monotonic()
    killer = problem = ""
    try:
        with tree.with_mutant(mutant):
            if mutant.seed is None:
                killer = tree.test(mutant.killers)
            else:
                killer = tree.simulate(mutant.seed, SEEDS_MAX)
    except BadMutant as error:
        problem = str(error)
    return Outcome(mutant, killer, problem, time.monotonic() - begun)


def check_unchanged(tree: Tree, mutants: Sequence[Mutant]) -> None:
    """Every killer passes as long as nothing is wrong."""
    killers = sorted({killer for mutant in mutants for killer in mutant.killers})
    if killers and (failed := tree.test(killers)):
        raise BadMutant(f"{failed} fails without any mutant")
    seeds = [mutant.seed for mutant in mutants if mutant.seed is not None]
    for seed in sorted(set(seeds)):
        if failed := tree.simulate(seed, 1):
            raise BadMutant(f"{failed}, without any mutant")


def run(only: str = "") -> bool:
    """Try all mutants (or those whose name has ``only`` in it); whether every one was killed."""
    mutants = [mutant for mutant in read_mutants() if only in mutant.name]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        trees: SimpleQueue[Tree] = SimpleQueue()
        for number in range(WORKERS):
            trees.put(Tree(Path(scratch) / str(number)))

        def one(mutant: Mutant) -> Outcome:
            tree = trees.get()
            try:
                return try_mutant(tree, mutant)
            finally:
                trees.put(tree)

        tree = trees.get()
        check_unchanged(tree, mutants)
        trees.put(tree)
        outcomes = []
        with ThreadPoolExecutor(WORKERS) as pool:
            for outcome in pool.map(one, mutants):
                say(str(outcome))
                outcomes.append(outcome)
    killed = sum(bool(outcome.killer) for outcome in outcomes)
    say(f"killed {killed} of {len(outcomes)} ({time.monotonic() - begun:.0f} s)")
    return killed == len(outcomes)
