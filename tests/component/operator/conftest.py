"""One API server for all of the operator's component tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from aurora_operator.kube.client import KubeClient
from support.api_server import ApiServer, api_server


@pytest.fixture(scope="session")
def server() -> Iterator[ApiServer]:
    """A real API server with nothing behind it."""
    with api_server() as running:
        yield running


@pytest.fixture
async def admin(server: ApiServer) -> AsyncIterator[KubeClient]:
    """May do everything."""
    client = server.client("admin")
    yield client
    await client.close()


@pytest.fixture
async def operator(server: ApiServer) -> AsyncIterator[KubeClient]:
    """May do what the operator's table of rights says, and nothing else."""
    client = server.client("operator")
    yield client
    await client.close()
