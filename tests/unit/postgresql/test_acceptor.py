"""An acceptor and a writer that does as it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from aurora_operator.core import copy
from aurora_operator.core.copy import StreamState
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import Identity
from aurora_operator.engines.postgresql import acceptor as module
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.acceptor import Acceptor
from aurora_operator.engines.postgresql.endpoint import SocketEndpoint
from aurora_operator.engines.postgresql.gate import GateServer, SessionVerdict
from aurora_operator.engines.postgresql.log_client import LogClient, LogEvent
from support.replication import SYSTEM, FakeWriter, MemoryCopy, at, history_of, pattern

HISTORY = history_of((1, 0), (2, 100))


class Bench:
    """A copy at the fork of term 2, its acceptor, and the writer of term 2."""

    def __init__(self, directory: Path) -> None:
        self.copy = MemoryCopy(HISTORY, 150)
        self.writer = FakeWriter(directory)
        self.progress = 0
        self.peers: list[SocketEndpoint] = []
        self.states: list[StreamState] = []
        self.acceptor = Acceptor(
            copy=self.copy,
            identity=Identity("s0_a"),
            system_identifier=SYSTEM,
            writer=self.writer.endpoint,
            term=Term(2),
            tls=None,
            on_progress=self._count,
            on_stream=self._note_state,
            peer_gates=lambda: self.peers,
        )

    def _count(self) -> None:
        self.progress += 1

    def _note_state(self) -> None:
        self.states.append(self.acceptor.stream_state())

    async def streaming(self) -> None:
        """Start, and wait until log flows."""
        await self.writer.listen()
        self.acceptor.start()
        await until(lambda: self.acceptor.streaming)

    def log(self, offset: int, length: int) -> bytes:
        end = at(offset + length)
        return wire.log_data(at(offset), end, pattern(offset, length), 0.0)

    @property
    def reported(self) -> list[int]:
        return [status.flushed - at(0) for status in self.writer.statuses]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.fixture
async def bench(sockets: Path) -> AsyncIterator[Bench]:
    made = Bench(sockets)
    yield made
    made.acceptor.stop()
    await asyncio.gather(made.acceptor.join(), return_exceptions=True)
    await made.writer.close()


async def test_it_asks_from_its_own_end_with_the_term_of_its_last_byte(bench: Bench) -> None:
    await bench.streaming()
    assert bench.writer.commands[-1] == (
        f'START_REPLICATION SLOT "s0_a" PHYSICAL {at(150)} TIMELINE 2'
    )
    await until(lambda: bench.reported == [150])


async def test_a_copy_without_a_byte_of_the_term_asks_for_the_term_before(bench: Bench) -> None:
    bench.copy = MemoryCopy(HISTORY, 100)
    bench.acceptor._copy = bench.copy
    await bench.streaming()
    assert bench.writer.commands[-1].endswith(f"{at(100)} TIMELINE 1")


async def test_what_arrives_together_is_made_durable_by_one_sync(bench: Bench) -> None:
    await bench.streaming()
    bench.writer.send(bench.log(150, 10) + bench.log(160, 20) + bench.log(180, 5))
    await until(lambda: bench.reported[-1:] == [185])
    assert bench.copy.calls == ["append 10", "append 20", "append 5", "sync"]
    assert bench.reported == [150, 185]
    assert bench.progress == 1


async def test_rule_1_nothing_is_reported_before_it_is_durable(bench: Bench) -> None:
    await bench.streaming()
    bench.copy.fail_sync = OSError(5, "the disk does not answer")
    bench.writer.send(bench.log(150, 10))
    await until(lambda: bool(bench.writer.commands[3:]))
    assert max(bench.reported) == 150


async def test_a_copy_that_failed_ends_the_acceptor(bench: Bench) -> None:
    class Broken(Exception):
        pass

    await bench.streaming()
    bench.copy.fail_sync = Broken()
    bench.writer.send(bench.log(150, 10))
    with pytest.raises(Broken):
        await asyncio.wait_for(bench.acceptor.join(), 5)
    assert not bench.acceptor.streaming


async def test_h7_nothing_is_reported_while_the_copy_does_not_allow_it(bench: Bench) -> None:
    bench.copy.reports = False
    await bench.streaming()
    bench.writer.send(bench.log(150, 10))
    await until(lambda: bench.copy.durable == 160)
    bench.copy.reports = True
    bench.writer.send(bench.log(160, 10))
    await until(lambda: bench.copy.durable == 170)
    await until(lambda: bool(bench.reported))
    assert bench.reported[0] == 170


async def test_rule_2_after_stop_nothing_is_appended_or_reported(bench: Bench) -> None:
    """Bytes that wait in the socket, and a batch that was about to be taken, are left."""
    await bench.streaming()
    bench.writer.send(bench.log(150, 10))
    await until(lambda: bench.reported[-1:] == [160])
    bench.writer.send(bench.log(160, 10))
    bench.acceptor.stop()
    reported = list(bench.reported)
    await bench.acceptor.join()
    assert len(bench.copy.log) == bench.copy.durable == 160
    assert bench.reported == reported
    assert bench.acceptor.stream_state() is StreamState.NONE


async def test_rule_2_stop_wins_over_a_batch_that_was_already_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop comes when the bytes are in memory and the acceptor is about to take them."""
    read = LogClient.next_batch

    async def read_then_stop(client: LogClient, *, timeout_seconds: float) -> list[LogEvent]:
        batch = await read(client, timeout_seconds=timeout_seconds)
        if any(isinstance(e, wire.LogData) and e.start == at(160) for e in batch):
            bench.acceptor.stop()
        return batch

    monkeypatch.setattr(LogClient, "next_batch", read_then_stop)
    await bench.streaming()
    bench.writer.send(bench.log(150, 10))
    await until(lambda: bench.reported[-1:] == [160])
    bench.writer.send(bench.log(160, 10))
    await asyncio.wait_for(bench.acceptor.join(), 5)
    assert len(bench.copy.log) == 160
    assert bench.reported[-1] == 160


async def test_log_that_overlaps_is_taken_once_and_a_gap_never(bench: Bench) -> None:
    await bench.streaming()
    bench.writer.send(bench.log(140, 20))
    await until(lambda: bench.copy.durable == 160)
    assert bytes(bench.copy.log) == pattern(0, 160)
    bench.writer.connected.clear()
    bench.writer.send(bench.log(161, 10))
    await asyncio.wait_for(bench.writer.connected.wait(), 5)
    assert bench.writer.commands[-1].endswith(f"{at(160)} TIMELINE 2")
    assert bench.copy.durable == 160


async def test_t12_it_crosses_to_the_writers_term_at_the_adopted_fork(bench: Bench) -> None:
    bench.copy = MemoryCopy(HISTORY, 50)
    bench.acceptor._copy = bench.copy
    await bench.streaming()
    assert bench.writer.commands[-1].endswith(f"{at(50)} TIMELINE 1")
    bench.writer.connected.clear()
    end = (
        wire.data_row([b"2", str(at(100)).encode()])
        + wire.command_complete("X")
        + wire.ready_for_query()
    )
    bench.writer.send(bench.log(50, 50) + wire.copy_done() + end)
    await asyncio.wait_for(bench.writer.connected.wait(), 5)
    assert bench.writer.commands[-1].endswith(f"{at(100)} TIMELINE 2")
    bench.writer.send(bench.log(100, 10))
    await until(lambda: bench.copy.durable == 110)


async def test_a_fork_that_was_not_adopted_is_not_crossed(bench: Bench) -> None:
    bench.copy = MemoryCopy(HISTORY, 50)
    bench.acceptor._copy = bench.copy
    await bench.streaming()
    starts = len(bench.writer.commands)
    end = (
        wire.data_row([b"2", str(at(90)).encode()])
        + wire.command_complete("X")
        + wire.ready_for_query()
    )
    bench.writer.send(bench.log(50, 40) + wire.copy_done() + end)
    await until(lambda: len(bench.writer.commands) >= starts + 2)
    assert bench.writer.commands[-1].endswith(f"{at(90)} TIMELINE 1")


async def test_t14_a_server_that_still_announces_the_old_term_is_asked_again(
    bench: Bench,
) -> None:
    bench.writer.term = 1
    asked = 0

    def promote_at_third() -> None:
        nonlocal asked
        asked += 1
        bench.writer.term = 1 if asked < 3 else 2

    bench.writer.on_identify = promote_at_third
    await bench.streaming()
    assert bench.writer.commands.count("IDENTIFY_SYSTEM") == 3


@pytest.mark.parametrize(("system", "term"), [("1", 2), (SYSTEM, 3)], ids=["system", "term"])
async def test_a_stranger_is_never_streamed_from(bench: Bench, system: str, term: int) -> None:
    bench.writer.system, bench.writer.term = system, term
    await bench.writer.listen()
    bench.acceptor.start()
    await until(lambda: len(bench.writer.commands) >= 3)
    assert set(bench.writer.commands) == {"IDENTIFY_SYSTEM"}


async def test_h24_an_idle_writer_is_pinged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.01)
    monkeypatch.setattr(copy, "YOUNG_SILENT_SECONDS", 0.2)
    await bench.streaming()
    await until(lambda: sum(s.reply_requested for s in bench.writer.statuses) >= 5)
    assert bench.acceptor.stream_state() is StreamState.STREAMING
    bench.writer.answers_pings = False
    await until(lambda: bench.acceptor.stream_state() is StreamState.SILENT)
    bench.writer.answers_pings = True
    await until(lambda: bench.acceptor.stream_state() is StreamState.STREAMING)
    assert bench.states[-2:] == [StreamState.SILENT, StreamState.STREAMING]


async def test_a_pause_of_the_own_process_is_no_silence_of_the_writer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that stands still for a moment must not cost a healthy writer its term."""
    monkeypatch.setattr(module, "PING_SECONDS", 0.02)
    monkeypatch.setattr(copy, "YOUNG_SILENT_SECONDS", 0.2)
    await bench.streaming()
    time.sleep(0.5)  # noqa: ASYNC251 - the pause is the subject
    await asyncio.sleep(0)
    assert bench.acceptor.stream_state() is StreamState.STREAMING
    await until(lambda: sum(s.reply_requested for s in bench.writer.statuses) >= 2)
    assert StreamState.SILENT not in bench.states


async def test_a_writer_that_is_silent_for_long_is_connected_to_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.01)
    monkeypatch.setattr(module, "DEAD_SECONDS", 0.05)
    bench.writer.answers_pings = False
    await bench.streaming()
    bench.writer.connected.clear()
    await asyncio.wait_for(bench.writer.connected.wait(), 5)


async def test_the_end_of_the_connection_is_closed_until_log_flows_again(bench: Bench) -> None:
    await bench.streaming()
    await bench.writer.close()
    bench.writer.hang_up()
    await until(lambda: bench.acceptor.stream_state() is StreamState.CLOSED)
    await bench.writer.listen()
    await until(lambda: bench.acceptor.stream_state() is StreamState.STREAMING)


async def test_a_shutdown_of_the_writer_is_an_end(bench: Bench) -> None:
    await bench.streaming()
    await bench.writer.close()
    await until(lambda: bench.acceptor.stream_state() is StreamState.CLOSED)


@pytest.mark.parametrize(
    ("sqlstate", "state"),
    [
        pytest.param("57P01", StreamState.CLOSED, id="is-told-to-end"),
        pytest.param("57P02", StreamState.CLOSED, id="crashes"),
        pytest.param("57P03", StreamState.CLOSED, id="takes-nobody"),
        pytest.param(wire.OBJECT_IN_USE, StreamState.STREAMING, id="slot-still-taken"),
        pytest.param(wire.SEGMENT_REMOVED, StreamState.STREAMING, id="log-removed"),
        pytest.param("42704", StreamState.CLOSED, id="a-standby-without-slots-by-now"),
    ],
)
async def test_rule_2_only_a_writer_that_ends_has_closed(
    bench: Bench, sqlstate: str, state: StreamState
) -> None:
    """A healthy writer that refuses one stream is no reason to elect another (H11)."""
    bench.writer.start_answer = wire.error_response(sqlstate, "refused, as told")
    await bench.writer.listen()
    bench.acceptor.start()
    await until(lambda: "refused, as told" in bench.acceptor.sentence)
    assert bench.acceptor.stream_state() is state


async def test_rule_2_a_writer_that_answers_again_has_not_closed(bench: Bench) -> None:
    """The connection broke, and the slot is still taken by its other end: the writer lives."""
    await bench.streaming()
    await bench.writer.close()
    await until(lambda: bench.acceptor.stream_state() is StreamState.CLOSED)
    bench.writer.start_answer = wire.error_response(wire.OBJECT_IN_USE, "slot is active")
    await bench.writer.listen()
    await until(lambda: bench.acceptor.stream_state() is StreamState.STREAMING)


async def test_log_that_the_writer_lacks_comes_from_a_peer(bench: Bench, sockets: Path) -> None:
    peer = MemoryCopy(HISTORY, 400)
    peer.limit = at(300)
    gate = GateServer(source=peer, judge=lambda ask: SessionVerdict(True, "a copy"))
    bench.peers = [SocketEndpoint(sockets / "nobody"), SocketEndpoint(sockets / "peer")]
    await gate.start(socket_path=bench.peers[1].path)
    bench.writer.start_answer = wire.error_response(wire.SEGMENT_REMOVED, "removed")
    await bench.writer.listen()
    bench.acceptor.start()
    await until(lambda: bench.copy.durable == 300)
    bench.writer.start_answer = None
    await until(lambda: bench.acceptor.streaming)
    assert bytes(bench.copy.log) == pattern(0, 300)
    assert bench.reported[0] == 300
    await gate.close()


async def test_a_peer_that_lacks_the_same_log_is_passed_over(bench: Bench, sockets: Path) -> None:
    """Two copies of a zone were away together, and each asks the other first."""
    gates = []
    for name, length in (("twin", 150), ("whole", 400)):
        peer = MemoryCopy(HISTORY, length)
        peer.limit = at(length)
        gate = GateServer(source=peer, judge=lambda ask: SessionVerdict(True, "a copy"))
        await gate.start(socket_path=sockets / name)
        gates.append(gate)
        bench.peers.append(SocketEndpoint(sockets / name))
    bench.writer.start_answer = wire.error_response(wire.SEGMENT_REMOVED, "removed")
    await bench.writer.listen()
    bench.acceptor.start()
    try:
        await until(lambda: bench.copy.durable == 400)
        assert bytes(bench.copy.log) == pattern(0, 400)
    finally:
        for gate in gates:
            await gate.close()


async def test_a_slot_that_is_still_taken_is_asked_for_again(bench: Bench) -> None:
    bench.writer.start_answer = wire.error_response(wire.OBJECT_IN_USE, "slot is active")
    await bench.writer.listen()
    bench.acceptor.start()
    await until(lambda: "slot is active" in bench.acceptor.sentence)
    bench.writer.start_answer = None
    await until(lambda: bench.acceptor.streaming)
