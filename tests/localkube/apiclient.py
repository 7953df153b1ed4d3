"""A few verbs of the Kubernetes API by the standard library alone, as the cluster's admin.

Enough for the provisioner and for waiting; anything richer goes through kubectl.
"""

import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any

from localkube import layout, pki

Json = dict[str, Any]
REQUEST_LIMIT_SECONDS = 20.0
MERGE_PATCH = "application/merge-patch+json"


class ApiError(OSError):
    """The API server answered, and said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """One client identity; each request opens a connection of its own."""

    def __init__(self, certificate_name: str) -> None:
        self._context = ssl.create_default_context(cafile=str(pki.certificate("ca")))
        certificate, key = pki.certificate(certificate_name), pki.key(certificate_name)
        self._context.load_cert_chain(str(certificate), str(key))

    @staticmethod
    def admin() -> "Api":
        """The client that may do everything."""
        return Api("admin")

    def get_text(self, path: str) -> str:
        """The body of a GET."""
        return self._request("GET", path).decode()

    def get(self, path: str) -> Json:
        """The object of a GET."""
        return self._object("GET", path, None)

    def items(self, path: str) -> list[Json]:
        """The items of a list."""
        items: list[Json] = self.get(path)["items"]
        return items

    def create(self, path: str, body: Json) -> Json:
        """POST an object."""
        return self._object("POST", path, body)

    def patch(self, path: str, body: Json) -> Json:
        """Merge a patch into an object."""
        return self._object("PATCH", path, body)

    def delete(self, path: str) -> None:
        """DELETE an object; one that is gone already is fine."""
        try:
            self._request("DELETE", path)
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:
                raise

    def watch(self, path: str, silence_seconds: float) -> Iterator[Json]:
        """Events from now on; ends when the server closes, raises when it fell silent."""
        connection = self._connect(silence_seconds)
        try:
            connection.request("GET", f"{path}?watch=1&allowWatchBookmarks=true")
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise ApiError(response.status, response.read().decode(errors="replace")[:500])
            while line := response.readline():
                yield json.loads(line)
        except http.client.HTTPException as error:
            raise OSError(f"watch of {path}: the answer broke off ({error!r})") from error
        finally:
            connection.close()

    def _connect(self, timeout_seconds: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            layout.BRIDGE_ADDRESS, layout.API_PORT, timeout=timeout_seconds, context=self._context
        )

    def _object(self, method: str, path: str, body: Json | None) -> Json:
        document: Json = json.loads(self._request(method, path, body))
        return document

    def _request(self, method: str, path: str, body: Json | None = None) -> bytes:
        headers = {"Accept": "application/json"}
        if body is not None:
            patching = method == "PATCH"
            headers["Content-Type"] = MERGE_PATCH if patching else "application/json"
        connection = self._connect(REQUEST_LIMIT_SECONDS)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, body=text, headers=headers)
            response = connection.getresponse()
            answer = response.read()
        except http.client.HTTPException as error:
            raise OSError(f"{method} {path}: the answer broke off ({error!r})") from error
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise ApiError(response.status, answer.decode(errors="replace")[:1000])
        return answer
