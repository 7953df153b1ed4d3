"""The demo's client: `support.client` in a pod of its own, from the engine image.

A pod, because that is how applications reach the Services, on any cluster. Its log is its standard
output; all times in it are of one clock, so outages are measured within the log alone.
"""

from __future__ import annotations

import json
from pathlib import Path

from support import client
from support.aurora import Aurora, is_ready
from support.checker import History, parse_history
from support.kube import Object
from support.waiting import Failed, NotYet, wait_for

NAME = "demo-client"
START_TIMEOUT_SECONDS = 90.0
ROWS_TIMEOUT_SECONDS = 60.0


class ClientPod:
    """One writing client in a pod."""

    def __init__(self, aurora: Aurora, image: str) -> None:
        self._aurora = aurora
        self._kube = aurora.kube
        self._image = image

    def start(self) -> None:
        """Start anew; one that an earlier run left is removed first."""
        self.remove()
        source = Path(client.__file__).read_text()
        script = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": self._aurora.namespace},
            "data": {"client.py": source},
        }
        # A run of its own: rows of an earlier demo are another client's.
        self._client = f"demo-{self._run_number()}"
        self._kube.apply(script, self._pod())
        wait_for("the client's pod runs", self._ready, timeout_seconds=START_TIMEOUT_SECONDS)

    def remove(self) -> None:
        """Remove the pod and its script."""
        namespace = self._aurora.namespace
        self._kube.run(
            *("delete", "pod", NAME, "--namespace", namespace, "--ignore-not-found"),
            *("--grace-period=2", "--wait"),
        )
        self._kube.delete("configmap", NAME, namespace=namespace)

    def history(self) -> History:
        """What the client was told so far."""
        words = ("logs", NAME, "--namespace", self._aurora.namespace)
        return parse_history(self._kube.run(*words).splitlines(keepends=True))

    def wait_rows(self, count: int) -> History:
        """Wait until this many writes are acknowledged."""

        def probe() -> History:
            history = self.history()
            if len(history.acked) < count:
                refused = history.refused_connections[-1:] or history.attempts[-1:]
                raise NotYet(f"{len(history.acked)} acknowledged; last: {refused}")
            return history

        return wait_for(f"{count} acknowledged rows", probe, timeout_seconds=ROWS_TIMEOUT_SECONDS)

    def table_ids(self) -> list[int]:
        """All rows of this client that are in the table now."""
        words = ("exec", NAME, "--namespace", self._aurora.namespace, "--")
        text = self._kube.run(*words, *self._argv("dump"))
        ids: list[int] = json.loads(text.splitlines()[-1])["ids"]
        return ids

    def _run_number(self) -> str:
        number: str = self._aurora.object()["metadata"]["resourceVersion"]
        return number

    def _argv(self, mode: str) -> list[str]:
        secret = self._aurora.secret()
        return [
            *("python3", "/client/client.py", mode, "--host", self._aurora.name),
            *("--port", secret["port"], "--user", secret["username"]),
            *("--dbname", secret["dbname"], "--client", self._client),
            *("--password-file", "/secret/password"),
        ]

    def _pod(self) -> Object:
        prepare, write = self._argv("prepare"), self._argv("write")
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": NAME, "namespace": self._aurora.namespace},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "seccompProfile": {"type": "RuntimeDefault"},
                    "fsGroup": 26,
                },
                "initContainers": [self._container("prepare", prepare)],
                "containers": [self._container("write", write)],
                "volumes": [
                    {"name": "client", "configMap": {"name": NAME}},
                    {"name": "secret", "secret": {"secretName": f"{self._aurora.name}-master"}},
                ],
            },
        }

    def _container(self, name: str, command: list[str]) -> Object:
        return {
            "name": name,
            "image": self._image,
            "command": command,
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "client", "mountPath": "/client", "readOnly": True},
                {"name": "secret", "mountPath": "/secret", "readOnly": True},
            ],
        }

    def _ready(self) -> None:
        pod = self._kube.get("pod", NAME, self._aurora.namespace)
        phase = pod["status"].get("phase")
        if phase in ("Failed", "Succeeded"):
            raise Failed(f"the client's pod ended: {self._first_words()}")
        if not is_ready(pod):
            raise NotYet(f"phase {phase}, {pod['status'].get('initContainerStatuses')}")

    def _first_words(self) -> str:
        words = ("logs", NAME, "--namespace", self._aurora.namespace, "--all-containers")
        return self._kube.run(*words, "--tail=5").strip()
