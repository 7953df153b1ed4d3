"""Rule 14: what a copy may forget, for whom it keeps log, and where that ends."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_operator.core.lsn import SEGMENT_BYTES, Lsn
from aurora_operator.core.names import Identity
from aurora_operator.core.retention import LogNeeds, Retention, decide_retention, may_give_base

BOUND, MARGIN = 40, 16
OTHERS = tuple(Identity(f"s{slot}") for slot in range(1, 6))


def segment(number: int, rest: int = 0) -> Lsn:
    return Lsn(number * SEGMENT_BYTES + rest)


END = segment(100)


def decide(**changes: Any) -> Retention:
    """A copy at segment 100 that nobody needs anything of, but for ``changes``."""
    facts: dict[str, Any] = {
        "scl": END,
        "own_redo": END,
        "own_pages_stand": False,
        "members": dict.fromkeys(OTHERS, END),
        "page_stores": dict.fromkeys(OTHERS, END),
        "sessions": [END],
        "bases_elsewhere": 5,
    }
    return decide_retention(
        LogNeeds(**(facts | changes)),
        bound_bytes=BOUND * SEGMENT_BYTES,
        margin_bytes=MARGIN * SEGMENT_BYTES,
    )


def one_behind(lsn: Lsn | None) -> dict[Identity, Lsn | None]:
    return {**dict.fromkeys(OTHERS, END), OTHERS[2]: lsn}


@pytest.mark.parametrize(
    ("changes", "kept_from", "behind"),
    [
        pytest.param({}, segment(84), (), id="a-margin-for-all"),
        pytest.param({"members": one_behind(segment(70, 5))}, segment(70), (), id="member"),
        pytest.param({"page_stores": one_behind(segment(65, 1))}, segment(65), (), id="page-store"),
        pytest.param({"sessions": [END, segment(66)]}, segment(66), (), id="standby"),
        pytest.param(
            {"members": one_behind(segment(59))}, segment(60), (OTHERS[2],), id="beyond-the-bound"
        ),
        pytest.param({"members": one_behind(None)}, segment(60), (), id="member-never-heard"),
        pytest.param({"page_stores": one_behind(segment(7))}, segment(60), (), id="page-store-far"),
        pytest.param({"sessions": [segment(7)]}, segment(60), (), id="standby-far"),
        pytest.param(
            {"own_redo": segment(50, 5)}, segment(50), (), id="own-pages-beyond-the-bound"
        ),
        pytest.param({"own_redo": None}, None, (), id="own-redo-unknown"),
        pytest.param(
            {"members": {}, "page_stores": {}, "sessions": []}, segment(84), (), id="alone"
        ),
    ],
)
def test_rule_14_log_is_kept_for_whoever_needs_it_within_a_bound(
    changes: dict[str, Any], kept_from: Lsn | None, behind: tuple[Identity, ...]
) -> None:
    kept = decide(**changes)
    assert (kept.limit, kept.left_behind, kept.gives_up_pages) == (kept_from, behind, False)


@pytest.mark.parametrize("redo", [segment(50), None], ids=["old-pages", "no-pages"])
@pytest.mark.parametrize(
    ("stands", "bases", "gives_up"),
    [(True, 4, True), (True, 5, True), (True, 3, False), (False, 5, False), (False, 0, False)],
)
def test_rule_14_log_of_the_own_pages_goes_only_while_four_other_bases_run(
    stands: bool, bases: int, gives_up: bool, redo: Lsn | None
) -> None:
    """Any three copies lost: one base with its log is left. Mutants: three bases; running pages."""
    kept = decide(own_redo=redo, own_pages_stand=stands, bases_elsewhere=bases)
    assert kept.gives_up_pages is gives_up
    assert kept.limit == (segment(84) if gives_up else redo)


def test_rule_14_no_order_of_decisions_leaves_fewer_than_four_bases() -> None:
    """Page stores that stand one after the other, each deciding on what it sees then."""
    bases = 6
    for _ in range(6):
        kept = decide(own_redo=segment(50), own_pages_stand=True, bases_elsewhere=bases - 1)
        bases -= kept.gives_up_pages
    assert bases == 4


@pytest.mark.parametrize(
    ("redo", "log_start", "may"),
    [
        pytest.param(500, 500, True, id="its-log-is-here"),
        pytest.param(499, 500, False, id="left-behind"),
        pytest.param(None, 500, False, id="no-pages"),
        pytest.param(500, None, True, id="no-log-here-yet"),
    ],
)
def test_a_base_comes_from_pages_whose_log_is_still_kept(
    redo: int | None, log_start: int | None, may: bool
) -> None:
    given = None if redo is None else Lsn(redo)
    assert may_give_base(given, None if log_start is None else Lsn(log_start)) is may
