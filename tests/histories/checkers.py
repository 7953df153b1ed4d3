"""The checkers that we did not write: adya (isolation) and porcupine (linearizability).

Both are built once from pinned sources and kept in the cache; `make` puts copies into
build/checkers, where the component tests, which see the checkout only, find them. porcupine is a
library: `localkube/go/linear` is the little program around it. adya comes from the registry of
Rust crates and needs Rust 1.80: the machine's own, or else Debian's package (on Debian 12 the one
that is kept new for browsers).
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from localkube import gobuild, packages, pins, shell
from localkube.layout import cache_root
from localkube.progress import step

FOLDER: Final = Path(__file__).resolve().parents[2] / "build" / "checkers"
ADYA_KEY: Final = f"adya-{pins.ADYA_VERSION}-{platform.machine()}"
BUILD_LIMIT_SECONDS: Final = 1800.0
CHECK_LIMIT_SECONDS: Final = 300.0
LINEAR_LIMIT: Final = "20s"
"""For each key."""
SHOWN_CHARACTERS: Final = 1500


def ensure() -> None:
    """Build what the cache lacks, and lay copies where the tests look."""
    gobuild.build_missing((gobuild.LINEAR,))
    built = {_linear(): gobuild.program_path(gobuild.LINEAR), _adya(): _build_adya()}
    FOLDER.mkdir(parents=True, exist_ok=True)
    for target, source in built.items():
        if not target.exists():
            unfinished = target.with_suffix(f".{os.getpid()}")
            shutil.copy2(source, unfinished)
            unfinished.replace(target)


def isolation(what: str, history: str, model: str) -> list[str]:
    """Ask adya whether a history of lists keeps a model; one sentence if it does not."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "history.jsonl"
        path.write_text(history)
        words = ("check", "-m", "list-append", "-c", model, str(path))
        done = _run([str(_program(_adya())), *words], "")
    if done.returncode == 0:
        return []
    said = (done.stdout + done.stderr).replace(str(path), what)[:SHOWN_CHARACTERS]
    verdict = {1: f"breaks {model}", 2: f"may or may not keep {model}"}
    return [f"{what}: adya says that it {verdict.get(done.returncode, 'is no history')}: {said}"]


def linearizability(records: Sequence[dict[str, Any]]) -> list[str]:
    """Ask porcupine about each key; one sentence for each that is not linearizable."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    done = _run([str(_program(_linear())), "-limit", LINEAR_LIMIT], text)
    if done.returncode > 2:
        raise RuntimeError(f"linear ended with {done.returncode}: {done.stderr[-500:]}")
    by_id = {(record["key"], record["id"]): record for record in records}
    sentences = []
    for line in done.stdout.splitlines():
        found = json.loads(line)
        if found["verdict"] == "linearizable":
            continue
        stuck = [by_id[found["key"], number] for number in found.get("stuck", ())]
        sentences.append(
            f"porcupine: {found['key']} ({found['operations']} operations): {found['verdict']};"
            f" held {found.get('state')!r} when these did not fit: {stuck}"[:SHOWN_CHARACTERS]
        )
    return sentences


def _run(words: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        input=text,
        capture_output=True,
        text=True,
        timeout=CHECK_LIMIT_SECONDS,
        check=False,
    )


def _program(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"{path} is not built; `make checkers` builds it")
    return path


def _linear() -> Path:
    return FOLDER / f"linear-{gobuild.program_key(gobuild.LINEAR)}"


def _adya() -> Path:
    return FOLDER / ADYA_KEY


def _build_adya() -> Path:
    """The checker only: without adya's own database clients."""
    target = cache_root() / "bin" / ADYA_KEY
    if target.exists():
        return target
    cargo = _cargo()
    target.parent.mkdir(parents=True, exist_ok=True)
    with step("building adya", 60), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        root = Path(scratch)
        shell.run(
            *("nice", "-n", "10", cargo, "install", "adya", "--version", f"={pins.ADYA_VERSION}"),
            *("--locked", "--no-default-features", "--root", root, "--target-dir", root / "target"),
            timeout_seconds=BUILD_LIMIT_SECONDS,
            env={**os.environ, "RUSTFLAGS": ""},
        )
        (root / "bin" / "adya").replace(target)
    return target


def _cargo() -> str:
    """A cargo that is new enough: the machine's, or Debian's, installed now."""
    if (found := shutil.which("cargo")) and _minor(found) >= pins.RUST_MINOR_LEAST:
        return found
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    packages.install(pins.RUST_PACKAGES.get(release, pins.RUST_PACKAGES_ELSEWHERE))
    return "/usr/bin/cargo"


def _minor(cargo: str) -> int:
    said = re.match(r"cargo 1\.(\d+)\.", shell.run(cargo, "--version"))
    return int(said[1]) if said else 0
