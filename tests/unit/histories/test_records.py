"""A log becomes operations, and what it does not say stays unknown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from histories.client import parse_list
from histories.records import Act, Endpoint, Step, Workload, parse
from support.checker import Outcome


def call(number: int, **fields: Any) -> str:
    entry = {
        "kind": "call",
        "at_ns": 10 * number,
        "op": number,
        "process": 1,
        "workload": "lists",
        "endpoint": "writer",
        "server": "10.0.0.1",
        "term": 2,
        "steps": [["r", "x", None], ["append", "x", number]],
    }
    return json.dumps(entry | fields) + "\n"


def end(number: int, outcome: str, **fields: Any) -> str:
    entry = {"kind": "return", "at_ns": 10 * number + 5, "op": number, "outcome": outcome}
    return json.dumps(entry | fields) + "\n"


def test_an_acknowledged_operation_has_its_answers() -> None:
    steps = [["r", "x", [7]], ["append", "x", 1]]
    (operation,) = parse([call(1), end(1, "acked", steps=steps)])
    assert operation.steps == (Step(Act.READ, "x", [7]), Step(Act.APPEND, "x", 1))
    assert (operation.call_ns, operation.return_ns) == (10, 15)
    assert (operation.workload, operation.endpoint) == (Workload.LISTS, Endpoint.WRITER)
    assert operation.acked
    assert not operation.plain_read
    assert (operation.server, operation.term) == ("10.0.0.1", 2)


def test_what_did_not_return_is_unknown_and_has_no_end() -> None:
    first, second = parse([call(1), call(2), end(1, "failed", why="no")])
    assert (first.outcome, first.return_ns, first.why) == (Outcome.FAILED, 15, "no")
    assert (second.outcome, second.return_ns) == (Outcome.UNKNOWN, None)


def test_a_torn_last_line_is_left_out_and_refusals_are_no_operations() -> None:
    refused = json.dumps({"kind": "refused", "at_ns": 1, "endpoint": "writer", "why": "x"}) + "\n"
    assert len(parse([refused, call(1), call(2)[:-1]])) == 1


def test_the_same_operation_twice_is_no_proof() -> None:
    with pytest.raises(ValueError, match="twice"):
        parse([call(1), call(1)])


@pytest.mark.parametrize(("text", "items"), [("", []), ("7", [7]), ("1,22,3", [1, 22, 3])])
def test_lists_are_text(text: str, items: list[int]) -> None:
    assert parse_list(text) == items
