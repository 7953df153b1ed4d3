"""What a storage pod must not do: format over a volume, or forget that its disk failed."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest
import structlog

from aurora_operator.agent.storage import birth as birth_module
from aurora_operator.agent.storage import failure
from aurora_operator.agent.storage.birth import CopyBirth
from aurora_operator.agent.storage.failure import note_failure
from aurora_operator.agent.storage.page_store import PageStore
from aurora_operator.api.messages import BirthRecord, CopyState, FormatAsk
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import Slot, VolumeId
from aurora_operator.core.verdicts import Proceed
from aurora_operator.volume.copy_store import CopyStore
from aurora_operator.volume.errors import StorageFailed
from support.copies import IDENTITIES, at
from support.crash import QuickFiles
from support.small_machine import SmallInstance, until
from support.small_volume import SmallVolume

ASK = FormatAsk(birth=BirthRecord(volume_id=VolumeId("volume"), identities=IDENTITIES))


@pytest.fixture
def formatted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In the place of initdb: what it was told to make."""
    made: list[str] = []

    async def make_base(target: Path, **_given: object) -> None:
        made.append(target.name)
        await asyncio.Event().wait()

    monkeypatch.setattr(birth_module, "make_base", make_base)
    monkeypatch.setattr(birth_module, "_RETRY_SECONDS", (0.002,))
    return made


def blank_slot_0(volume: SmallVolume, directory: Path) -> CopyBirth:
    """A slot 0 whose disk is blank, beside the five other pods of the volume."""
    place = SmallInstance(volume, directory / "slot-0").place
    store = CopyStore.open(place.disk, IDENTITIES[0], Slot(0), files=QuickFiles())
    pages = PageStore(place, volume.tier, Slot(0))
    return CopyBirth(place=place, store=store, page_store=pages, tier=volume.tier)


def make_blank(volume: SmallVolume, directory: Path, slots: range) -> None:
    """These pods have lost their disks, or never had anything."""
    for slot in slots:
        disk = directory / f"blank-{slot}"
        disk.mkdir()
        volume.pods[slot].hold(
            CopyStore.open(disk, IDENTITIES[slot], Slot(slot), files=QuickFiles())
        )


async def test_rule_13_a_peer_that_holds_the_volume_forbids_to_format(
    volume: SmallVolume, tmp_path: Path, formatted: list[str]
) -> None:
    """The operator lost its status and slot 0 its disk; one other copy is all there is."""
    make_blank(volume, tmp_path, range(1, 5))
    birth = blank_slot_0(volume, tmp_path)
    assert isinstance(birth.begin_format(ASK), Proceed), "its own disk would allow it"
    await until("refused", lambda: "s5_disk is full" in birth.sentence, lambda: birth.sentence)
    assert not formatted
    await birth.close()


async def test_rule_13_five_blank_peers_must_answer(
    volume: SmallVolume, tmp_path: Path, formatted: list[str]
) -> None:
    make_blank(volume, tmp_path, range(1, 6))
    volume.pods[3].away = True
    birth = blank_slot_0(volume, tmp_path)
    birth.begin_format(ASK)
    await until("it waits", lambda: "4 of 5 peers" in birth.sentence, lambda: birth.sentence)
    assert not formatted
    volume.pods[3].away = False
    await until("it formats", lambda: formatted, lambda: birth.sentence)
    await birth.close()


class BreakableFiles(QuickFiles):
    """A disk that some day makes nothing durable any more."""

    broken = False

    def sync(self, descriptor: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, "broken")


async def test_a_failed_copy_does_not_begin_anew_before_its_failure_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next life would trust an fsync that only the second time claims success (I5)."""
    monkeypatch.setattr(failure, "_RETRY_SECONDS", 0.002)
    files = BreakableFiles()
    store = CopyStore.open(tmp_path, IDENTITIES[0], Slot(0), files=files)
    store.begin_fill()
    files.broken = True
    store.append(at(0), bytes(100), Term(1))
    with pytest.raises(StorageFailed):
        store.sync()
    noting = asyncio.create_task(note_failure(store, tmp_path, files))
    with structlog.testing.capture_logs() as said:
        await until("it tried again and again", lambda: len(said) > 3)
    assert not noting.done()
    files.broken = False
    await asyncio.wait_for(noting, 10)
    again = CopyStore.open(tmp_path, IDENTITIES[0], Slot(0), files=files)
    assert again.state is CopyState.FAILED
