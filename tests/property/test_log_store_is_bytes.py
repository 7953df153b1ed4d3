"""The log on disk against a twin in memory, through any sequence of operations."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from aurora_operator.core.lsn import Term
from aurora_operator.volume.log_store import LogStore
from support.copies import at
from support.crash import QuickFiles

SEGMENT = 128

operations = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 200)),
    st.tuples(st.just("sync"), st.just(0)),
    st.tuples(st.just("truncate"), st.integers(0, 400)),
    st.tuples(st.just("remove"), st.integers(0, 400)),
    st.tuples(st.just("reopen"), st.just(0)),
)


class Twin:
    """The log as a string of bytes, with what is kept and what is durable."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = self._open()
        self.written = b""
        self.durable = 0
        self.begin = 0

    def _open(self) -> LogStore:
        return LogStore.open(self.directory, files=QuickFiles(), segment_bytes=SEGMENT)

    def do(self, what: str, number: int) -> None:
        length = len(self.written)
        match what:
            case "append":
                data = bytes((length + n) % 253 for n in range(number))
                self.store.append(at(length), data, Term(1))
                self.written += data
            case "sync":
                self.store.sync()
                self.durable = length
            case "truncate" if self.begin < number <= length:
                self.store.truncate(at(number))
                self.written = self.written[:number]
                self.durable = number
            case "remove":
                self.store.remove_before(at(number))
                last_segment = max(0, length - 1) // SEGMENT * SEGMENT
                self.begin = max(self.begin, min(number // SEGMENT * SEGMENT, last_segment))
            case "reopen":
                self.store.sync()
                self.durable = length
                self.store.close()
                self.store = self._open()

    def compare(self) -> None:
        assert (self.store.begin, self.store.end) == (at(self.begin), at(len(self.written)))
        assert at(self.durable) <= self.store.durable_end <= at(len(self.written))
        read = b""
        while part := self.store.read(at(self.begin + len(read)), 50):
            read += part
        assert read == self.written[self.begin : int(self.store.durable_end - at(0))]


@example([("append", 200), ("sync", 0), ("remove", 200), ("remove", 0)])
@settings(max_examples=60)
@given(st.lists(operations, max_size=25))
def test_the_log_is_its_bytes(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        twin = Twin(Path(directory) / "log")
        for what, number in steps:
            twin.do(what, number)
            twin.compare()
        twin.store.close()
