"""A power cut after any file operation, and what a disk may hold afterwards.

``CrashingFiles`` works on a real directory and remembers what was made durable. Told to cut after
operation number k, it raises ``PowerCut`` in place of the next one, or tears that one in the
middle. ``survivors`` then builds the directories that the machine may come back with: names and
contents may each have been lost back to the last sync, or have reached the disk unasked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from aurora_operator.volume.files import Files

DONE: Final = "after everything"
"""Begins what ``every_cut`` yields when nothing was left to cut: all of it must be durable."""


class PowerCut(Exception):
    """The machine is off; whatever runs now would not run."""


class QuickFiles(Files):
    """Does everything but wait for the disk; enough where no power is cut."""

    def sync(self, descriptor: int) -> None:
        pass

    def sync_directory(self, path: Path) -> None:
        pass


class CrashingFiles(Files):
    """File operations on ``root`` that stop the world at an operation."""

    def __init__(self, root: Path, cut_after: int | None = None, *, torn: bool = False) -> None:
        self._root = root
        self._left = cut_after
        self._torn = torn
        self._ids = itertools.count()
        self._id_by_path: dict[Path, int] = {}
        self._path_by_descriptor: dict[int, Path] = {}
        self._durable_content: dict[int, bytes] = {}
        self._durable_names: dict[Path, int] = {}
        self.operations: list[str] = []
        for path in _files_below(root):
            number = self._id_by_path[path] = next(self._ids)
            self._durable_content[number] = path.read_bytes()
            self._durable_names[path] = number

    def create(self, path: Path) -> int:
        self._step(f"create {path.name}")
        descriptor = super().create(path)
        self._id_by_path[path] = next(self._ids)
        self._path_by_descriptor[descriptor] = path
        return descriptor

    def open(self, path: Path) -> int:
        descriptor = super().open(path)
        self._path_by_descriptor[descriptor] = path
        return descriptor

    def write(self, descriptor: int, parts: Sequence[bytes], offset: int) -> None:
        def tear() -> None:
            whole = b"".join(parts)
            super(CrashingFiles, self).write(descriptor, (whole[: len(whole) // 2],), offset)

        self._step("write", tear)
        super().write(descriptor, parts, offset)

    def shorten(self, descriptor: int, length_bytes: int) -> None:
        self._step("shorten")
        super().shorten(descriptor, length_bytes)

    def sync(self, descriptor: int) -> None:
        path = self._path_by_descriptor[descriptor]
        self._step(f"sync {path.name}")
        size = path.stat().st_size if path.exists() else 0
        content = self.read(descriptor, size, 0)
        self._durable_content[self._id_by_path[path]] = content

    def rename(self, source: Path, target: Path) -> None:
        self._step(f"rename to {target.name}")
        super().rename(source, target)
        self._id_by_path[target] = self._id_by_path.pop(source)
        for descriptor, path in self._path_by_descriptor.items():
            if path == source:
                self._path_by_descriptor[descriptor] = target

    def unlink(self, path: Path) -> None:
        self._step(f"unlink {path.name}")
        super().unlink(path)

    def sync_directory(self, path: Path) -> None:
        self._step(f"sync directory {path.name}")
        for name in [known for known in self._durable_names if known.parent == path]:
            del self._durable_names[name]
        for file in _files_below(path):
            if file.parent == path:
                self._durable_names[file] = self._id_by_path[file]

    def survivors(self, into: Path) -> Iterator[Path]:
        """Every directory that may be found after the power is back."""
        live = {
            path: (self._id_by_path[path], path.read_bytes()) for path in _files_below(self._root)
        }
        live_names = {path: number for path, (number, _) in live.items()}
        written = dict(live.values())
        for number, names in enumerate((self._durable_names, live_names)):
            for content in ("durable", "half", "live"):
                found = into / f"{number}-{content}"
                _build(found, self._root, names, self._content(content, written))
                yield found

    def _content(self, which: str, written: dict[int, bytes]) -> Callable[[int], bytes]:
        def content(number: int) -> bytes:
            durable = self._durable_content.get(number, b"")
            latest = written.get(number, durable)
            if which == "live":
                return latest
            if which == "half" and len(latest) > len(durable):
                return latest[: (len(latest) + len(durable)) // 2]
            return durable

        return content

    def _step(self, name: str, tear: Callable[[], None] | None = None) -> None:
        if self._left == 0:
            if self._torn and tear is not None:
                tear()
            raise PowerCut(f"before {name}, after {self.operations}")
        if self._left is not None:
            self._left -= 1
        self.operations.append(name)


def every_cut(
    tmp_path: Path, prepare: Callable[[Path], None], act: Callable[[Path, Files], None]
) -> Iterator[tuple[str, Path]]:
    """Run ``act`` on a prepared directory again and again, cut after each of its operations.

    Yields what was cut, and each directory that may be found afterwards.
    """
    for number in itertools.count():
        cut_after, torn = number // 2, number % 2 == 1
        run = tmp_path / f"cut-{cut_after}-{'torn' if torn else 'clean'}"
        root = run / "root"
        root.mkdir(parents=True)
        prepare(root)
        files = CrashingFiles(root, cut_after, torn=torn)
        try:
            act(root, files)
        except PowerCut as cut:
            what = str(cut)
        else:
            assert cut_after > 0, "nothing was done that could be cut"
            what = f"{DONE}: {files.operations}"
        for found in files.survivors(run):
            yield f"{what} -> {found.name}", found
        if what.startswith(DONE):
            return


def _files_below(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def _build(
    target: Path, root: Path, names: dict[Path, int], content: Callable[[int], bytes]
) -> None:
    target.mkdir(parents=True)
    for directory in sorted(path for path in root.rglob("*") if path.is_dir()):
        (target / directory.relative_to(root)).mkdir(parents=True)
    for path, number in names.items():
        (target / path.relative_to(root)).write_bytes(content(number))
