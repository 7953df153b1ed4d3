"""What an instance may do with the data it finds (rule 11)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_operator.core.copy import CopyState, CopyView
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.restart import Fresh, Mark, Stopped, judge_restart, judge_start
from aurora_operator.core.verdicts import Proceed, Wait, Wipe
from support.copies import IDENTITIES, STRANGER, full, members, promise, without_say

OPENED = Mark(promise(5), "pod", "boot", opened=True)


@pytest.mark.parametrize(
    ("mark", "data", "pod", "boot", "verdict"),
    [
        pytest.param(None, False, "pod", "boot", Fresh, id="nothing-there"),
        pytest.param(None, True, "pod", "boot", Wipe, id="a-replicas-cache"),
        pytest.param(OPENED, True, "pod", "boot", Stopped, id="opened-and-unharmed"),
        pytest.param(OPENED, True, "other", "boot", Wipe, id="another-pod"),
        pytest.param(OPENED, True, "pod", "other", Wipe, id="machine-restarted"),
        pytest.param(OPENED, False, "pod", "boot", Wipe, id="data-is-gone"),
        pytest.param(replace(OPENED, opened=False), True, "pod", "boot", Wipe, id="never-opened"),
        pytest.param(
            replace(OPENED, opened=False), False, "pod", "boot", Wipe, id="attempt-without-data"
        ),
    ],
)
def test_rule_11_only_an_opened_writers_unharmed_data_stays(
    mark: Mark | None, data: bool, pod: str, boot: str, verdict: type[object]
) -> None:
    """Mutants 18 and 22 (H12, H18)."""
    assert isinstance(judge_start(mark, data_present=data, pod_uid=pod, boot_id=boot), verdict)


def _own(count: int) -> list[CopyView]:
    return [full(slot, promised=5) for slot in range(count)]


@pytest.mark.parametrize(
    ("copies", "verdict"),
    [
        pytest.param(_own(6), Proceed, id="all-still-ours"),
        pytest.param(_own(4), Proceed, id="four-still-ours"),
        pytest.param(_own(3), Wait, id="three-answer"),
        pytest.param([], Wait, id="nobody-answers"),
        pytest.param([*_own(5), full(5, promised=6)], Wipe, id="one-promised-higher"),
        pytest.param([full(5, promised=6)], Wipe, id="only-one-answers-and-promised-higher"),
        pytest.param(
            [*_own(4), full(5, promised=6, identity=STRANGER)],
            Proceed,
            id="a-stranger-does-not-count",
        ),
        pytest.param(
            [*_own(3), without_say(CopyState.FAILED, 3)], Wait, id="a-failed-copy-does-not-count"
        ),
        pytest.param([*_own(3), full(3, promised=promise(5, "other"))], Wait, id="another-attempt"),
        pytest.param([full(0, promised=5)] * 4, Wait, id="one-copy-four-times"),
    ],
)
def test_rule_11_a_higher_promise_ends_the_restart(
    copies: list[CopyView], verdict: type[object]
) -> None:
    judged = judge_restart(OPENED, copies, members(names=IDENTITIES), AURORA_QUORUM)
    assert isinstance(judged, verdict)
