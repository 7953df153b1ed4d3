"""Who may read this copy's log from its gate, and how far (rules 4, 7 and 13)."""

from __future__ import annotations

from typing import Final

from aurora_operator.agent.tls import PeerRole
from aurora_operator.core.copy import Promise
from aurora_operator.core.gate import judge_fill_session, judge_uncapped
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import AttemptId, Identity
from aurora_operator.core.verdicts import Proceed, Refuse
from aurora_operator.engines.postgresql.gate import SessionAsk, SessionVerdict
from aurora_operator.engines.postgresql.relay import (
    ATTEMPT_PARAMETER,
    FILL_PARAMETER,
    TERM_PARAMETER,
)
from aurora_operator.volume.copy_store import CopyStore

_PAGE_STORE_BATCH_SECONDS: Final = 0.1
"""Pages may be a little late; fewer wake-ups, and fewer fsyncs beside the log's, are worth more."""


class GateJudge:
    """Judges the sessions of one gate; uncapped ones are asked about all along."""

    def __init__(self, store: CopyStore) -> None:
        self._store = store

    def judge(self, ask: SessionAsk) -> SessionVerdict:
        """What this session may have, as the copy stands now."""
        if ask.common_name is None:
            return SessionVerdict(
                granted=True,
                sentence="the own page store",
                batch_seconds=_PAGE_STORE_BATCH_SECONDS,
                stays=True,
            )
        if FILL_PARAMETER in ask.parameters:
            if ask.common_name != PeerRole.STORAGE:
                return SessionVerdict(False, f"{ask.common_name} has no copy to fill")
            identity = Identity(ask.parameters[FILL_PARAMETER])
            claimed = _claimed(ask)
            if isinstance(claimed, Refuse):
                return _uncapped(claimed)
            return _uncapped(judge_fill_session(self._store.view(), identity, claimed))
        if TERM_PARAMETER in ask.parameters:
            if ask.common_name != PeerRole.INSTANCE:
                return SessionVerdict(False, f"{ask.common_name} cannot be a candidate")
            claimed = _claimed(ask)
            if not isinstance(claimed, Promise):
                return _uncapped(claimed or Refuse("a candidate names its attempt"))
            return _uncapped(judge_uncapped(self._store.view(), claimed))
        if ask.common_name not in (PeerRole.INSTANCE, PeerRole.STORAGE):
            return SessionVerdict(False, f"{ask.common_name} may not read log")
        return SessionVerdict(True, "serves up to the volume durable position")


def _claimed(ask: SessionAsk) -> Promise | Refuse | None:
    """The attempt in whose name log is asked for, if any."""
    term = ask.parameters.get(TERM_PARAMETER)
    if term is None:
        return None
    if not term.isdigit():
        return Refuse(f"{term!r} is no term")
    return Promise(Term(int(term)), AttemptId(ask.parameters.get(ATTEMPT_PARAMETER, "")))


def _uncapped(verdict: Proceed | Refuse) -> SessionVerdict:
    return SessionVerdict(
        isinstance(verdict, Proceed), verdict.sentence, uncapped=isinstance(verdict, Proceed)
    )
