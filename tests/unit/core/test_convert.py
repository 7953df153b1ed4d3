"""Messages and dataclasses say the same, in both directions."""

from __future__ import annotations

import pytest

from aurora_operator.api import convert
from aurora_operator.api.messages import (
    AdoptAsk,
    PageStoreStatus,
    PressureStatus,
    StorageAnswer,
    StorageStatus,
    WriterAddress,
)
from aurora_operator.core.copy import Adoption, CopyState, CopyView, StreamState
from aurora_operator.core.names import InstanceName
from support.copies import IDENTITIES, at, full, history, members, promise, vdl, without_say

STREAMING = full(
    2,
    promised=7,
    scl=90,
    terms=history((1, 0), (7, 60)),
    first_record_end=70,
    known=vdl(7, 80),
    streaming=7,
)


def travelled(view: CopyView, stream: StreamState) -> StorageStatus:
    status = convert.status_from_view(view, stream, PageStoreStatus(running=True), PressureStatus())
    return StorageStatus.model_validate_json(status.model_dump_json())


@pytest.mark.parametrize(
    ("view", "stream"),
    [
        pytest.param(STREAMING, StreamState.STREAMING, id="streaming"),
        pytest.param(full(1, promised=8), StreamState.NONE, id="promised"),
        pytest.param(without_say(CopyState.BLANK, 4), StreamState.NONE, id="blank"),
    ],
)
def test_a_view_survives_the_way(view: CopyView, stream: StreamState) -> None:
    assert convert.view_from_status(travelled(view, stream)) == view


def test_a_silent_stream_is_no_stream() -> None:
    view = convert.view_from_status(travelled(STREAMING, StreamState.SILENT))
    assert view.streaming_term is None


def test_a_full_copy_that_shows_no_record_is_not_believed() -> None:
    status = travelled(STREAMING, StreamState.STREAMING).model_copy(update={"promise": None})
    with pytest.raises(ValueError, match="no whole record"):
        convert.view_from_status(status)


def test_an_answer_survives_the_way() -> None:
    status = travelled(STREAMING, StreamState.STREAMING)
    answer = StorageAnswer(granted=True, sentence="yes", status=status)
    assert convert.answer_from_message(answer).granted
    assert convert.answer_from_message(answer).copy == STREAMING


def test_an_adoption_survives_the_way() -> None:
    adoption = Adoption(promise(7), history((1, 0), (7, 60)), at(70), members())
    writer = WriterAddress(instance=InstanceName("shop-instance-1"), ip="192.0.2.7", port=5432)
    ask = convert.adoption_to_ask(adoption, writer)
    assert (
        convert.adoption_from_ask(AdoptAsk.model_validate_json(ask.model_dump_json())) == adoption
    )


def test_a_position_survives_the_way() -> None:
    message = convert.position_to_hub(STREAMING)
    position = convert.position_from_hub(IDENTITIES[2], message)
    assert (position.promised_term, position.log_term, position.scl) == (7, 7, at(90))
    assert message.streaming
