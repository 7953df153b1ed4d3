"""A file system that keeps what was fsynced and loses the rest when the power is cut.

It speaks the kernel's FUSE protocol by itself, on a descriptor that was mounted before (see
``images/imagekit/component.py``), so that it needs no library and no privilege. All of it lives in
memory, twice: as the kernel sees it, and as it would be after a power cut. A file's bytes and
length become durable with its fsync, names with the fsync of their directory, as POSIX promises
and no more. Told ``cut SEED`` on its standard input it drops what is not durable, or keeps a part
that the seed chooses: a disk may write what nobody asked it to, torn and in another order. From
then on it answers nothing but errors, until it is told ``on``: nobody lives to hear them.
"""

from __future__ import annotations

import errno
import os
import random
import select
import stat
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("<QQQQII")
_ATTR_OUT = struct.Struct("<QII")
_OPEN_OUT = struct.Struct("<QII")
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_READ_IN = struct.Struct("<QQIIQII")
_SETATTR_IN = struct.Struct("<IIQQQQQQIIIIIIII")
_STATFS_OUT = struct.Struct("<QQQQQIIII24x")
_ROOT = 1
_WRITE_BYTES_MAX = 1024 * 1024
_BLOCK_BYTES = 4096
_DIRECT_IO = 1
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22
_ATTR_SIZE, _ATTR_MODE = 8, 1
_NO_ANSWER = frozenset({2, 36, 42})  # FORGET, INTERRUPT, BATCH_FORGET

Change = tuple[int, bytes | None]
"""Bytes at an offset; or, without bytes, a new length."""


@dataclass(eq=False)
class File:
    """Content as it is seen, as it is durable, and the changes in between."""

    number: int
    mode: int
    seen: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def change(self, change: Change) -> None:
        _apply(self.seen, change)
        self.pending.append(change)

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()

    def cut(self, chance: random.Random) -> None:
        """Nothing, a beginning, or any part of what was not synced reached the disk."""
        kind = chance.choice(("none", "beginning", "any", "torn"))
        kept = self.pending[: chance.randint(0, len(self.pending))] if kind != "none" else []
        if kind == "any":
            kept = [change for change in self.pending if chance.random() < 0.5]
        if kind == "torn" and kept and kept[-1][1] is not None:
            offset, data = kept[-1]
            assert data is not None
            kept[-1] = (offset, data[: len(data) // 2])
        for change in kept:
            _apply(self.durable, change)
        self.pending.clear()
        self.seen = bytearray(self.durable)


@dataclass(eq=False)
class Folder:
    """Names as they are seen, as they are durable, and the operations in between."""

    number: int
    mode: int
    seen: dict[bytes, File | Folder] = field(default_factory=dict)
    durable: dict[bytes, File | Folder] = field(default_factory=dict)
    pending: list[Callable[[dict[bytes, File | Folder]], None]] = field(default_factory=list)

    def change(self, operation: Callable[[dict[bytes, File | Folder]], None]) -> None:
        operation(self.seen)
        self.pending.append(operation)

    def sync(self) -> None:
        self.durable = dict(self.seen)
        self.pending.clear()

    def cut(self, chance: random.Random) -> None:
        """Of the operations since the last sync the first few happened, as a journal keeps them."""
        for operation in self.pending[: chance.randint(0, len(self.pending))]:
            operation(self.durable)
        self.pending.clear()
        self.seen = dict(self.durable)


def _apply(content: bytearray, change: Change) -> None:
    offset, data = change
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


class Refused(Exception):
    """The answer is an error number."""


class LosingDisk:
    """Answers the kernel, one request after the other."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._nodes: dict[int, File | Folder] = {_ROOT: Folder(_ROOT, stat.S_IFDIR | 0o700)}
        self._last = _ROOT
        self._delay_seconds = 0.0
        self._off = False
        self._answers: dict[int, Callable[[int, memoryview], bytes]] = {
            1: self._lookup, 3: self._getattr, 4: self._setattr, 9: self._mkdir,
            10: self._unlink, 11: self._unlink, 12: self._rename, 14: self._open,
            15: self._read, 16: self._write, 17: self._statfs, 18: _nothing, 20: self._fsync,
            25: _nothing, 26: self._init, 27: self._open, 28: self._readdir, 29: _nothing,
            30: self._fsync, 34: _nothing, 35: self._create, 38: _nothing, 45: self._rename2,
        }  # fmt: skip

    def serve(self) -> None:
        """Until standard input ends."""
        while True:
            ready, _, _ = select.select([self._descriptor, sys.stdin], [], [])
            if sys.stdin in ready:
                if not self._hear():
                    return
            elif self._descriptor in ready:
                self._answer(os.read(self._descriptor, _WRITE_BYTES_MAX + 65536))

    def _hear(self) -> bool:
        line = sys.stdin.readline()
        if line:
            print(self._obey(line.split()), flush=True)
        return bool(line)

    def _obey(self, words: list[str]) -> str:
        match words:
            case ["cut", seed]:
                self._off = True
                return self._cut(random.Random(int(seed)))
            case ["on"]:
                self._off = False
                return "ok"
            case ["delay", seconds]:
                self._delay_seconds = float(seconds)
                return "ok"
        raise ValueError(f"cut SEED, on or delay SECONDS, not {words}")

    def _cut(self, chance: random.Random) -> str:
        waiting = sum(len(node.pending) for node in self._nodes.values())
        for node in self._nodes.values():
            node.cut(chance)
        return f"{waiting} changes were not durable"

    def _answer(self, request: bytes) -> None:
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        if opcode in _NO_ANSWER:
            return
        error, body = 0, b""
        try:
            answer = self._answers.get(opcode)
            if answer is None:
                raise Refused(errno.ENOSYS)
            if self._off:
                raise Refused(errno.EIO)
            body = answer(node, memoryview(request)[_IN.size :])
        except Refused as refused:
            error = -int(refused.args[0])
        try:
            os.write(self._descriptor, _OUT.pack(_OUT.size + len(body), error, unique) + body)
        except OSError as failure:
            if failure.errno != errno.ENOENT:  # whoever asked was killed
                raise

    # --- what it answers ---------------------------------------------------------------------

    def _init(self, _node: int, _body: memoryview) -> bytes:
        flags, pages = _BIG_WRITES | _MAX_PAGES, _WRITE_BYTES_MAX // _BLOCK_BYTES
        return _INIT_OUT.pack(7, 31, 0, flags, 12, 9, _WRITE_BYTES_MAX, 1, pages, 0, 0)

    def _lookup(self, node: int, body: memoryview) -> bytes:
        return self._entry(self._child(node, _name(body)))

    def _getattr(self, node: int, _body: memoryview) -> bytes:
        return _ATTR_OUT.pack(0, 0, 0) + self._attributes(self._nodes[node])

    def _setattr(self, node: int, body: memoryview) -> bytes:
        valid, _, _, size, *rest = _SETATTR_IN.unpack_from(body)
        target = self._nodes[node]
        if valid & _ATTR_SIZE and isinstance(target, File):
            target.change((size, None))
        if valid & _ATTR_MODE:
            target.mode = stat.S_IFMT(target.mode) | stat.S_IMODE(rest[7])
        return self._getattr(node, body)

    def _mkdir(self, node: int, body: memoryview) -> bytes:
        folder = Folder(self._number(), stat.S_IFDIR | 0o700)
        self._link(node, _name(body[8:]), folder)
        return self._entry(folder)

    def _create(self, node: int, body: memoryview) -> bytes:
        file = File(self._number(), stat.S_IFREG | 0o600)
        self._link(node, _name(body[16:]), file)
        return self._entry(file) + _OPEN_OUT.pack(0, _DIRECT_IO, 0)

    def _unlink(self, node: int, body: memoryview) -> bytes:
        name = _name(body)
        self._child(node, name)

        def unlink(names: dict[bytes, File | Folder]) -> None:
            names.pop(name, None)

        self._folder(node).change(unlink)
        return b""

    def _rename(self, node: int, body: memoryview) -> bytes:
        return self._renamed(node, int.from_bytes(body[:8], "little"), body[8:])

    def _rename2(self, node: int, body: memoryview) -> bytes:
        return self._renamed(node, int.from_bytes(body[:8], "little"), body[16:])

    def _renamed(self, node: int, target: int, names: memoryview) -> bytes:
        if target != node:
            raise Refused(errno.EXDEV)
        old, new = bytes(names).split(b"\0")[:2]
        self._child(node, old)

        def rename(entries: dict[bytes, File | Folder]) -> None:
            if old in entries:
                entries[new] = entries.pop(old)

        self._folder(node).change(rename)
        return b""

    def _open(self, _node: int, _body: memoryview) -> bytes:
        return _OPEN_OUT.pack(0, _DIRECT_IO, 0)

    def _read(self, node: int, body: memoryview) -> bytes:
        _, offset, size, *_ = _READ_IN.unpack_from(body)
        return bytes(self._file(node).seen[offset : offset + size])

    def _write(self, node: int, body: memoryview) -> bytes:
        _, offset, size, *_ = _READ_IN.unpack_from(body)
        self._file(node).change((offset, bytes(body[_READ_IN.size : _READ_IN.size + size])))
        return struct.pack("<II", size, 0)

    def _fsync(self, node: int, _body: memoryview) -> bytes:
        """A cut that comes before the fsync is done finds nothing of it done."""
        deadline = time.monotonic() + self._delay_seconds
        while (left_seconds := deadline - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], left_seconds)[0] and not self._hear():
                sys.exit()
            if self._off:
                raise Refused(errno.EIO)
        self._nodes[node].sync()
        return b""

    def _readdir(self, node: int, body: memoryview) -> bytes:
        _, offset, size, *_ = _READ_IN.unpack_from(body)
        answer = b""
        for number, (name, child) in enumerate(self._folder(node).seen.items(), 1):
            entry = struct.pack("<QQII", child.number, number, len(name), child.mode >> 12) + name
            entry += bytes(-len(entry) % 8)
            if number > offset and len(answer) + len(entry) <= size:
                answer += entry
        return answer

    def _statfs(self, _node: int, _body: memoryview) -> bytes:
        blocks = 1024**3 // _BLOCK_BYTES
        return _STATFS_OUT.pack(
            blocks, blocks, blocks, 1 << 20, 1 << 20, _BLOCK_BYTES, 255, _BLOCK_BYTES, 0
        )

    # --- helpers -----------------------------------------------------------------------------

    def _number(self) -> int:
        self._last += 1
        return self._last

    def _link(self, node: int, name: bytes, child: File | Folder) -> None:
        if name in self._folder(node).seen:
            raise Refused(errno.EEXIST)
        self._nodes[child.number] = child

        def link(names: dict[bytes, File | Folder]) -> None:
            names[name] = child

        self._folder(node).change(link)

    def _folder(self, node: int) -> Folder:
        found = self._nodes[node]
        if not isinstance(found, Folder):
            raise Refused(errno.ENOTDIR)
        return found

    def _file(self, node: int) -> File:
        found = self._nodes[node]
        if not isinstance(found, File):
            raise Refused(errno.EISDIR)
        return found

    def _child(self, node: int, name: bytes) -> File | Folder:
        child = self._folder(node).seen.get(name)
        if child is None:
            raise Refused(errno.ENOENT)
        return child

    def _entry(self, node: File | Folder) -> bytes:
        return _ENTRY.pack(node.number, 0, 0, 0, 0, 0) + self._attributes(node)

    def _attributes(self, node: File | Folder) -> bytes:
        size = len(node.seen) if isinstance(node, File) else _BLOCK_BYTES
        user, group = os.getuid(), os.getgid()
        return _ATTR.pack(
            node.number, size, -(-size // 512), 0, 0, 0, 0, 0, 0, node.mode, 1, user, group, 0,
            _BLOCK_BYTES, 0,
        )  # fmt: skip


def _nothing(_node: int, _body: memoryview) -> bytes:
    return b""


def _name(body: memoryview) -> bytes:
    return bytes(body).split(b"\0", 1)[0]


if __name__ == "__main__":
    LosingDisk(int(sys.argv[1])).serve()
