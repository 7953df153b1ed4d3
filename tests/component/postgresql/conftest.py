"""Volumes and instances that are gone with their test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from aurora_operator.engines.postgresql.birth import Birth
from support.authority import Authority
from support.postgresql import Instance, PageStore, Volume

MakeInstance = Callable[..., Instance]
MakePageStore = Callable[[int], PageStore]


@pytest.fixture
async def volume(place: Path, authority: Authority, birth: Birth) -> AsyncIterator[Volume]:
    """Six full copies in term 1."""
    made = Volume(place, authority, birth)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def make_instance(volume: Volume) -> AsyncIterator[MakeInstance]:
    """Instances of the volume."""
    made: list[Instance] = []

    def make(name: str, *, guard: bool = False) -> Instance:
        made.append(Instance(volume, name, guard=guard))
        return made[-1]

    yield make
    for instance in made:
        await instance.close()


@pytest.fixture
async def make_page_store(volume: Volume) -> AsyncIterator[MakePageStore]:
    """Page stores, each behind the gate of its own slot."""
    made: list[PageStore] = []

    def make(slot: int) -> PageStore:
        made.append(PageStore(volume, volume.copies[slot]))
        return made[-1]

    yield make
    for page_store in made:
        await page_store.close()
