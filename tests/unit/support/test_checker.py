"""The checker finds each kind of broken promise, and none where there is none."""

from __future__ import annotations

import json
from typing import Any

import psycopg.errors
import pytest

from support.checker import (
    Attempt,
    History,
    Outcome,
    Read,
    find_violations,
    first_ack_after,
    last_server,
    longest_outage_seconds,
    parse_history,
)
from support.client import outcome_of


def attempt(number: int, outcome: Outcome, at: float | None = None, server: str = "a") -> Attempt:
    end = float(number) if at is None else at
    return Attempt(number, outcome, begin_seconds=end - 0.1, end_seconds=end, server=server)


HISTORY = History(
    attempts=(
        attempt(1, Outcome.ACKED),
        attempt(2, Outcome.FAILED),
        attempt(3, Outcome.UNKNOWN),
        attempt(4, Outcome.ACKED, server="b"),
    )
)


@pytest.mark.parametrize(
    ("table", "read", "expected"),
    [
        pytest.param([1, 4], (), [], id="unknown-row-absent"),
        pytest.param([1, 3, 4], (3,), [], id="unknown-row-there"),
        pytest.param([1], (), ["acknowledged and lost: 1 ids (4)"], id="acked-lost"),
        pytest.param(
            [1, 2, 4], (), ["in the table although it failed: 1 ids (2)"], id="failed-there"
        ),
        pytest.param(
            [1, 4, 9], (), ["in the table although never sent: 1 ids (9)"], id="never-sent"
        ),
        pytest.param([1, 4, 4], (), ["in the table twice: 1 ids (4)"], id="doubled"),
        pytest.param([1, 4], (3,), ["shown to a reader and lost: 1 ids (3)"], id="read-then-lost"),
    ],
)
def test_violations(table: list[int], read: tuple[int, ...], expected: list[str]) -> None:
    reader = History(reads=(Read(at_seconds=1.0, ok=True, ids=read),))
    assert find_violations(HISTORY, table, reader) == expected


def test_many_lost_ids_are_counted_and_some_named() -> None:
    history = History(tuple(attempt(n, Outcome.ACKED) for n in range(1, 31)))
    (sentence,) = find_violations(history, [])
    assert sentence.startswith("acknowledged and lost: 30 ids (1, 2,")
    assert sentence.endswith("…)")


def test_outage_counts_the_ends_of_the_window() -> None:
    history = History(tuple(attempt(n, Outcome.ACKED, at) for n, at in ((1, 10.0), (2, 12.5))))
    assert longest_outage_seconds(history, 9.0, 13.0) == 2.5
    assert longest_outage_seconds(history, 5.0, 13.0) == 5.0
    assert longest_outage_seconds(history, 9.0, 30.0) == 17.5
    assert longest_outage_seconds(History(), 1.0, 4.0) == 3.0


def test_first_ack_after_wants_a_write_begun_after_the_moment() -> None:
    under_way = Attempt(1, Outcome.ACKED, begin_seconds=9.9, end_seconds=10.1, server="a")
    old = Attempt(2, Outcome.ACKED, begin_seconds=10.2, end_seconds=10.3, server="a")
    new = Attempt(3, Outcome.ACKED, begin_seconds=11.0, end_seconds=11.1, server="b")
    history = History((under_way, old, new))
    assert first_ack_after(history, 10.0) == old
    assert first_ack_after(history, 10.0, not_by="a") == new
    assert first_ack_after(history, 12.0) is None
    assert last_server(history) == "b"


def lines(*entries: dict[str, Any]) -> list[str]:
    return [json.dumps(entry) + "\n" for entry in entries]


def test_a_log_is_read_back() -> None:
    whole = lines(
        {"kind": "connect", "at": 0.5, "outcome": "failed", "why": "refused"},
        {"kind": "begin", "at": 1.0, "id": 1},
        {"kind": "end", "at": 1.1, "id": 1, "outcome": "acked", "server": "10.0.0.1"},
        {"kind": "read", "at": 1.2, "outcome": "ok", "server": "10.0.0.2", "ids": [1]},
        {"kind": "begin", "at": 1.3, "id": 2},
    )
    history = parse_history([*whole, '{"kind": "end", "at": 1.'])
    assert history.acked[0].server == "10.0.0.1"
    assert history.ids(Outcome.UNKNOWN) == {2}, "a killed client's last attempt is unknown"
    assert history.reads[0].ids == (1,)
    assert history.refused_connections == ((0.5, "refused"),)


def test_a_client_that_repeats_an_id_is_no_proof() -> None:
    begin = {"kind": "begin", "at": 1.0, "id": 1}
    end = {"kind": "end", "at": 1.1, "id": 1, "outcome": "failed"}
    with pytest.raises(ValueError, match="twice"):
        parse_history(lines(begin, end, begin))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (psycopg.OperationalError("consuming input failed: server closed"), "unknown"),
        (psycopg.errors.AdminShutdown("terminating connection"), "unknown"),
        (psycopg.errors.CrashShutdown("crash"), "unknown"),
        (psycopg.errors.ReadOnlySqlTransaction("read-only"), "failed"),
        (psycopg.errors.UndefinedTable("no table"), "failed"),
        (ConnectionResetError("reset"), "unknown"),
    ],
)
def test_what_an_error_says_about_the_commit(error: Exception, outcome: str) -> None:
    assert outcome_of(error) == outcome
