"""The agent API over real mutual TLS on loopback: who may ask, and what the asker gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from aurora_operator.agent.client import AgentAddress, AgentClient, AgentRefused, AgentUnreachable
from aurora_operator.agent.http import AgentServer, Health, Route
from aurora_operator.agent.tls import Certificates, PeerRole
from aurora_operator.api.messages import (
    CopyState,
    PrevoteAsk,
    StorageAnswer,
    StorageStatus,
)
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import Identity, InstanceName, Slot
from support.authority import Authority

POD = "shop-storage-0"
HOST = "127.7.7.1"
ADDRESS = AgentAddress(POD, HOST)
STATUS = StorageStatus(identity=Identity("s0_a"), slot=Slot(0), state=CopyState.BLANK)
ASK = PrevoteAsk(candidate=InstanceName("shop-instance-1"), seen_term=Term(1))

Connect = Callable[[str, str], Awaitable[AgentClient]]


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def server(tmp_path: Path, authority: Authority) -> AsyncIterator[AgentServer]:
    async def status(_ask: None) -> StorageStatus:
        return STATUS

    async def prevote(ask: PrevoteAsk) -> StorageAnswer:
        return StorageAnswer(granted=False, sentence=f"no, {ask.candidate}", status=STATUS)

    async def fail(_ask: PrevoteAsk) -> StorageAnswer:
        raise RuntimeError("the disk is full")

    everybody = frozenset(PeerRole)
    instances = frozenset({PeerRole.INSTANCE})
    server = AgentServer(
        certificates=Certificates(authority.issue(tmp_path / "server", "storage", POD)),
        organisation="test/shop",
        listen=HOST,
        routes=[
            Route("GET", "/v1/storage/status", everybody, None, status),
            Route("POST", "/v1/storage/prevote", instances, PrevoteAsk, prevote),
            Route("POST", "/v1/storage/promise", instances, PrevoteAsk, fail),
        ],
        sockets=[],
        health=Health(live=lambda: True, ready=lambda: "no base yet"),
    )
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def connect(tmp_path: Path, authority: Authority) -> AsyncIterator[Connect]:
    clients: list[AgentClient] = []

    async def make(role: str, organisation: str = "test/shop") -> AgentClient:
        directory = authority.issue(tmp_path / f"client{len(clients)}", role, "x", organisation)
        clients.append(AgentClient(Certificates(directory).client()))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest.mark.usefixtures("server")
async def test_an_ask_and_its_answer(connect: Connect) -> None:
    client = await connect("instance", "test/shop")
    assert await client.fetch_storage_status(ADDRESS) == STATUS
    answer = await client.prevote(ADDRESS, ASK)
    assert (answer.granted, answer.sentence) == (False, "no, shop-instance-1")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("role", "organisation", "reason"),
    [
        ("operator", "test/shop", "operator may not ask"),
        ("instance", "test/other", "belongs to 'test/other'"),
        ("postgres", "test/shop", "is not a role"),
    ],
    ids=["wrong-role", "another-cluster", "no-role"],
)
async def test_who_may_not_ask(connect: Connect, role: str, organisation: str, reason: str) -> None:
    client = await connect(role, organisation)
    with pytest.raises(AgentRefused, match=reason):
        await client.prevote(ADDRESS, ASK)


@pytest.mark.usefixtures("server")
async def test_an_error_of_the_handler_reaches_the_asker_as_a_sentence(connect: Connect) -> None:
    client = await connect("instance", "test/shop")
    with pytest.raises(AgentRefused, match="RuntimeError: the disk is full"):
        await client.promise(ADDRESS, ASK)  # type: ignore[arg-type]


@pytest.mark.usefixtures("server")
async def test_the_pod_name_is_verified_whatever_the_address(connect: Connect) -> None:
    client = await connect("instance", "test/shop")
    with pytest.raises(AgentUnreachable, match="shop-storage-1"):
        await client.fetch_storage_status(AgentAddress("shop-storage-1", HOST))


@pytest.mark.usefixtures("server")
async def test_a_client_of_another_authority_is_refused(tmp_path: Path) -> None:
    directory = Authority().issue(tmp_path / "foreign", "instance", "x")
    client = AgentClient(Certificates(directory).client())
    try:
        with pytest.raises(AgentUnreachable):
            await client.fetch_storage_status(ADDRESS)
    finally:
        await client.close()


async def test_nobody_there_is_unreachable(connect: Connect) -> None:
    client = await connect("instance", "test/shop")
    with pytest.raises(AgentUnreachable, match="did not answer"):
        await client.fetch_storage_status(AgentAddress(POD, "127.7.7.9"))


@pytest.mark.usefixtures("server")
async def test_probes_are_plain_and_say_why() -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{HOST}:9187/livez") as live:
            assert live.status == 200
        async with session.get(f"http://{HOST}:9187/readyz") as ready:
            assert (ready.status, await ready.text()) == (503, "no base yet")
        async with session.get(f"http://{HOST}:9187/metrics") as metrics:
            assert metrics.status == 200


def test_a_replaced_certificate_is_read_again(tmp_path: Path, authority: Authority) -> None:
    directory = authority.issue(tmp_path / "pod", "storage", POD)
    certificates = Certificates(directory)
    certificates.server()
    assert not certificates.refresh()
    authority.issue(directory, "storage", POD)
    assert certificates.refresh()
