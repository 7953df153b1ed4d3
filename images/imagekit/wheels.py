"""Wheels for the images' Python: what the lock names, and our own.

The images have CPython 3.13, whatever Python runs this. Nothing is compiled and no index is
named: pip takes what the machine is set up with, and every file must match its hash in the lock.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from imagekit.cache import CHECKOUT, cache_dir, digest_of, keep
from imagekit.process import run

PYTHON_VERSION = "3.13"
GLIBC_TAGS = ("2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17")
LOCK = CHECKOUT / "requirements.lock"
TEST_LOCK = CHECKOUT / "requirements-dev.lock"
OUR_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "operator")


def locked(lock: Path) -> Path:
    """A folder of every wheel that ``lock`` names."""
    folder = cache_dir("wheels") / f"locked-{digest_of([lock, *_target()])}"
    return keep(folder, lambda scratch: _download(lock, scratch), f"wheels of {lock.name}")


def ours() -> Path:
    """A folder with the wheel of this checkout."""
    folder = cache_dir("wheels") / f"ours-{our_inputs()}"
    return keep(folder, _build_ours, "our wheel")


def our_inputs() -> str:
    """The digest of all that our wheel is made of."""
    return digest_of(CHECKOUT / name for name in OUR_SOURCES)


def _target() -> list[str]:
    machine = platform.machine()
    tags = [f"--platform=manylinux_{tag}_{machine}" for tag in GLIBC_TAGS]
    return [
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={PYTHON_VERSION}",
        *tags,
        f"--platform=manylinux2014_{machine}",
    ]


def _download(lock: Path, folder: Path) -> None:
    _pip("download", ["--require-hashes", *_target(), "--dest", folder, "--requirement", lock])


def install_into(folder: Path, lock: Path) -> None:
    """Unpack what ``lock`` names into ``folder``, ready to be put on the images' Python path."""
    source = ["--no-index", f"--find-links={locked(lock)}", "--require-hashes"]
    into = [*_target(), "--no-compile", f"--target={folder}", f"--requirement={lock}"]
    _pip("install", [*source, *into])
    for script in (folder / "bin").iterdir():
        first, _, rest = script.read_bytes().partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:  # pip wrote the path of this Python
            script.write_bytes(b"#!/usr/bin/python3\n" + rest)


def _build_ours(folder: Path) -> None:
    source = folder / "source"
    source.mkdir()
    for name in OUR_SOURCES:
        path = CHECKOUT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(path, source / name)
    _pip("wheel", ["--wheel-dir", folder, source])
    shutil.rmtree(source)


def _pip(command: str, words: Sequence[str | Path]) -> None:
    run([sys.executable, "-m", "pip", command, "--quiet", "--no-deps", *words])
