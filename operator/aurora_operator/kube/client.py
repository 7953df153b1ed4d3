"""The Kubernetes API through the official client's asyncio half.

Only its transport, login and token renewal are used; objects stay plain data, so that what a
builder wants and what a server answers can be compared, and unknown fields survive a replace.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from aurora_operator.kube.api import (
    AlreadyExists,
    Conflict,
    Kind,
    KubeError,
    Manifest,
    NotFound,
    Refused,
    Unavailable,
)

_CALL_TIMEOUT_SECONDS: Final = 10.0
_MERGE_PATCH: Final = "application/merge-patch+json"


async def login(kubeconfig: str | None = None) -> ApiClient:
    """A client for the API server: the pod's own account, or a kubeconfig's current context."""
    configuration = Configuration()
    if kubeconfig is None:
        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
    return ApiClient(configuration)


class KubeClient:
    """``KubeApi`` over HTTP."""

    def __init__(self, api: ApiClient, timeout_seconds: float = _CALL_TIMEOUT_SECONDS) -> None:
        self._api = api
        self._timeout_seconds = timeout_seconds

    async def close(self) -> None:
        """End all connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        """One object."""
        return await self._call("GET", path_of(kind, namespace, name))

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = ""
    ) -> Sequence[Manifest]:
        """All objects of a kind."""
        path = path_of(kind, namespace)
        if selector:
            path += "?" + urlencode({"labelSelector": selector})
        answer = await self._call("GET", path)
        return cast("list[Manifest]", answer["items"])

    async def create(self, kind: Kind, namespace: str | None, manifest: Manifest) -> Manifest:
        """Make an object."""
        return await self._call("POST", path_of(kind, namespace), manifest)

    async def try_create(self, kind: Kind, namespace: str | None, manifest: Manifest) -> None:
        """Ask whether an object would be made."""
        await self._call("POST", f"{path_of(kind, namespace)}?dryRun=All", manifest)

    async def replace(self, kind: Kind, namespace: str | None, manifest: Manifest) -> Manifest:
        """Replace an object."""
        return await self._call(
            "PUT", path_of(kind, namespace, manifest["metadata"]["name"]), manifest
        )

    async def replace_status(self, kind: Kind, namespace: str, manifest: Manifest) -> Manifest:
        """Replace an object's status."""
        path = path_of(kind, namespace, manifest["metadata"]["name"])
        return await self._call("PUT", f"{path}/status", manifest)

    async def patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Manifest
    ) -> Manifest:
        """Change some fields."""
        return await self._call("PATCH", path_of(kind, namespace, name), patch, _MERGE_PATCH)

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        """Ask for deletion."""
        options: Manifest = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self._call("DELETE", path_of(kind, namespace, name), options)
        except (NotFound, Conflict):
            # Gone, or a younger object of the same name: either way this one is deleted.
            return

    async def _call(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        content_type: str = "application/json",
    ) -> Manifest:
        what = f"{method} {path}"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                request = await self._api.param_serialize(
                    method,
                    path,
                    header_params={"Accept": "application/json", "Content-Type": content_type},
                    body=body,
                    auth_settings=["BearerToken"],
                )
                response = await self._api.call_api(
                    *request, _request_timeout=self._timeout_seconds
                )
                raw = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"{what}: no answer ({type(error).__name__}: {error})") from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise error_of(what, response.status, raw)
        try:
            return cast("Manifest", json.loads(raw))
        except ValueError as error:
            raise Unavailable(f"{what}: the answer is not JSON ({raw[:100]!r})") from error


def path_of(kind: Kind, namespace: str | None, name: str | None = None) -> str:
    """The path of an object, or of all of a kind."""
    facts = kind.value
    root = "/apis/" if facts.group else "/api/"
    path = f"{root}{facts.api_version}"
    if facts.namespaced and namespace is not None:
        path += f"/namespaces/{namespace}"
    path += f"/{facts.plural}"
    return path if name is None else f"{path}/{name}"


def error_of(what: str, status: int, raw: bytes) -> KubeError:
    """What an error answer means."""
    body: dict[str, Any] = {}
    try:
        decoded = json.loads(raw)
        body = decoded if isinstance(decoded, dict) else {}
    except ValueError:
        body = {"message": raw.decode(errors="replace")[:300]}
    message = f"{what}: {body.get('message') or HTTPStatus(status).phrase}"
    match status:
        case HTTPStatus.NOT_FOUND:
            return NotFound(message)
        case HTTPStatus.CONFLICT if body.get("reason") == "AlreadyExists":
            return AlreadyExists(message)
        case HTTPStatus.CONFLICT:
            return Conflict(message)
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.UNAUTHORIZED:
            return Unavailable(message)
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Unavailable(message)
        case _:
            return Refused(message)
