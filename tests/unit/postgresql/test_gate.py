"""A gate and a client of it, without PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.engines.postgresql import gate, gate_session, wire
from aurora_operator.engines.postgresql.endpoint import SocketEndpoint
from aurora_operator.engines.postgresql.gate import GateServer, SessionAsk, SessionVerdict
from aurora_operator.engines.postgresql.gate_session import CHUNK_BYTES, chunk_bytes
from aurora_operator.engines.postgresql.log_client import LogClient, TermEnd
from aurora_operator.engines.postgresql.log_fetch import fetch_log
from aurora_operator.volume.errors import LogRefused
from support.replication import SYSTEM, MemoryCopy, at, history_of, pattern

HISTORY = history_of((1, 0), (2, 1000), (5, 3000))


class Bench:
    """A gate on a socket, its copy, and its verdict."""

    def __init__(self, directory: Path) -> None:
        self.copy = MemoryCopy(HISTORY, 5000)
        self.copy.limit = at(5000)
        self.verdict = SessionVerdict(granted=True, sentence="a standby")
        self.asks: list[SessionAsk] = []
        self.gate = GateServer(source=self.copy, judge=self._judge)
        self.endpoint = SocketEndpoint(directory / "gate")

    def _judge(self, ask: SessionAsk) -> SessionVerdict:
        self.asks.append(ask)
        return self.verdict

    async def connect(self, **parameters: str) -> LogClient:
        return await LogClient.connect(
            self.endpoint, tls=None, user="x", application_name="x", parameters=parameters
        )

    def serve_to(self, limit: Lsn | None) -> None:
        self.copy.limit = limit
        self.gate.notify()


@pytest.fixture
async def bench(sockets: Path) -> AsyncIterator[Bench]:
    made = Bench(sockets)
    await made.gate.start(socket_path=made.endpoint.path)
    yield made
    await made.gate.close()


async def take(client: LogClient, wanted: Lsn) -> bytes:
    """Log until ``wanted``, never beyond."""
    taken = b""
    end = None
    while end != wanted:
        for event in await client.next_batch(timeout_seconds=5):
            if isinstance(event, wire.LogData):
                taken += event.data
                end = event.start.advanced(len(event.data))
                assert end <= wanted, "more was served than the limit"
                assert event.end >= end
    return taken


async def quiet(client: LogClient) -> bool:
    try:
        return not await client.next_batch(timeout_seconds=0.05)
    except TimeoutError:
        return True


async def test_i2_nothing_is_served_or_announced_beyond_the_limit(bench: Bench) -> None:
    bench.serve_to(at(3500))
    async with await bench.connect() as client:
        who = await client.identify_system()
        assert (who.system_identifier, who.term, who.end) == (SYSTEM, 5, at(3500))
        assert await client.start_replication(at(3100), Term(5)) is None
        assert await take(client, at(3500)) == pattern(3100, 400)
        bench.copy.log += pattern(5000, 100)
        bench.copy.sync()
        bench.gate.notify()
        assert await quiet(client)


async def test_t6_log_goes_on_when_the_limit_moves(bench: Bench) -> None:
    bench.serve_to(at(3500))
    async with await bench.connect() as client:
        await client.start_replication(at(3100), Term(5))
        await take(client, at(3500))
        for limit in (3501, 3600, 5000):
            bench.serve_to(at(limit))
            await take(client, at(limit))


async def test_t4_the_announced_term_is_that_of_the_served_prefix(bench: Bench) -> None:
    """Strictly: a limit exactly at the fork still belongs to the term before."""
    for limit, term in ((3000, 2), (3001, 5), (1000, 1)):
        bench.serve_to(at(limit))
        async with await bench.connect() as client:
            assert (await client.identify_system()).term == term


async def test_a_term_ends_where_the_next_begins_once_that_is_served(bench: Bench) -> None:
    bench.serve_to(at(3000))
    async with await bench.connect() as client:
        await client.start_replication(at(1500), Term(2))
        await take(client, at(3000))
        assert await quiet(client)
        bench.serve_to(at(3001))
        (end,) = await client.next_batch(timeout_seconds=5)
        assert end == TermEnd(Term(5), at(3000))
        assert await client.start_replication(at(3000), Term(5)) is None
        assert await take(client, at(3001)) == pattern(3000, 1)


async def test_t1_bytes_below_the_fork_are_served_on_the_new_term(bench: Bench) -> None:
    async with await bench.connect() as client:
        assert await client.start_replication(at(0), Term(5)) is None
        assert await take(client, at(5000)) == pattern(0, 5000)


async def test_a_start_exactly_at_the_end_of_a_term_needs_no_copy(bench: Bench) -> None:
    async with await bench.connect() as client:
        assert await client.start_replication(at(1000), Term(1)) == TermEnd(Term(2), at(1000))


async def test_histories_are_given_and_stubs_for_numbers_that_never_were(bench: Bench) -> None:
    async with await bench.connect() as client:
        text = await client.timeline_history(Term(5))
        assert [line.split("\t")[0] for line in text.splitlines()] == ["1", "2"]
        assert await client.timeline_history(Term(3)) == ""
        assert await client.timeline_history(Term(4)) == ""


@pytest.mark.parametrize(
    ("start", "term", "sqlstate"),
    [(1001, 1, "22023"), (3001, 2, "22023"), (100, 3, "22023"), (100, 1, wire.SEGMENT_REMOVED)],
    ids=["beyond-fork", "beyond-second-fork", "unknown-term", "removed"],
)
async def test_what_cannot_be_served_is_refused(
    bench: Bench, start: int, term: int, sqlstate: str
) -> None:
    bench.copy.start = at(500)
    async with await bench.connect() as client:
        with pytest.raises(wire.ServerError) as refused:
            await client.start_replication(at(start), Term(term))
    assert refused.value.sqlstate == sqlstate


async def test_t10_a_standby_that_is_ahead_waits(bench: Bench) -> None:
    bench.serve_to(at(3500))
    async with await bench.connect() as client:
        assert await client.start_replication(at(4000), Term(5)) is None
        assert await quiet(client)
        bench.serve_to(at(4100))
        assert await take(client, at(4100)) == pattern(4000, 100)


async def test_a_ping_is_answered_with_the_limit(bench: Bench) -> None:
    bench.serve_to(at(3500))
    async with await bench.connect() as client:
        await client.start_replication(at(3500), Term(5))
        client.send_status(at(3500), reply_requested=True)
        assert await client.next_batch(timeout_seconds=5) == [
            wire.Keepalive(at(3500), reply_requested=False)
        ]


async def test_a_gate_that_knows_nothing_holds_a_standby_then_sends_it_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.serve_to(None)
    monkeypatch.setattr(gate_session, "POINT_SECONDS", 0.05)
    async with await bench.connect() as client:
        with pytest.raises(wire.ServerError) as refused:
            await client.identify_system()
    assert refused.value.sqlstate == "57P03"


async def test_a_session_pauses_while_nothing_may_be_served(bench: Bench) -> None:
    """The first bytes of a term arrive before its VDL is known (H19)."""
    async with await bench.connect() as client:
        await client.start_replication(at(4000), Term(5))
        await take(client, at(5000))
        bench.serve_to(None)
        assert await quiet(client)
        bench.copy.log += pattern(5000, 10)
        bench.copy.sync()
        bench.serve_to(at(5010))
        assert await take(client, at(5010)) == pattern(5000, 10)


async def test_a_session_whose_log_died_is_ended(bench: Bench) -> None:
    async with await bench.connect() as client:
        await client.start_replication(at(4000), Term(5))
        await take(client, at(5000))
        bench.copy.entries = history_of((1, 0), (2, 1000), (7, 2500))
        bench.serve_to(at(2600))
        with pytest.raises(wire.ServerError) as ended:
            await client.next_batch(timeout_seconds=5)
    assert ended.value.sqlstate == "22023"


async def test_an_uncapped_session_gets_all_until_it_is_no_longer_entitled(bench: Bench) -> None:
    bench.serve_to(at(3500))
    bench.verdict = SessionVerdict(granted=True, sentence="the candidate", uncapped=True)
    async with await bench.connect(**{"aurora.term": "6", "aurora.attempt": "a"}) as client:
        assert bench.asks[0].parameters["aurora.attempt"] == "a"
        await client.start_replication(at(3000), Term(5))
        await take(client, at(5000))
        bench.verdict = SessionVerdict(granted=False, sentence="promised to another")
        bench.gate.notify()
        with pytest.raises(wire.ServerError, match="promised to another") as ended:
            await client.next_batch(timeout_seconds=5)
    assert ended.value.sqlstate == "57P01"


async def test_a_gate_that_stays_behind_sends_its_readers_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing moves there any more, so it notices by itself."""
    monkeypatch.setattr(gate, "LOOK_SECONDS", 0.01)
    await bench.gate.close()
    await bench.gate.start(socket_path=bench.endpoint.path)
    async with await bench.connect() as client:
        await client.start_replication(at(4000), Term(5))
        await take(client, at(5000))
        bench.copy.elsewhere = "behind for 4 s"
        with pytest.raises(wire.ServerError, match="another gate") as ended:
            await client.next_batch(timeout_seconds=5)
    assert ended.value.sqlstate == "57P03"
    async with await bench.connect() as client:
        with pytest.raises(wire.ServerError, match="behind for 4 s"):
            await client.identify_system()


async def test_who_has_no_other_gate_stays(bench: Bench) -> None:
    """The own page store; and a candidate reads all that is here anyway."""
    bench.copy.elsewhere = "behind for 4 s"
    for verdict in (
        SessionVerdict(granted=True, sentence="page store", stays=True),
        SessionVerdict(granted=True, sentence="candidate", uncapped=True),
    ):
        bench.verdict = verdict
        async with await bench.connect() as client:
            assert (await client.identify_system()).end == at(5000)


async def test_a_standby_that_takes_log_all_the_time_is_asked_for_a_word(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walreceiver without a report interval speaks only when it is idle or asked."""
    monkeypatch.setattr(gate_session, "CLIENT_ASKED_SECONDS", 0.05)
    monkeypatch.setattr(gate_session, "CLIENT_SILENT_SECONDS", 0.5)
    bench.serve_to(at(4000))
    async with await bench.connect() as client:
        await client.start_replication(at(4000), Term(5))
        limit, asked = 4000, 0
        async with asyncio.timeout(20):
            while asked < 20:
                bench.copy.log += pattern(len(bench.copy.log), 1)
                bench.copy.sync()
                limit += 1
                bench.serve_to(at(limit))
                for event in await client.next_batch(timeout_seconds=5):
                    if isinstance(event, wire.Keepalive) and event.reply_requested:
                        asked += 1
                        client.send_status(at(limit))


async def test_a_standby_that_does_not_answer_is_let_go(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_session, "CLIENT_SILENT_SECONDS", 0.1)
    async with await bench.connect() as client:
        await client.start_replication(at(5000), Term(5))
        with pytest.raises(ConnectionError):
            await client.next_batch(timeout_seconds=5)


async def test_a_long_fetch_answers_when_it_is_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate gives the last of it only to one that answered."""
    monkeypatch.setattr(gate_session, "CLIENT_ASKED_SECONDS", 0.0)
    parse = wire.parse_client_copy
    answered = False

    def read(lsn: Lsn, length_bytes: int) -> bytes:
        """Identified with all of it, the client at first gets a part."""
        bench.serve_to(at(5000 if answered else 4000))
        offset = lsn - at(0)
        return bytes(bench.copy.log[offset : offset + length_bytes])

    def listen(body: bytes) -> wire.StandbyStatus | None:
        nonlocal answered
        answered = True
        bench.serve_to(at(5000))
        return parse(body)

    monkeypatch.setattr(gate_session, "CHUNK_BYTES", 100)
    monkeypatch.setattr(gate_session, "_PAGE_BYTES", 100)
    monkeypatch.setattr(bench.copy, "read", read)
    monkeypatch.setattr(wire, "parse_client_copy", listen)
    blank = MemoryCopy(HISTORY)
    await fetch_log(
        bench.endpoint, copy=blank, system_identifier=SYSTEM, tls=None, application_name="x"
    )
    assert answered
    assert bytes(blank.log) == pattern(0, 5000)


async def test_a_refused_session_is_told_why(bench: Bench) -> None:
    bench.verdict = SessionVerdict(granted=False, sentence="the birth is over")
    with pytest.raises(wire.ServerError, match="the birth is over"):
        await bench.connect()


async def test_other_commands_are_refused_and_say_where_to_ask(bench: Bench) -> None:
    async with await bench.connect() as client:
        with pytest.raises(wire.ServerError, match="Ask the writer") as refused:
            await client.timeline_history(Term(-1))
        assert refused.value.sqlstate == "0A000"


async def test_fetching_takes_everything_over_all_terms(bench: Bench) -> None:
    blank = MemoryCopy(HISTORY)
    end = await fetch_log(
        bench.endpoint, copy=blank, system_identifier=SYSTEM, tls=None, application_name="x"
    )
    assert end == at(5000)
    assert bytes(blank.log) == pattern(0, 5000)
    assert blank.durable == 5000


async def test_fetching_from_another_volume_takes_nothing(bench: Bench) -> None:
    blank = MemoryCopy(HISTORY)
    with pytest.raises(wire.WireError, match="nothing was taken"):
        await fetch_log(
            bench.endpoint, copy=blank, system_identifier="1", tls=None, application_name="x"
        )
    assert not blank.log


async def test_fetching_does_not_cross_a_fork_that_was_not_adopted(bench: Bench) -> None:
    other = MemoryCopy(history_of((1, 0), (2, 1000), (5, 2900)))
    with pytest.raises(LogRefused):
        await fetch_log(
            bench.endpoint, copy=other, system_identifier=SYSTEM, tls=None, application_name="x"
        )
    assert len(other.log) <= 2900


@pytest.mark.parametrize(
    ("position", "limit", "expected"),
    [
        (0x1000000, 0x1C845A0, CHUNK_BYTES),
        (0x1C846A8, 0x1D00000, CHUNK_BYTES - 0x6A8),
        (0x1C846A8, 0x1C84700, 0x58),
        (0x1C846A8, 0x1C846A8 + CHUNK_BYTES, CHUNK_BYTES),
    ],
    ids=["aligned", "ends-with-a-page", "up-to-the-limit", "exactly-the-limit"],
)
def test_a_message_ends_with_a_page_or_at_the_limit(
    position: int, limit: int, expected: int
) -> None:
    """Anywhere else a standby would take the rest of the page for received."""
    assert chunk_bytes(Lsn(position), Lsn(limit)) == expected


@pytest.mark.parametrize(("batch_seconds", "prompt"), [(0.0, True), (0.1, False)])
async def test_who_reads_at_once_is_told_when_they_come_and_go(
    bench: Bench, batch_seconds: float, prompt: bool
) -> None:
    """The hub sends what they wait for; a page store waits for nothing."""
    seen: list[bool] = []
    bench.gate._on_readers = lambda: seen.append(bench.gate.has_prompt_readers)
    bench.verdict = SessionVerdict(granted=True, sentence="x", batch_seconds=batch_seconds)
    client = await bench.connect()
    await client.identify_system()
    assert seen == [prompt]
    client.abort()
    async with asyncio.timeout(5):
        while len(seen) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert seen == [prompt, False]
