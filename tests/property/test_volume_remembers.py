"""The volume never forgets what anybody was told (I6), and each rule is needed for that.

A failing seed is in the message; ``World(seed, Rules()).run(steps)`` runs it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from aurora_operator.core.copy import (
    Adoption,
    CopyView,
    Follow,
    PersistHistory,
    Promise,
    TruncateLog,
    Vdl,
    decide_adoption,
)
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Term
from aurora_operator.core.opening import Choice, CopyAnswer, choose
from aurora_operator.core.quorum import QuorumPolicy
from support.copies import at
from support.simulation import Rules, Violated, World

SEEDS = 250
STEPS = 600
MUTANT_SEEDS = 1500


def test_i6_what_anybody_was_told_is_never_lost() -> None:
    openings = acknowledged = chosen = 0
    for seed in range(SEEDS):
        world = World(seed, Rules())
        try:
            world.run(STEPS)
        except Violated as violation:
            pytest.fail(f"seed {seed}: {violation}")
        openings += world.openings
        acknowledged += world.acknowledged
        chosen += world.chosen
    assert chosen > 4 * SEEDS, "too few terms: this run shows nothing"
    assert openings > 4 * SEEDS, "too few openings: this run shows nothing"
    assert acknowledged > 2 * SEEDS, "too few acknowledgements: this run shows nothing"


# -- mutants -------------------------------------------------------------------------------


def choose_longest(asked: Promise, answers: Sequence[CopyAnswer], policy: QuorumPolicy) -> Any:
    """Mutant 1: the highest position wins."""
    choice = choose(asked, answers, policy)
    if not isinstance(choice, Choice):
        return choice
    return _chosen(choice, max(_promised(asked, answers), key=lambda c: c.scl or at(0)))


def choose_by_adopted_term(
    asked: Promise, answers: Sequence[CopyAnswer], policy: QuorumPolicy
) -> Any:
    """Mutant 9: a term that was adopted, but has no byte, wins (H5)."""
    choice = choose(asked, answers, policy)
    if not isinstance(choice, Choice):
        return choice
    copies = _promised(asked, answers)
    return _chosen(choice, max(copies, key=lambda c: (_history(c).last.term, c.scl or at(0))))


def choose_of_three(asked: Promise, answers: Sequence[CopyAnswer], _: QuorumPolicy) -> Any:
    """Mutant 2: three promises are enough."""
    three: Any = SimpleNamespace(copies=6, write_quorum=3, read_quorum=3)
    return choose(asked, answers, three)


def _promised(asked: Promise, answers: Sequence[CopyAnswer]) -> list[CopyView]:
    return [
        a.copy
        for a in answers
        if a.granted and a.copy.record is not None and a.copy.record.promise == asked
    ]


def _history(copy: CopyView) -> TermHistory:
    assert copy.record is not None
    return copy.record.history


def _chosen(choice: Choice, copy: CopyView) -> Choice:
    assert copy.scl is not None
    history = _history(copy).truncated(copy.scl)
    return replace(choice, identity=copy.identity, slot=copy.slot, scl=copy.scl, history=history)


def truncate_only_if_longer(copy: CopyView, asked: Adoption) -> Any:
    """Mutant 10: a shorter copy keeps its bytes, whoever wrote them (H6)."""
    steps = decide_adoption(copy, asked)
    fork = asked.history.last.begin
    if not isinstance(steps, tuple) or copy.scl is None or copy.scl > fork:
        return steps
    history = PersistHistory(asked.history, asked.first_record_end, asked.members)
    term = asked.history.last_term_before(copy.scl) or Term(1)
    return (history, Follow(copy.scl, term))


def history_before_cut(copy: CopyView, asked: Adoption) -> Any:
    """Mutant 24: dead bytes pass for the new term's after a crash (H15)."""
    steps = decide_adoption(copy, asked)
    if not isinstance(steps, tuple):
        return steps
    histories = [step for step in steps if isinstance(step, PersistHistory)]
    cuts = [step for step in steps if isinstance(step, TruncateLog)]
    return (*histories, *cuts, steps[-1])


def take_log_regardless(_copy: CopyView, _term: Term) -> bool:
    """Mutant 5: what was begun to be streamed goes on after a promise."""
    return True


def carry_over_terms(known: Vdl | None, heard: Vdl, own: Term | None) -> Vdl | None:
    """Mutant 23, T5: a VDL only ever grows, over terms too, and is called the own term's."""
    lsns = [vdl.lsn for vdl in (known, heard) if vdl is not None]
    return None if own is None else Vdl(own, max(lsns))


MUTANTS = [
    pytest.param(Rules(choose=choose_longest), 208, id="1-max-position"),
    pytest.param(Rules(choose=choose_of_three), 118, id="2-three-promises"),
    pytest.param(Rules(promise_is_durable=False), 193, id="3-promise-not-fsynced"),
    pytest.param(Rules(reports_before_sync=True), 26, id="4-ack-before-fsync"),
    pytest.param(
        Rules(promise_closes_stream=False, may_take_log=take_log_regardless),
        0,
        id="5-log-after-promise",
    ),
    pytest.param(Rules(choose=choose_by_adopted_term), 36, id="9-adopted-term-as-log-term"),
    pytest.param(Rules(adopt=truncate_only_if_longer), 10, id="10-truncate-only-if-longer"),
    pytest.param(Rules(attempts_keep_their_name=True), 2, id="17-attempt-id-reused"),
    pytest.param(Rules(merge_known=carry_over_terms), 37, id="23-vdl-carried-over-a-term"),
    pytest.param(Rules(adopt=history_before_cut), 14, id="24-history-before-cut"),
]
"""What is wrong, and a seed that found it out: the search begins there."""


@pytest.mark.parametrize(("rules", "seed"), MUTANTS)
def test_a_volume_without_the_rule_forgets(rules: Rules, seed: int) -> None:
    """The others of the review's list need their exact interleaving; tables hold them."""
    for number in range(MUTANT_SEEDS):
        try:
            World((seed + number) % MUTANT_SEEDS, rules).run(STEPS)
        except (Violated, ValueError):
            return  # a history that cannot be (two writers of a term) is found out as well
    pytest.fail(f"none of {MUTANT_SEEDS} seeds found the mutant out")
