"""The agent's Kubernetes I/O against a small API server of the test's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from aurora_operator.api.labels import SERVER_RUNNING, TERM
from aurora_operator.core.lsn import Term
from aurora_operator.kube.endpoints import EndpointSlices, EndpointTarget
from aurora_operator.kube.in_pod import PodApi
from aurora_operator.kube.own_pod import OwnPod

HOST, PORT = "127.7.8.1", 18443
SLICE = "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/shop-writer"
OWN = EndpointTarget("shop-instance-1", "10.0.0.1", "uid-1")


class FakeApi:
    """One EndpointSlice, some pods, and what was written."""

    def __init__(self) -> None:
        self.slice: dict[str, Any] = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "shop-writer",
                "namespace": "ns",
                "resourceVersion": "5",
                "labels": {"kubernetes.io/service-name": "shop"},
            },
            "addressType": "IPv4",
            "endpoints": None,
            "ports": None,
        }
        self.pods: list[dict[str, Any]] = []
        self.conflicts = 0
        self.writes = 0
        self.patches: list[tuple[str, Any]] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get(SLICE, self._read)
        app.router.add_put(SLICE, self._replace)
        app.router.add_get("/api/v1/namespaces/ns/pods", self._list)
        app.router.add_patch("/api/v1/namespaces/ns/pods/p/status", self._patch)
        return app

    async def _read(self, _request: web.Request) -> web.Response:
        return web.json_response(self.slice)

    async def _replace(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.conflicts > 0:
            self.conflicts -= 1
            self.slice["metadata"]["resourceVersion"] = "6"
            return web.json_response({"kind": "Status", "code": 409}, status=409)
        assert body["metadata"]["resourceVersion"] == self.slice["metadata"]["resourceVersion"]
        self.slice = body
        self.writes += 1
        return web.json_response(body)

    async def _list(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": self.pods}
        )

    async def _patch(self, request: web.Request) -> web.Response:
        self.patches.append((request.headers["Content-Type"], json.loads(await request.text())))
        return web.json_response({"metadata": {"name": "p"}})


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    runner = web.AppRunner(fake.app())
    await runner.setup()
    await web.TCPSite(runner, HOST, PORT).start()
    yield fake
    await runner.cleanup()


@pytest.fixture
async def client() -> AsyncIterator[PodApi]:
    client = PodApi(f"http://{HOST}:{PORT}", None, None)
    yield client
    await client.close()


async def test_a_writer_points_the_slice_at_itself(api: FakeApi, client: PodApi) -> None:
    outcome = await EndpointSlices(client, "ns").point("shop-writer", [OWN], 5433, Term(3))
    assert outcome.moved
    assert api.slice["metadata"]["annotations"][TERM] == "3"
    assert api.slice["metadata"]["labels"] == {"kubernetes.io/service-name": "shop"}
    assert api.slice["ports"] == [{"name": "postgresql", "port": 5433, "protocol": "TCP"}]
    assert [e["addresses"] for e in api.slice["endpoints"]] == [["10.0.0.1"]]


async def test_asserting_again_writes_nothing(api: FakeApi, client: PodApi) -> None:
    slices = EndpointSlices(client, "ns")
    await slices.point("shop-writer", [OWN], 5432, Term(3))
    outcome = await slices.point("shop-writer", [OWN], 5432, Term(3))
    assert (outcome.moved, api.writes) == (False, 1)


async def test_a_higher_term_is_never_overwritten(api: FakeApi, client: PodApi) -> None:
    slices = EndpointSlices(client, "ns")
    await slices.point("shop-writer", [OWN], 5432, Term(4))
    other = EndpointTarget("shop-instance-2", "10.0.0.2")
    outcome = await slices.point("shop-writer", [other], 5432, Term(3))
    assert outcome.superseded
    assert api.slice["metadata"]["annotations"][TERM] == "4"


async def test_a_conflict_is_read_again(api: FakeApi, client: PodApi) -> None:
    api.conflicts = 2
    outcome = await EndpointSlices(client, "ns").point("shop-writer", [OWN], 5432, Term(3))
    assert outcome.moved


async def test_only_ready_pods_that_stay_are_replicas(api: FakeApi, client: PodApi) -> None:
    api.pods = [
        _pod("shop-instance-3", ready="True"),
        _pod("shop-instance-2", ready="True"),
        _pod("shop-instance-4", ready="False"),
        _pod("shop-instance-5", ready="True", deletionTimestamp="2026-01-01T00:00:00Z"),
    ]
    found = await EndpointSlices(client, "ns").ready_instances("shop")
    assert [target.pod for target in found] == ["shop-instance-2", "shop-instance-3"]


async def test_the_condition_is_patched_by_type(api: FakeApi, client: PodApi) -> None:
    await OwnPod(client, "ns", "p").set_server_running(False, "it was killed")
    [(content_type, body)] = api.patches
    assert content_type == "application/strategic-merge-patch+json"
    [condition] = body["status"]["conditions"]
    assert (condition["type"], condition["status"]) == (SERVER_RUNNING, "False")
    assert (condition["reason"], condition["message"]) == ("ServerEnded", "it was killed")


def _pod(name: str, *, ready: str, **metadata: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", **metadata},
        "spec": {"containers": [{"name": "instance"}], "nodeName": "node-a1"},
        "status": {
            "podIP": f"10.0.0.{name[-1]}",
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }
