"""What component tests share: one birth for all, since every volume may begin as a copy of it."""

from __future__ import annotations

import asyncio
import getpass
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from aurora_operator.engines.postgresql.birth import Birth, make_base
from aurora_operator.engines.postgresql.programs import DEBIAN_BINARIES
from support.authority import Authority
from support.postgresql import short_directory


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Component tests run on the loop that agents run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Signs the certificates of this run."""
    return Authority()


@pytest.fixture(scope="session")
def birth() -> Iterator[Birth]:
    """A base and the log of term 1, made once."""
    if not DEBIAN_BINARIES.exists():
        pytest.fail("PostgreSQL 17 is not here; component tests run with: make component")
    directory = short_directory()
    try:
        yield asyncio.run(
            make_base(
                directory / "data",
                socket_directory=directory,
                os_user=getpass.getuser(),
                emit=lambda record: None,
            )
        )
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def place() -> Iterator[Path]:
    """A short directory of the test's own."""
    directory = short_directory()
    yield directory
    shutil.rmtree(directory)
