"""The part of a storage pod that follows a writer: make its log durable, then say so.

An acceptor belongs to one writer of one term. It connects through the slot that bears its copy's
identity, takes log from its own end on, crosses the forks to the writer's term, and after each
batch: append, one sync, report. It keeps connecting until it is stopped. A promise stops it:
``stop`` cuts the connection inside the call, so that nothing is appended or reported afterwards
(rule 2). It never decides what may be reported; the copy does, each time (rule 1).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from aurora_operator.core.copy import StreamState, silence_limit_seconds
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import Identity
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.copy_log import CopyLog
from aurora_operator.engines.postgresql.endpoint import Endpoint, TlsFiles
from aurora_operator.engines.postgresql.log_client import LogClient, LogEvent, TermEnd
from aurora_operator.engines.postgresql.log_fetch import cross, fetch_log, last_term, take_batch
from aurora_operator.volume.errors import LogRefused, NotWritten

ACCEPTOR_ROLE: Final = "aurora_acceptor"

PING_SECONDS: Final = 0.25
"""An idle walsender says nothing by itself (H24)."""
DEAD_SECONDS: Final = 5.0
"""Silence after which the connection is given up and made anew."""
CONNECT_SECONDS: Final = 2.0
TERM_SECONDS: Final = 3.0
"""How long a server that is just being promoted may still announce its old term (T14)."""
RETRY_SECONDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2)
NOTHING_SECONDS: Final = 0.5
"""Pause before log is asked for again that the disk refused, or that nobody has; no longer, since
the writer must not seem silent (H24)."""
LONG_SECONDS: Final = 0.1
BREATH_SECONDS_MAX: Final = 0.5
"""A batch that took longer than the first is followed by a pause, so that the rest of the pod gets
as much time, but at most the second: enough to answer that the disk is slow."""

_Failure = (OSError, TimeoutError, wire.ServerError, wire.WireError, LogRefused, NotWritten)

log = structlog.get_logger(__name__)


class Acceptor:
    """Follows one writer of one term until stopped; make a new one for the next term."""

    def __init__(
        self,
        *,
        copy: CopyLog,
        identity: Identity,
        system_identifier: str,
        writer: Endpoint,
        term: Term,
        tls: TlsFiles | None,
        on_progress: Callable[[], None],
        on_stream: Callable[[], None],
        peer_gates: Callable[[], Sequence[Endpoint]] = tuple,
    ) -> None:
        """``on_progress`` is called after every sync, ``on_stream`` when the stream changes state.

        ``peer_gates`` says who else has log.
        """
        self._copy = copy
        self._identity = identity
        self._system_identifier = system_identifier
        self._writer = writer
        self._term = term
        self._tls = tls
        self._on_progress = on_progress
        self._on_stream = on_stream
        self._peer_gates = peer_gates
        self._task: asyncio.Task[None] | None = None
        self._client: LogClient | None = None
        self._stopped = False
        self._streaming = False
        self._closed_by_writer = False
        self._began_at = time.monotonic()
        self._heard_at = self._began_at
        self._silent_ticks = 0
        self._sentence = f"connecting to {writer}"

    @property
    def term(self) -> Term:
        """The term of the writer that is followed."""
        return self._term

    @property
    def streaming(self) -> bool:
        """Whether log flows at this moment."""
        return self._streaming

    @property
    def sentence(self) -> str:
        """What the acceptor is doing, for people."""
        return self._sentence

    def stream_state(self) -> StreamState:
        """What this copy would say of the writer in a pre-vote (rule 2)."""
        if self._stopped:
            return StreamState.NONE
        if self._closed_by_writer:
            return StreamState.CLOSED
        limit_seconds = silence_limit_seconds(time.monotonic() - self._began_at)
        if self._silent_ticks * PING_SECONDS >= limit_seconds:
            return StreamState.SILENT
        return StreamState.STREAMING

    def start(self) -> None:
        """Start the task that follows the writer; ``join`` owns its outcome."""
        self._task = asyncio.create_task(self._follow(), name=f"acceptor of term {self._term}")

    def stop(self) -> None:
        """At once, in this very call: the connection is cut, nothing is appended after it."""
        self._stopped = True
        self._streaming = False
        if self._client is not None:
            self._client.abort()
        if self._task is not None:
            self._task.cancel()

    async def join(self) -> None:
        """Wait until it has stopped; raises what made the copy fail, such as a failed fsync."""
        if self._task is None:
            return
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def _follow(self) -> None:
        ticking = asyncio.create_task(self._tick(), name=f"silence of term {self._term}")
        try:
            await self._keep_connecting()
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])

    async def _tick(self) -> None:
        """Count the silence in ticks, not by the clock.

        A pause of this process is one late tick, however long: it proves nothing about the writer,
        whose words wait in the socket meanwhile.
        """
        while True:
            await asyncio.sleep(PING_SECONDS)
            before = self.stream_state()
            self._silent_ticks += 1
            if self.stream_state() is not before:
                log.warning("writer is silent", writer=str(self._writer), term=self._term)
                self._on_stream()

    def _note_heard(self) -> None:
        self._heard_at = time.monotonic()
        was_silent = self.stream_state() is StreamState.SILENT
        self._silent_ticks = 0
        if was_silent:
            self._on_stream()

    async def _keep_connecting(self) -> None:
        failures = 0
        while not self._stopped:
            try:
                await self._one_connection()
            except _Failure as error:
                if isinstance(error, NotWritten):
                    await asyncio.sleep(NOTHING_SECONDS)
                elif self._streaming:
                    failures = 0
                self._note_end(error)
                removed = isinstance(error, wire.ServerError) and (
                    error.sqlstate == wire.SEGMENT_REMOVED
                )
                if removed and not await self._fetch_from_peers():
                    await asyncio.sleep(NOTHING_SECONDS)  # nobody has it; see core.pressure
            finally:
                self._streaming = False
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1

    async def _one_connection(self) -> None:
        async with await LogClient.connect(
            self._writer,
            tls=self._tls,
            user=ACCEPTOR_ROLE,
            application_name=self._identity,
            timeout_seconds=CONNECT_SECONDS,
        ) as client:
            self._client = client
            try:
                await self._wait_for_term(client)
                term = last_term(self._copy)
                while True:
                    term = cross(self._copy, await self._stream(client, term))
            finally:
                self._client = None

    async def _wait_for_term(self, client: LogClient) -> None:
        deadline = time.monotonic() + TERM_SECONDS
        while True:
            who = await client.identify_system()
            self._note_heard()
            if who.system_identifier != self._system_identifier:
                raise wire.WireError(
                    f"{self._writer} is system {who.system_identifier}, this volume is"
                    f" {self._system_identifier}; nothing was taken from it"
                )
            if who.term == self._term:
                return
            if time.monotonic() > deadline or who.term > self._term:
                raise wire.WireError(
                    f"{self._writer} announces term {who.term}, this copy follows term"
                    f" {self._term}; nothing was taken from it"
                )
            await asyncio.sleep(0.003)

    async def _stream(self, client: LogClient, term: Term) -> TermEnd:
        """Take log of ``term`` until it ends; raises when the connection does."""
        end = await client.start_replication(self._copy.scl(), term, slot=self._identity)
        if end is None:
            self._note_streaming(term)
            self._report(client)
        while end is None:
            try:
                batch = await client.next_batch(timeout_seconds=PING_SECONDS)
            except TimeoutError:
                self._ping(client)
                continue
            self._note_heard()
            end = self._take(client, batch, term)
            took_seconds = time.monotonic() - self._heard_at
            if took_seconds > LONG_SECONDS:
                self._note_heard()  # who does not listen hears no silence
                await asyncio.sleep(min(took_seconds, BREATH_SECONDS_MAX))
        return end

    def _take(self, client: LogClient, batch: list[LogEvent], term: Term) -> TermEnd | None:
        """Append, sync, report: one step, in which no promise can come between."""
        if self._stopped:
            return None
        before = self._copy.scl()
        end = take_batch(self._copy, batch, term)
        moved = self._copy.scl() > before
        asked = any(isinstance(e, wire.Keepalive) and e.reply_requested for e in batch)
        if end is None and (moved or asked):
            self._report(client)
        if moved:
            self._on_progress()
        return end

    def _report(self, client: LogClient, *, reply_requested: bool = False) -> None:
        lsn = self._copy.reportable(self._term)
        if lsn is not None:
            client.send_status(lsn, reply_requested=reply_requested)

    def _ping(self, client: LogClient) -> None:
        silent_seconds = time.monotonic() - self._heard_at
        if silent_seconds > DEAD_SECONDS:
            raise ConnectionError(f"{self._writer} was silent for {silent_seconds:.1f} s")
        self._report(client, reply_requested=True)

    async def _fetch_from_peers(self) -> bool:
        """Take what the writer removed from the first peer that has more; some lack it too."""
        before = self._copy.scl()
        for gate in self._peer_gates():
            try:
                end = await fetch_log(
                    gate,
                    copy=self._copy,
                    system_identifier=self._system_identifier,
                    tls=self._tls,
                    application_name=self._identity,
                )
            except _Failure as error:
                log.warning("log not fetched from a peer", gate=str(gate), error=str(error))
                continue
            if end <= before:
                continue
            self._on_progress()
            log.info("log fetched from a peer", gate=str(gate), end=str(end))
            return True
        return False

    def _note_streaming(self, term: Term) -> None:
        self._streaming = True
        self._closed_by_writer = False
        self._note_heard()
        self._on_stream()
        self._sentence = f"takes log of term {term} from {self._writer}"
        log.info(
            "stream begins",
            writer=str(self._writer),
            term=self._term,
            log_term=term,
            start=str(self._copy.scl()),
        )

    def _note_end(self, error: Exception) -> None:
        """Closed is what a writer did that ends; running into a deadline is silence.

        Any other error is the word of a server that lives: a slot still taken, log removed.
        """
        heard_seconds = time.monotonic() - self._heard_at
        was_closed = self._closed_by_writer
        if isinstance(error, wire.ServerError):
            self._closed_by_writer = error.sqlstate in wire.SERVER_ENDS
        elif isinstance(error, ConnectionError) and heard_seconds < DEAD_SECONDS:
            self._closed_by_writer = True
        if self._closed_by_writer is not was_closed:
            self._on_stream()
        sentence = f"no stream from {self._writer}: {error or type(error).__name__}"
        if sentence != self._sentence:
            log.warning("stream ended", writer=str(self._writer), term=self._term, error=str(error))
        self._sentence = sentence
