"""Who may read a copy's log from its gate, and how far (rules 4, 7, 13)."""

from __future__ import annotations

from pathlib import Path

import pytest

from aurora_operator.agent.storage.sessions import GateJudge
from aurora_operator.core.birth import VolumeRecord, born_record
from aurora_operator.core.copy import Promise
from aurora_operator.core.lsn import FORMAT_TERM, LOG_START, Term
from aurora_operator.core.names import SLOT_COUNT, AttemptId, Identity, Slot, VolumeId
from aurora_operator.engines.postgresql.gate import SessionAsk
from aurora_operator.volume.copy_store import CopyStore

RECORD = VolumeRecord(VolumeId("vol"), tuple(Identity(f"s{n}_x") for n in range(SLOT_COUNT)), "7")
FILL = {"aurora.fill": "s1_x"}
CANDIDATE = {"aurora.term": "2", "aurora.attempt": "mine"}


@pytest.fixture
def store(tmp_path: Path) -> CopyStore:
    store = CopyStore.open(tmp_path, RECORD.identities[0], Slot(0))
    store.begin_fill()
    store.append(LOG_START, b"log", FORMAT_TERM)
    store.sync()
    store.complete_birth(born_record(RECORD, Slot(0), "7", store.scl()))
    return store


def promised(store: CopyStore, attempt: str) -> CopyStore:
    assert store.promise(Promise(Term(2), AttemptId(attempt)), lambda: None) is None
    return store


@pytest.mark.parametrize(
    ("common_name", "parameters", "expected"),
    [
        (None, {}, (True, False)),
        ("instance", {}, (True, False)),
        ("storage", {}, (True, False)),
        ("operator", {}, (False, False)),
        ("storage", FILL, (True, True)),
        ("instance", FILL, (False, False)),
        ("storage", {"aurora.fill": "stranger"}, (False, False)),
        ("instance", CANDIDATE, (False, False)),
    ],
    ids=[
        "own-page-store",
        "replica",
        "peer",
        "nobody-else",
        "fill-at-birth",
        "an-instance-is-not-filled",
        "no-member",
        "no-promise-given",
    ],
)
def test_a_new_born_copy(
    store: CopyStore,
    common_name: str | None,
    parameters: dict[str, str],
    expected: tuple[bool, bool],
) -> None:
    verdict = GateJudge(store).judge(SessionAsk(common_name, parameters))
    assert (verdict.granted, verdict.uncapped) == expected, verdict.sentence


@pytest.mark.parametrize(
    ("attempt", "common_name", "granted"),
    [("mine", "instance", True), ("another", "instance", False), ("mine", "storage", False)],
    ids=["holds-the-promise", "another-attempt", "no-candidate"],
)
def test_rule_4_uncapped_is_only_the_attempt_that_holds_the_promise(
    store: CopyStore, attempt: str, common_name: str, granted: bool
) -> None:
    verdict = GateJudge(promised(store, attempt)).judge(SessionAsk(common_name, CANDIDATE))
    assert (verdict.granted, verdict.uncapped) == (granted, granted), verdict.sentence


def test_rule_13_nothing_is_filled_after_a_promise(store: CopyStore) -> None:
    verdict = GateJudge(promised(store, "mine")).judge(SessionAsk("storage", FILL))
    assert not verdict.granted
    assert "birth is over" in verdict.sentence
