"""A real API server for those parts of the chart that only an API server can judge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from aurora_operator.kube.client import KubeClient
from support.api_server import ApiServer, api_server


@pytest.fixture(scope="session")
def server() -> Iterator[ApiServer]:
    """With the CRD, and nothing of the chart."""
    with api_server() as running:
        yield running


@pytest.fixture
async def admin(server: ApiServer) -> AsyncIterator[KubeClient]:
    """May do everything."""
    client = server.client("admin")
    yield client
    await client.close()
