"""What a copy promises, adopts, takes and reports: tables of the rules it holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_operator.core.copy import (
    Adoption,
    AnswerPosition,
    CloseStream,
    CopyState,
    CopyView,
    Follow,
    Hold,
    LowerFloor,
    PersistHistory,
    PersistPromise,
    Position,
    Promise,
    StreamState,
    SyncLog,
    TruncateLog,
    decide_adoption,
    decide_prevote,
    decide_promise,
    hold_prevote,
    may_take_log,
    position_of,
    reportable_lsn,
    silence_limit_seconds,
)
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import InstanceName
from aurora_operator.core.verdicts import Proceed, Refuse
from support.copies import (
    IDENTITIES,
    STRANGER,
    at,
    full,
    history,
    members,
    promise,
    record,
    without_say,
)

WITHOUT_SAY = [
    pytest.param(without_say(state), id=state)
    for state in (CopyState.BLANK, CopyState.FILLING, CopyState.FAILED)
]


def adoption(to: Promise, terms: TermHistory, *, first_record_end: int | None = None) -> Adoption:
    begin = terms.last.begin - at(0)
    end = begin + 10 if first_record_end is None else first_record_end
    return Adoption(to, terms, at(end), members())


@pytest.mark.parametrize(
    ("stream", "yes"),
    [
        pytest.param(StreamState.STREAMING, False, id="writer-is-heard"),
        pytest.param(StreamState.CLOSED, True, id="writer-hung-up"),
        pytest.param(StreamState.SILENT, True, id="writer-is-silent"),
        pytest.param(StreamState.NONE, True, id="no-writer"),
    ],
)
def test_rule_2_prevote_asks_whether_the_writer_is_gone(stream: StreamState, yes: bool) -> None:
    """Mutant 25: a lone candidate must not stop a healthy writer (H11)."""
    verdict = decide_prevote(full(streaming=2), stream, beat_silent_seconds=60, up_seconds=60)
    assert isinstance(verdict, Proceed) is yes


@pytest.mark.parametrize(
    ("copy", "yes"),
    [
        pytest.param(full(streaming=2), True, id="streams"),
        pytest.param(without_say(CopyState.FAILED), False, id="without-a-say"),
    ],
)
def test_rule_2_a_writer_may_consent_to_a_switchover(copy: CopyView, yes: bool) -> None:
    """The consent moves the pre-vote and nothing else: who has no vote gets none by it (I5)."""
    verdict = decide_prevote(
        copy, StreamState.STREAMING, beat_silent_seconds=0, up_seconds=60, consented=True
    )
    assert isinstance(verdict, Proceed) is yes


@pytest.mark.parametrize(
    ("promised", "up_seconds", "beat_silent_seconds", "yes"),
    [
        pytest.param(2, 0.5, 60, False, id="just-back"),
        pytest.param(2, 1.0, 60, True, id="nobody-came"),
        pytest.param(2, 60, 0.5, False, id="a-candidate-is-at-work"),
        pytest.param(2, 60, 1.0, True, id="a-candidate-fell-silent"),
        pytest.param(1, 0.0, 60, True, id="just-born"),
    ],
)
def test_rule_2_a_copy_that_follows_nobody_gives_the_one_it_promised_time(
    promised: int, up_seconds: float, beat_silent_seconds: float, yes: bool
) -> None:
    """Its writer may be well and about to call, or a candidate be on its way (H11)."""
    verdict = decide_prevote(
        full(promised=promised),
        StreamState.NONE,
        beat_silent_seconds=beat_silent_seconds,
        up_seconds=up_seconds,
    )
    assert isinstance(verdict, Proceed) is yes


@pytest.mark.parametrize(
    ("candidate", "now_seconds", "given_at_seconds"),
    [
        pytest.param("a", 10.4, 10.0, id="asking-again-does-not-prolong-it"),
        pytest.param("b", 10.4, None, id="another-has-to-wait"),
        pytest.param("b", 10.5, 10.5, id="until-it-runs-out"),
        pytest.param("a", 10.6, 10.6, id="then-it-may-have-it-anew"),
    ],
)
def test_rule_2_a_prevote_belongs_to_one_candidate_for_a_moment(
    candidate: str, now_seconds: float, given_at_seconds: float | None
) -> None:
    """Two that both hear four yes take each other's promises and strand copies (H11)."""
    hold = hold_prevote(Hold(InstanceName("a"), 10.0), InstanceName(candidate), now_seconds)
    if given_at_seconds is None:
        assert isinstance(hold, Refuse)
    else:
        assert hold == Hold(InstanceName(candidate), given_at_seconds)


@pytest.mark.parametrize(
    ("followed_seconds", "limit_seconds"), [(0, 3), (9.9, 3), (10, 1), (3600, 1)]
)
def test_a_young_writer_may_be_silent_for_longer(
    followed_seconds: float, limit_seconds: float
) -> None:
    """Hold-down: a network that comes and goes does not pass the volume round."""
    assert silence_limit_seconds(followed_seconds) == limit_seconds


@pytest.mark.parametrize("copy", WITHOUT_SAY)
def test_rule_2_a_copy_without_log_has_no_vote(copy: CopyView) -> None:
    """Mutant 13 (I5, H13)."""
    verdict = decide_prevote(copy, StreamState.CLOSED, beat_silent_seconds=60, up_seconds=60)
    assert isinstance(verdict, Refuse)
    assert isinstance(decide_promise(copy, promise(9)), Refuse)
    assert isinstance(decide_adoption(copy, adoption(promise(9), history((1, 0), (9, 50)))), Refuse)
    assert position_of(copy) == Position(copy.identity, None, None, None)


def test_rule_2_promise_closes_syncs_persists_and_only_then_reads() -> None:
    """Mutants 3 and 5: the order holds I3 (H10)."""
    assert decide_promise(full(promised=4), promise(5)) == (
        CloseStream(),
        SyncLog(),
        PersistPromise(promise(5)),
        AnswerPosition(),
    )


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(promise(4), id="older-term"),
        pytest.param(promise(5, "another"), id="H3-same-term-another-attempt"),
    ],
)
def test_rule_2_promise_refuses(asked: Promise) -> None:
    """Mutant 17: an attempt that restarted is another attempt."""
    assert isinstance(decide_promise(full(promised=5), asked), Refuse)


def test_rule_2_the_same_attempt_gets_the_same_answer() -> None:
    assert decide_promise(full(promised=5), promise(5)) == (AnswerPosition(),)


def test_a_promise_is_never_below_the_log() -> None:
    with pytest.raises(ValueError, match="never below"):
        record(promised=3, terms=history((1, 0), (4, 50)))


ADOPT = [
    pytest.param(full(promised=7, scl=100), 60, id="longer-is-cut"),
    pytest.param(full(promised=7, scl=60), 60, id="just-as-long-keeps-all"),
    pytest.param(full(promised=7, scl=40), 40, id="shorter-keeps-all"),
    pytest.param(
        full(promised=7, scl=55, terms=history((1, 0), (6, 50))), 50, id="H6-shorter-but-dead"
    ),
]


@pytest.mark.parametrize(("copy", "common"), ADOPT)
def test_rule_5_every_copy_truncates_to_the_common_prefix(copy: CopyView, common: int) -> None:
    """Mutant 10: not only the longer ones, and never by position."""
    asked = adoption(promise(7), history((1, 0), (7, 60)))
    steps = decide_adoption(copy, asked)
    assert isinstance(steps, tuple)
    cut = copy.scl != at(common)
    assert steps == (
        *((LowerFloor(at(common)), TruncateLog(at(common))) if cut else ()),
        PersistHistory(asked.history, asked.first_record_end, asked.members),
        Follow(at(common), Term(1)),
    )


def test_rule_5_follows_on_the_term_of_its_last_byte() -> None:
    terms = history((1, 0), (3, 30), (7, 60))
    own = full(promised=7, scl=45, terms=history((1, 0), (3, 30)))
    steps = decide_adoption(own, adoption(promise(7), terms))
    assert steps[-1] == Follow(at(45), Term(3))  # type: ignore[index]


def test_rule_5_adopting_again_leads_to_following_only() -> None:
    terms = history((1, 0), (7, 60))
    own = full(promised=7, scl=90, terms=terms, first_record_end=70)
    assert decide_adoption(own, adoption(promise(7), terms)) == (Follow(at(90), Term(7)),)


@pytest.mark.parametrize(
    ("copy", "asked", "why"),
    [
        pytest.param(
            full(promised=promise(7, "other")),
            adoption(promise(7), history((1, 0), (7, 60))),
            "promised",
            id="another-attempt",
        ),
        pytest.param(
            full(promised=8), adoption(promise(7), history((1, 0), (7, 60))), "promised", id="older"
        ),
        pytest.param(
            full(promised=7), adoption(promise(7), history((1, 0), (6, 60))), "end with", id="wrong"
        ),
        pytest.param(
            full(promised=7, scl=90, terms=history((1, 0), (7, 60))),
            adoption(promise(7), history((1, 0), (7, 70))),
            "two logs of one term",
            id="two-histories-of-one-term",
        ),
        pytest.param(
            full(promised=7),
            adoption(promise(7), history((1, 0), (7, 60)), first_record_end=60),
            "ends before it begins",
            id="empty-first-record",
        ),
        pytest.param(
            full(promised=7, log_start=64),
            adoption(promise(7), history((1, 0), (7, 60))),
            "filled anew",
            id="log-before-the-fork-was-removed",
        ),
    ],
)
def test_rule_5_adoption_refuses(copy: CopyView, asked: Adoption, why: str) -> None:
    refusal = decide_adoption(copy, asked)
    assert isinstance(refusal, Refuse)
    assert why in refusal.sentence


def test_adoption_keeps_a_higher_member_list() -> None:
    newer = members(6, 1, (STRANGER, *IDENTITIES[1:]))
    own = full(1, promised=7, scl=50, listed=newer)
    steps = decide_adoption(own, adoption(promise(7), history((1, 0), (7, 60))))
    assert PersistHistory(history((1, 0), (7, 60)), at(70), newer) in steps  # type: ignore[operator]


ADOPTED = full(promised=7, scl=90, terms=history((1, 0), (7, 60)))


@pytest.mark.parametrize(
    ("copy", "writer", "takes"),
    [
        pytest.param(ADOPTED, 7, True, id="promised-and-adopted"),
        pytest.param(ADOPTED, 6, False, id="older-writer"),
        pytest.param(ADOPTED, 8, False, id="newer-writer-not-promised"),
        pytest.param(full(promised=7), 7, False, id="promised-not-adopted"),
        pytest.param(
            full(promised=8, terms=history((1, 0), (7, 60))), 7, False, id="promised-elsewhere"
        ),
        pytest.param(replace(ADOPTED, state=CopyState.FAILED), 7, False, id="failed"),
    ],
)
def test_rule_1_takes_log_of_exactly_its_writer(copy: CopyView, writer: int, takes: bool) -> None:
    """Mutants 5 and 11 (I3)."""
    assert may_take_log(copy, Term(writer)) is takes
    reported = reportable_lsn(copy, Term(writer), at(60), at(90))
    assert (reported is not None) is takes


@pytest.mark.parametrize(
    ("prefix", "received", "reported"),
    [
        pytest.param(60, None, 60, id="nothing-received-yet"),
        pytest.param(60, 80, 80, id="received-less-than-durable"),
        pytest.param(60, 95, 90, id="received-more-than-durable"),
        pytest.param(90, 70, 90, id="resent-what-was-common"),
    ],
)
def test_rule_1_reports_only_what_is_durable_and_this_writers(
    prefix: int, received: int | None, reported: int
) -> None:
    """Mutant 4: an ack before the fsync; H7: PostgreSQL believes any number (I1)."""
    end = None if received is None else at(received)
    assert reportable_lsn(ADOPTED, Term(7), at(prefix), end) == at(reported)
