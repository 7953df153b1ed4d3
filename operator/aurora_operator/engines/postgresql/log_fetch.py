"""Taking log from another copy's gate, up to a point.

Two cases need it: a blank copy that is being filled, and a copy that was away so long that the
writer removed what it lacks (T12). A gate hears only that somebody is still there; what was
fetched counts once the copy follows the writer, and is reported to nobody before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.copy_log import CopyLog
from aurora_operator.engines.postgresql.endpoint import Endpoint, TlsFiles
from aurora_operator.engines.postgresql.log_client import LogClient, LogEvent, TermEnd
from aurora_operator.volume.errors import LogRefused, NotWritten

_LOOK_SECONDS: Final = 0.25
"""How often an idle stream is looked at, while it goes on until it is told to end."""


async def fetch_log(
    gate: Endpoint,
    *,
    copy: CopyLog,
    system_identifier: str,
    tls: TlsFiles | None,
    application_name: str,
    parameters: Mapping[str, str] | None = None,
    silence_seconds: float = 5.0,
    until: Callable[[], bool] = lambda: True,
    pace: Callable[[int], Awaitable[None]] | None = None,
) -> Lsn:
    """Take everything that ``gate`` may serve now, durably; returns the copy's new end.

    It goes on with what comes then, for as long as ``until`` says no. ``pace`` is waited for after
    so many bytes. Raises ``OSError``, ``TimeoutError``, ``ServerError`` or ``WireError``; what was
    taken until then stays and is good.
    """
    async with await LogClient.connect(
        gate,
        tls=tls,
        user=application_name,
        application_name=application_name,
        parameters=parameters,
    ) as client:
        who = await client.identify_system()
        if who.system_identifier != system_identifier:
            raise wire.WireError(
                f"{gate} serves system {who.system_identifier}, this volume is"
                f" {system_identifier}; nothing was taken, check that both belong to one cluster"
            )
        term = last_term(copy)
        while copy.scl() < who.end or not until():
            end = await client.start_replication(copy.scl(), term)
            while end is None and (copy.scl() < who.end or not until()):
                before = copy.scl()
                batch = await _next_batch(client, copy, silence_seconds)
                end = take_batch(copy, batch, term)
                if end is None and any(
                    isinstance(e, wire.Keepalive) and e.reply_requested for e in batch
                ):
                    client.send_status(copy.scl())
                if pace is not None:
                    await pace(copy.scl() - before)
            if end is not None:
                term = cross(copy, end)
    return copy.scl()


async def _next_batch(client: LogClient, copy: CopyLog, silence_seconds: float) -> list[LogEvent]:
    """What arrived, perhaps nothing yet; an idle gate is asked for a word (H24)."""
    try:
        return await client.next_batch(timeout_seconds=min(_LOOK_SECONDS, silence_seconds))
    except TimeoutError:
        client.send_status(copy.scl(), reply_requested=True)
        return await client.next_batch(timeout_seconds=silence_seconds)


async def fetch_range(
    gate: Endpoint,
    *,
    begin: Lsn,
    end: Lsn,
    history: TermHistory,
    system_identifier: str,
    tls: TlsFiles | None,
    application_name: str,
    silence_seconds: float = 5.0,
) -> bytes:
    """The log bytes from ``begin`` to ``end``, of exactly the terms of ``history``.

    The gate verifies its own checksums. Raises as ``fetch_log`` does, ``WireError`` too when the
    gate goes over to another term than the history, or anywhere else.
    """
    async with await LogClient.connect(
        gate, tls=tls, user=application_name, application_name=application_name
    ) as client:
        who = await client.identify_system()
        term = history.term_of_byte(begin)
        if who.system_identifier != system_identifier or term is None:
            raise wire.WireError(f"{gate} serves system {who.system_identifier}; nothing was taken")
        taken = bytearray()
        while (position := begin.advanced(len(taken))) < end:
            run_end = history.end_of_run(position)
            is_last = run_end is None or run_end >= end
            over = await client.start_replication(position, term)
            while over is None and not (is_last and begin.advanced(len(taken)) >= end):
                for event in await client.next_batch(timeout_seconds=silence_seconds):
                    if isinstance(event, TermEnd):
                        over = event
                    elif isinstance(event, wire.LogData):
                        _extend(taken, begin, event)
            if is_last and len(taken) >= end - begin:
                break
            position = begin.advanced(len(taken))
            begins = {entry.term: entry.begin for entry in history.entries}
            if over is None or begins.get(over.next_term) != over.begin or position != over.begin:
                raise wire.WireError(
                    f"{gate} goes over to {over} at {position}, the history here is {history};"
                    " nothing was taken"
                )
            term = over.next_term
        return bytes(taken[: end - begin])


def _extend(taken: bytearray, begin: Lsn, event: wire.LogData) -> None:
    position = begin.advanced(len(taken))
    if event.start > position:
        raise wire.WireError(f"log came from {event.start} on, {position} was asked for")
    taken += event.data[position - event.start :]


def last_term(copy: CopyLog) -> Term:
    """The term of the last byte, with which a stream is asked for; the first one when empty."""
    history = copy.history()
    return history.last_term_before(copy.scl()) or history.first.term


def take_batch(copy: CopyLog, batch: list[LogEvent], term: Term) -> TermEnd | None:
    """Append a batch and make it durable with one sync; returns the end of the term if it came.

    A batch that ends in the middle (no room, a gap, bytes of another term) leaves what came before
    durable: log that is appended but never synced would stand in the way of all that follows. Not
    a coroutine on purpose: between the first byte and the sync nobody else runs.
    """
    try:
        end = _append(copy, batch, term)
    except (LogRefused, NotWritten, wire.WireError):
        copy.sync()
        raise
    copy.sync()
    return end


def _append(copy: CopyLog, batch: list[LogEvent], term: Term) -> TermEnd | None:
    position = copy.scl()
    end: TermEnd | None = None
    for event in batch:
        if isinstance(event, TermEnd):
            end = event
        elif isinstance(event, wire.LogData):
            if event.start > position:
                raise wire.WireError(
                    f"log came from {event.start} on, but the copy ends at {position}: a gap is"
                    " never written; the copy connects again and asks from its end"
                )
            fresh = event.data[position - event.start :]
            if fresh:
                copy.append(position, fresh, term)
                position = position.advanced(len(fresh))
    return end


def cross(copy: CopyLog, end: TermEnd) -> Term:
    """Go over to the next term at its fork (T12); refuses a fork that was not adopted."""
    begins = {entry.term: entry.begin for entry in copy.history().entries}
    if begins.get(end.next_term) != end.begin or copy.scl() != end.begin:
        raise wire.WireError(
            f"the other side says term {end.next_term} begins at {end.begin}; this copy ends at"
            f" {copy.scl()} with the history {copy.history()}. Nothing was taken of that term;"
            " the copy waits to adopt the writer's history"
        )
    return end.next_term
