"""Formatting and filling: what a storage pod's own disk allows (rule 13)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_operator.core.birth import (
    FORMAT_PROMISE,
    VolumeRecord,
    born_record,
    judge_fill,
    judge_own_format,
)
from aurora_operator.core.copy import CopyState, CopyView, position_of
from aurora_operator.core.gate import ServePoint, serve_point
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import Slot, VolumeId
from aurora_operator.core.verdicts import Proceed, Refuse, Wait
from support.copies import IDENTITIES, STRANGER, at, full, record, without_say

SYSTEM = "7000000000000000001"
UNFORMATTED = VolumeRecord(VolumeId("volume"), IDENTITIES)
FORMATTED = replace(UNFORMATTED, system_identifier=SYSTEM)
BLANK = without_say(CopyState.BLANK)


def damaged(slot: int = 0) -> CopyView:
    return CopyView(IDENTITIES[slot], Slot(slot), CopyState.FAILED, record(slot))


@pytest.mark.parametrize(
    ("own", "known", "granted"),
    [
        pytest.param(BLANK, UNFORMATTED, True, id="blank-slot-0"),
        pytest.param(BLANK, FORMATTED, False, id="formatted-once-already"),
        pytest.param(without_say(CopyState.BLANK, 1), UNFORMATTED, False, id="slot-1"),
        pytest.param(
            CopyView(STRANGER, Slot(0), CopyState.BLANK), UNFORMATTED, False, id="another-disk"
        ),
        pytest.param(full(), UNFORMATTED, False, id="full"),
        pytest.param(without_say(CopyState.FILLING), UNFORMATTED, False, id="at-it-already"),
        pytest.param(damaged(), UNFORMATTED, False, id="damaged-but-once-full"),
        pytest.param(
            without_say(CopyState.FAILED), UNFORMATTED, True, id="failed-before-it-was-full"
        ),
    ],
)
def test_rule_13_formats_only_a_blank_slot_0_once(
    own: CopyView, known: VolumeRecord, granted: bool
) -> None:
    """H13: an initdb fallback would turn a lost volume into an empty cluster."""
    assert isinstance(judge_own_format(own, known), Proceed) is granted


SOURCE = full(0, promised=FORMAT_PROMISE)


@pytest.mark.parametrize(
    ("target", "source", "known", "verdict"),
    [
        pytest.param(without_say(CopyState.BLANK, 1), SOURCE, FORMATTED, Proceed, id="blank"),
        pytest.param(
            without_say(CopyState.FAILED, 1), SOURCE, FORMATTED, Proceed, id="failed-fill"
        ),
        pytest.param(without_say(CopyState.BLANK, 1), SOURCE, UNFORMATTED, Wait, id="too-early"),
        pytest.param(without_say(CopyState.FILLING, 1), SOURCE, FORMATTED, Wait, id="at-it"),
        pytest.param(full(1), SOURCE, FORMATTED, Refuse, id="full-already"),
        pytest.param(damaged(1), SOURCE, FORMATTED, Refuse, id="was-full-once"),
        pytest.param(
            CopyView(STRANGER, Slot(1), CopyState.BLANK), SOURCE, FORMATTED, Refuse, id="other-disk"
        ),
        pytest.param(without_say(CopyState.BLANK, 1), BLANK, FORMATTED, Wait, id="source-blank"),
        pytest.param(
            without_say(CopyState.BLANK, 1), full(promised=2), FORMATTED, Refuse, id="birth-is-over"
        ),
        pytest.param(
            without_say(CopyState.BLANK, 1),
            SOURCE,
            replace(FORMATTED, system_identifier="other"),
            Refuse,
            id="another-database",
        ),
    ],
)
def test_rule_13_fills_only_while_the_volume_is_born(
    target: CopyView, source: CopyView, known: VolumeRecord, verdict: type[object]
) -> None:
    assert isinstance(judge_fill(target, source, known), verdict)


def test_rule_13_a_born_copy_serves_the_formatted_log_and_nothing_more() -> None:
    born = born_record(FORMATTED, Slot(3), SYSTEM, at(500))
    assert serve_point(born.history, at(500), born.known_vdl) == ServePoint(at(500), Term(1))
    view = CopyView(born.identity, born.slot, CopyState.FULL, born, at(500), at(0))
    assert (position_of(view).promised_term, position_of(view).log_term) == (1, 1)
