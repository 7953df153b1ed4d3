"""Every kind of broken promise, seeded into a small history, is found; what is allowed passes.

adya is young, so nothing is taken from it on trust: if one of these stops failing, the checker no
longer checks. They are component tests because the checkers are programs.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from histories.judge import STALE_MS_MAX, Dump, judge
from histories.records import Act
from support.checker import Outcome
from support.stories import Story, append, lock, r, simulate, w

Tell = Callable[[Story], Dump]


def calm(story: Story) -> Dump:
    return story.dump()


def write_skew(story: Story) -> Dump:
    """Snapshot isolation allows it."""
    story.tell(r("x", []), r("y", []), append("x", 1), call_ms=500, return_ms=510)
    story.tell(r("x", []), r("y", []), append("y", 2), call_ms=500, return_ms=510)
    return story.dump(x=[1], y=[2])


def unknown_that_happened(story: Story) -> Dump:
    story.tell(append("x", 1), outcome=Outcome.UNKNOWN)
    story.tell(r("x", []))
    story.tell(r("x", [1]))
    return story.dump(x=[1])


def unknown_that_did_not(story: Story) -> Dump:
    story.tell(append("x", 1), outcome=Outcome.UNKNOWN)
    story.tell(w("r0", 77), outcome=Outcome.UNKNOWN)
    story.tell(lock("r0", story.registers["r0"]))
    return story.dump()


def lagging_replica(story: Story) -> Dump:
    """Another session may be behind; the same one may not go back."""
    story.tell(append("x", 1))
    story.tell(r("x", [1]), reader=True, process=901)
    story.tell(r("x", []), reader=True, process=902)
    return story.dump(x=[1])


def briefly_stale(story: Story) -> Dump:
    story.tell(append("x", 1), term=3)
    story.tell(r("x", []), term=2)
    story.tell(r("r0", story.registers["r0"]), term=2)
    return story.dump(x=[1])


@pytest.mark.parametrize(
    "tell",
    [
        *(calm, write_skew, unknown_that_happened, unknown_that_did_not),
        *(lagging_replica, briefly_stale),
    ],
)
def test_what_is_allowed_passes(tell: Tell) -> None:
    story = Story()
    end = tell(story)
    verdict = judge(story.operations, end, [end])
    assert not verdict.violations
    assert len(verdict.stale) == (2 if tell is briefly_stale else 0)


def lost_append(story: Story) -> Dump:
    story.tell(append("x", 1))
    story.tell(append("x", 2))
    return story.dump(x=[2])


def lost_append_seen_by_nobody(story: Story) -> Dump:
    story.tell(append("x", 1))
    return story.dump()


def reads_behind(story: Story) -> Dump:
    """The writer forgets an acknowledged row for a while, though it is there in the end."""
    story.tell(append("x", 1))
    story.tell(r("x", []))
    return story.dump(x=[1])


def vanished(story: Story) -> Dump:
    story.tell(append("x", 1), outcome=Outcome.UNKNOWN)
    story.tell(r("x", [1]), reader=True)
    return story.dump()


def vanished_on_the_writer(story: Story) -> Dump:
    story.tell(append("x", 1), outcome=Outcome.UNKNOWN)
    story.tell(r("x", [1]))
    story.tell(append("x", 2))
    return story.dump(x=[2])


def dirty_read(story: Story) -> Dump:
    story.tell(append("x", 1), outcome=Outcome.FAILED)
    story.tell(r("x", [1]))
    return story.dump()


def twice(story: Story) -> Dump:
    story.tell(append("x", 1))
    return story.dump(x=[1, 1])


def circular_information(story: Story) -> Dump:
    """G1c: two transactions each saw the other."""
    story.tell(append("x", 1), r("y", [2]), call_ms=500, return_ms=510)
    story.tell(append("y", 2), r("x", [1]), call_ms=500, return_ms=510)
    return story.dump(x=[1], y=[2])


def read_skew(story: Story) -> Dump:
    """Half of a transaction was seen, on the writer."""
    story.tell(append("x", 1), append("y", 2), call_ms=500, return_ms=510)
    story.tell(r("x", [1]), r("y", []), call_ms=500, return_ms=510)
    return story.dump(x=[1], y=[2])


def lost_update_of_a_list(story: Story) -> Dump:
    story.tell(r("x", []), append("x", 1), call_ms=500, return_ms=510)
    story.tell(r("x", []), append("x", 2), call_ms=500, return_ms=510)
    return story.dump(x=[1, 2])


def long_fork(story: Story) -> Dump:
    """Two readers of one endpoint disagree about the order of two commits."""
    story.tell(append("x", 1), call_ms=500, return_ms=600)
    story.tell(append("y", 2), call_ms=500, return_ms=600)
    story.tell(r("x", [1]), r("y", []), call_ms=510, return_ms=520, reader=True)
    story.tell(r("x", []), r("y", [2]), call_ms=510, return_ms=520, reader=True)
    return story.dump(x=[1], y=[2])


def session_goes_back(story: Story) -> Dump:
    story.tell(append("x", 1))
    story.tell(append("x", 2))
    story.tell(r("x", [1, 2]), reader=True, process=901)
    story.tell(r("x", [1]), reader=True, process=901)
    return story.dump(x=[1, 2])


def own_append_not_seen(story: Story) -> Dump:
    story.tell(append("x", 1), r("x", []))
    return story.dump(x=[1])


def lost_register(story: Story) -> Dump:
    story.tell(w("r0", 7))
    return story.dump()


def lost_update_of_a_register(story: Story) -> Dump:
    held = story.registers["r0"]
    story.tell(lock("r0", held), w("r0", 7), call_ms=500, return_ms=510)
    story.tell(lock("r0", held), w("r0", 8), call_ms=500, return_ms=510)
    story.registers["r0"] = 8
    return story.dump()


def stale_locking_read(story: Story) -> Dump:
    held = story.registers["r0"]
    story.tell(w("r0", 7))
    story.tell(lock("r0", held))
    story.registers["r0"] = 7
    return story.dump()


def comes_and_goes(story: Story) -> Dump:
    """An unknown write was seen, then not any more."""
    held = story.registers["r0"]
    story.tell(w("r0", 7), outcome=Outcome.UNKNOWN)
    story.tell(lock("r0", 7))
    story.tell(lock("r0", held))
    return story.dump()


def two_writers(story: Story) -> Dump:
    story.tell(append("x", 1), term=3)
    story.tell(append("y", 2), term=2)
    return story.dump(x=[1], y=[2])


def lock_granted_by_a_replaced_writer(story: Story) -> Dump:
    story.tell(append("x", 1), term=3)
    story.tell(lock("r0", story.registers["r0"]), term=2)
    return story.dump(x=[1])


def stale_for_too_long(story: Story) -> Dump:
    story.tell(append("x", 1), term=3)
    late = story.now_ms + STALE_MS_MAX + 1
    story.tell(r("x", []), term=2, call_ms=late, return_ms=late + 1)
    return story.dump(x=[1])


@pytest.mark.parametrize(
    ("tell", "words"),
    [
        (lost_append, ["acknowledged and lost: 1 ids (1)"]),
        (lost_append_seen_by_nobody, ["acknowledged and lost: 1 ids (1)"]),
        (reads_behind, ["G-single-item-realtime", "porcupine: x"]),
        (vanished, ["shown to a reader and lost: 1 ids (1)"]),
        (vanished_on_the_writer, ["shown to a reader and lost", "incompatible-order"]),
        (dirty_read, ["G1a", "shown to a reader and lost"]),
        (twice, ["in the table twice", "duplicate-elements"]),
        (circular_information, ["G1c"]),
        (read_skew, ["G-single"]),
        (lost_update_of_a_list, ["lost-update", "porcupine: x"]),
        (long_fork, ["readers: adya", "G-nonadjacent"]),
        (session_goes_back, ["readers: adya", "-process"]),
        (own_append_not_seen, ["internal"]),
        (lost_register, ["porcupine: r0"]),
        (lost_update_of_a_register, ["porcupine: r0"]),
        (stale_locking_read, ["porcupine: r0"]),
        (comes_and_goes, ["porcupine: r0"]),
        (two_writers, ["acknowledged in term 2"]),
        (lock_granted_by_a_replaced_writer, ["acknowledged in term 2"]),
        (stale_for_too_long, ["a read was stale for"]),
    ],
)
def test_what_is_broken_is_found(tell: Tell, words: list[str]) -> None:
    story = Story()
    end = tell(story)
    verdict = judge(story.operations, end, [end])
    told = "\n".join(verdict.violations)
    assert [word for word in words if word not in told] == [], told


@pytest.mark.parametrize("seed", range(3))
def test_an_honest_database_passes_and_one_lost_value_does_not(seed: int) -> None:
    operations, end = simulate(seed, 2000)
    assert not judge(operations, end, [end]).violations
    unknown = {v for o in operations if not o.acked for v in o.values(Act.APPEND)}
    key, items = next((k, i) for k, i in end.lists.items() if not unknown.issuperset(i))
    lost = next(value for value in items if value not in unknown)
    end.lists[key] = [value for value in items if value != lost]
    told = "\n".join(judge(operations, end, [end]).violations)
    assert f"acknowledged and lost: 1 ids ({lost})" in told
    assert "writer: adya says that it breaks snapshot-isolation" in told
    assert f"porcupine: {key}" in told


def test_a_history_without_answers_is_no_proof() -> None:
    story = Story()
    story.operations = story.operations[:30]
    told = judge(story.operations, story.dump(), []).violations
    assert any("proves nothing" in sentence for sentence in told)


def test_a_replica_must_end_where_the_writer_ends() -> None:
    story = Story()
    story.tell(append("x", 1))
    told = judge(story.operations, story.dump(x=[1]), [story.dump()]).violations
    assert any("shows other lists" in sentence for sentence in told)
