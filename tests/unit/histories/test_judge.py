"""What is asked of the checkers, and the sums of sets; the checkers themselves are programs, and
`component/histories` tries them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from histories.judge import (
    counts,
    linear_history,
    reader_history,
    replaced_writers,
    stale_reads,
    too_few,
    writer_history,
)
from support.checker import Outcome
from support.stories import MS, Story, append, lock, r, w


def of_key(records: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The records of a key without ids and times."""
    kept = ("read", "write", "append")
    return [{k: v for k, v in rec.items() if k in kept} for rec in records if rec["key"] == key]


def test_a_read_is_stale_after_a_later_term_gave_its_first_answer() -> None:
    story = Story()
    story.tell(append("x", 1), term=3, call_ms=1000, return_ms=1010)
    during = story.tell(r("x", []), term=2, call_ms=1005, return_ms=1500)
    late = story.tell(r("x", []), term=2, call_ms=1250, return_ms=1251)
    story.tell(r("x", [1]), term=3, call_ms=1260, return_ms=1261)
    story.tell(r("x", []), reader=True, call_ms=1270, return_ms=1271)
    found = stale_reads(story.operations)
    assert [(read.operation, read.age_ms) for read in found] == [(late, 240.0)]
    assert during not in [read.operation for read in found]


def test_unanswered_operations_of_a_later_term_replace_nobody() -> None:
    story = Story()
    story.tell(append("x", 1), term=3, outcome=Outcome.UNKNOWN)
    story.tell(append("x", 2), term=3, outcome=Outcome.FAILED)
    story.tell(append("y", 3), term=2)
    assert not replaced_writers(story.operations)


@pytest.mark.parametrize("steps", [(w("r0", 5),), (lock("r0", 1025),), (append("x", 9),)])
def test_a_replaced_writer_acknowledges_nothing(steps: Any) -> None:
    story = Story()
    story.tell(append("y", 1), term=3)
    story.tell(*steps, term=2)
    assert len(replaced_writers(story.operations)) == 1
    assert not stale_reads(story.operations)


def test_a_transaction_becomes_one_operation_a_key() -> None:
    story = Story()
    story.tell(r("x", [4]), append("x", 5), append("x", 6), r("x", [4, 5, 6]), append("y", 7))
    records = linear_history(story.operations, story.dump(x=[4, 5, 6], y=[7]))
    assert of_key(records, "x") == [{"read": "4", "append": "5,6"}, {"read": "4,5,6"}]
    assert of_key(records, "y") == [{"append": "7"}, {"read": "7"}]


def test_a_read_behind_an_own_append_tells_what_was_there_before() -> None:
    story = Story()
    story.tell(append("x", 5), r("x", [4, 5]))
    records = linear_history(story.operations, story.dump(x=[4, 5]))
    assert of_key(records, "x")[0] == {"append": "5", "read": "4"}


def test_failed_and_reader_operations_are_not_asked_of_porcupine() -> None:
    story = Story()
    story.tell(append("x", 5), outcome=Outcome.FAILED)
    story.tell(r("x", []), reader=True)
    assert of_key(linear_history(story.operations, story.dump(x=[])), "x") == [{"read": ""}]


def test_unknown_changes_stay_when_somebody_saw_them() -> None:
    story = Story()
    story.tell(append("x", 1), append("x", 2), outcome=Outcome.UNKNOWN)
    story.tell(append("x", 3), outcome=Outcome.UNKNOWN)
    story.tell(lock("r0", 1025), w("r0", 12), outcome=Outcome.UNKNOWN)
    records = linear_history(story.operations, story.dump(x=[1, 2]))
    assert of_key(records, "x") == [{"append": "1,2"}, {"read": "1,2"}]
    assert of_key(records, "r0")[-1] == {"read": "1025"}
    unknown = next(rec for rec in records if rec["key"] == "x")
    assert unknown["return"] is None


def test_one_digit_is_not_taken_for_another_number() -> None:
    """1 is no part of 11."""
    story = Story()
    story.tell(append("x", 1), outcome=Outcome.UNKNOWN)
    records = linear_history(story.operations, story.dump(x=[11]))
    assert of_key(records, "x") == [{"read": "11"}]


def parsed(history: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in history.splitlines()]


def test_adya_is_told_in_the_order_of_time() -> None:
    story = Story()
    story.operations.clear()
    story.tell(append("x", 1), process=1, call_ms=10, return_ms=20)
    story.tell(r("x", []), process=2, call_ms=5, return_ms=10)
    story.tell(append("x", 3), process=3, call_ms=12, outcome=Outcome.UNKNOWN)
    told = [
        (e["type"], e["process"]) for e in parsed(writer_history(story.operations, story.dump()))
    ]
    # What happens in one nanosecond overlaps: the call of 1 stands before the return of 2.
    assert told[:5] == [("invoke", 2), ("invoke", 1), ("ok", 2), ("invoke", 3), ("ok", 1)]
    assert [kind for kind, process in told if process == 4] == ["invoke", "ok"]


def test_readers_are_judged_without_what_writers_read() -> None:
    story = Story()
    story.operations.clear()
    story.tell(r("x", [9]), append("x", 1), append("y", 2))
    story.tell(r("x", [9]))
    story.tell(r("x", [1]), reader=True)
    entries = parsed(reader_history(story.operations, []))
    assert [e["value"] for e in entries if e["type"] == "ok"] == [
        [["append", "x", 1], ["append", "y", 2]],
        [["r", "x", [1]]],
    ]


def test_few_answers_are_no_proof() -> None:
    story = Story()
    assert not too_few(story.operations)
    assert len(too_few(story.operations[:30])) == 3
    assert counts(story.operations)["lists@reader"] == {"acked": 25, "failed": 0, "unknown": 0}


def test_times_are_nanoseconds() -> None:
    story = Story()
    assert story.tell(r("x"), call_ms=2).call_ns == 2 * MS
