"""Birth survives crashes: a copy is blank until it is full, and the work begins again (rule 13)."""

from __future__ import annotations

from aurora_operator.api.messages import CopyState, FillAsk, FormatAsk
from support.volume import Volume, wait_until


async def test_a_crash_on_the_way_leaves_a_blank_copy() -> None:
    async with Volume() as volume:
        first, second = volume.storage[0], volume.storage[1]
        await wait_until("slot 0 answers", lambda: volume.storage_status(first), 30)
        answer = await volume.client.format(first.agent, FormatAsk(birth=volume.birth))
        assert answer.granted
        assert answer.status.state is not CopyState.FULL
        first.kill()
        first.start()
        await volume.wait_copy(first, CopyState.BLANK, 30)
        await volume.client.format(first.agent, FormatAsk(birth=volume.birth))
        status = await volume.wait_copy(first, CopyState.FULL, 60)
        assert status.system_identifier is not None
        again = await volume.client.format(first.agent, FormatAsk(birth=volume.birth))
        assert (await volume.storage_status(first)).system_identifier == status.system_identifier
        assert again.status.state is CopyState.FULL

        fill = FillAsk(
            birth=volume.birth, system_identifier=status.system_identifier, source_pod=first.name
        )
        await wait_until("slot 1 answers", lambda: volume.storage_status(second), 30)
        assert (await volume.client.fill(second.agent, fill)).granted
        second.kill()
        second.start()
        seen = await wait_until("slot 1 answers", lambda: volume.storage_status(second), 30)
        if seen.state is not CopyState.FULL:
            assert seen.state is CopyState.BLANK
            assert (await volume.client.fill(second.agent, fill)).granted
        await volume.wait_copy(second, CopyState.FULL, 60)


async def test_slot_0_is_not_formatted_twice_and_others_never() -> None:
    async with Volume() as volume:
        other = volume.storage[2]
        await wait_until("slot 2 answers", lambda: volume.storage_status(other), 30)
        answer = await volume.client.format(other.agent, FormatAsk(birth=volume.birth))
        assert not answer.granted
        assert answer.status.state is CopyState.BLANK
