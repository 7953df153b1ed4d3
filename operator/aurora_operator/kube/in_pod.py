"""The Kubernetes API as seen from inside a pod, for the few calls that an agent makes.

An agent gets, replaces and patches four objects. The official client is not used for that on
purpose: importing its models takes about a second of processor time and tens of megabytes, in each
of up to sixteen pods, just when an instance is needed quickly. The operator uses the official one.
"""

from __future__ import annotations

import json
import os
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CALL_TIMEOUT_SECONDS: Final = 3.0
JSON: Final = "application/json"
STRATEGIC_MERGE: Final = "application/strategic-merge-patch+json"


class ApiRefused(Exception):
    """The API server answered, and said no."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(f"the Kubernetes API answered {status} to {what}")
        self.status = status

    @property
    def is_conflict(self) -> bool:
        """The object changed since it was read."""
        return self.status == HTTPStatus.CONFLICT


UNREACHABLE: Final = (ApiRefused, aiohttp.ClientError, OSError, TimeoutError)
"""What a call may raise."""


class PodApi:
    """Calls with the pod's own ServiceAccount; the token is read each time, since it is renewed."""

    def __init__(
        self, base_url: str, token_file: Path | None, context: ssl.SSLContext | None
    ) -> None:
        self._base_url = base_url
        self._token_file = token_file
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context or True),
            timeout=aiohttp.ClientTimeout(total=_CALL_TIMEOUT_SECONDS),
        )

    @classmethod
    def in_cluster(cls) -> Self:
        """Where every pod finds the API server."""
        host = os.environ["KUBERNETES_SERVICE_HOST"]
        port = os.environ["KUBERNETES_SERVICE_PORT"]
        shown = f"[{host}]" if ":" in host else host
        context = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
        return cls(f"https://{shown}:{port}", _ACCOUNT / "token", context)

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()

    async def get(self, path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
        """Read one object, or a list."""
        return await self._call("GET", path, query=query)

    async def replace(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Replace an object; its resourceVersion must still be the current one."""
        return await self._call("PUT", path, body=body)

    async def merge(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A strategic merge patch."""
        return await self._call("PATCH", path, body=body, content_type=STRATEGIC_MERGE)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        content_type: str = JSON,
    ) -> dict[str, Any]:
        headers = {"Accept": JSON}
        if self._token_file is not None:
            token = self._token_file.read_text(encoding="ascii").strip()
            headers["Authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body).encode()
        async with self._session.request(
            method, self._base_url + path, params=query, data=data, headers=headers
        ) as response:
            content = await response.read()
            if response.status >= HTTPStatus.BAD_REQUEST:
                text = content.decode(errors="replace")[:300]
                raise ApiRefused(response.status, f"{method} {path}: {text}")
            answer: dict[str, Any] = json.loads(content)
            return answer
