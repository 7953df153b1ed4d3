"""Where built things are kept, and when they are still good.

Everything lives outside the checkout and is named by a digest of what went into it, so that an
unchanged input is never built twice and a changed one never meets an old result. A result is
made under a temporary name and renamed when it is whole: a build that was killed leaves nothing
that a later one would take for finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LOCK_TIMEOUT_SECONDS = 1800


class BuildError(Exception):
    """A step failed; the text says which, and what to do."""


def cache_dir(name: str) -> Path:
    """The folder ``name`` of the cache; it is made when absent."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(os.environ.get("AURORA_CACHE") or Path(home) / "aurora-operator")
    path = root / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def say(text: str) -> None:
    """Progress for people; results alone go to standard output."""
    print(f"images: {text}", file=sys.stderr, flush=True)


def digest_of(parts: Iterable[str | bytes | Path]) -> str:
    """A short name for these inputs: texts, and files or whole folders with names and modes."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for file in _files_under(part):
                mode = file.stat().st_mode & 0o777
                total.update(f"\0{file.relative_to(part.parent)}\0{mode:o}\0".encode())
                total.update(hashlib.sha256(file.read_bytes()).digest())
        else:
            data = part.encode() if isinstance(part, str) else part
            total.update(f"\0{len(data)}\0".encode() + data)
    return total.hexdigest()[:16]


def _files_under(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in files if "__pycache__" not in file.parts)


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Hold the cache's lock ``name``; two builds at once would do the same work twice."""
    with (cache_dir("locks") / name).open("w") as lock:
        deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BuildError(
                        f"another process has held the lock {lock.name} for"
                        f" {LOCK_TIMEOUT_SECONDS} s; end it, then run this again"
                    ) from None
                if not told:
                    say("waiting for another build to end …")
                    told = True
                time.sleep(0.2)
        yield


def keep(folder: Path, make: Callable[[Path], None], what: str) -> Path:
    """``folder``, made by ``make`` unless it is there already (its name carries the digest)."""
    with only_one(folder.parent.name):
        if folder.exists():
            return folder
        for leftover in folder.parent.glob(".*"):  # of builds that were killed: we hold the lock
            shutil.rmtree(leftover)
        begun = time.monotonic()
        say(f"{what} …")
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        make(scratch)
        scratch.chmod(0o755)
        scratch.rename(folder)
        say(f"{what}: {time.monotonic() - begun:.0f} s")
    return folder
