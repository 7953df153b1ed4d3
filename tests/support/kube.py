"""A cluster as a person uses it: through `kubectl` and `helm`.

The same programs and the same words as in the documents, on the local cluster or on the one of the
current kubeconfig. Every call has a time limit, and a failed one tells what the program said.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from localkube import layout
from support.helm import helm_path, kubectl_path
from support.waiting import Failed, NotYet, wait_for

Object: TypeAlias = dict[str, Any]
CALL_TIMEOUT_SECONDS = 60.0


class CallFailed(Failed):
    """A program ended with an error; the text is its own."""


@dataclass(frozen=True)
class Kube:
    """The programs and the configuration for one Kubernetes cluster."""

    kubectl: Path
    helm: Path
    kubeconfig: Path | None
    local: bool
    """Whether it is our own: then its nodes can be broken and the client node is there."""

    def run(
        self,
        *words: str,
        input_text: str | None = None,
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> str:
        """What kubectl prints."""
        return self._call([str(self.kubectl), *words], input_text, timeout_seconds)

    def run_helm(self, *words: str, timeout_seconds: float = 300) -> str:
        """What helm prints."""
        return self._call([str(self.helm), *words], None, timeout_seconds)

    def environment(self) -> dict[str, str]:
        """The environment in which a person's own kubectl means this cluster."""
        ours = {"KUBECONFIG": str(self.kubeconfig)} if self.kubeconfig else {}
        return os.environ | ours

    def _call(self, argv: Sequence[str], input_text: str | None, timeout_seconds: float) -> str:
        try:
            done = subprocess.run(
                argv,
                input=input_text,
                env=self.environment(),
                capture_output=True,
                text=True,
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CallFailed(f"{' '.join(argv)}: no end after {timeout_seconds:.0f} s") from error
        if done.returncode != 0:
            raise CallFailed(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def find(self, kind: str, name: str, namespace: str) -> Object | None:
        """One object, or None when there is none of that name."""
        words = ("get", kind, name, "--namespace", namespace, "--ignore-not-found", "-o", "json")
        text = self.run(*words)
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def get(self, kind: str, name: str, namespace: str) -> Object:
        """One object; a missing one is an error."""
        found = self.find(kind, name, namespace)
        if found is None:
            raise CallFailed(f"there is no {kind} {name} in namespace {namespace}")
        return found

    def list(
        self, kind: str, namespace: str | None = None, selector: str | None = None
    ) -> list[Object]:
        """Objects of a kind, of all namespaces when none is given."""
        words = ["get", kind, "-o", "json"]
        words += ["--namespace", namespace] if namespace else ["--all-namespaces"]
        words += ["--selector", selector] if selector else []
        items: list[Object] = json.loads(self.run(*words))["items"]
        return items

    def apply(self, *objects: Object) -> None:
        """`kubectl apply` of objects that carry their namespace."""
        self.run("apply", "--filename", "-", input_text=yaml.safe_dump_all(objects))

    def delete(self, kind: str, *names: str, namespace: str, wait: bool = False) -> None:
        """Ask for the deletion; those that are gone already are no error."""
        words = ("delete", kind, *names, "--namespace", namespace, "--ignore-not-found")
        self.run(*words, f"--wait={'true' if wait else 'false'}")

    def delete_namespace(self, name: str, timeout_seconds: float = 120) -> None:
        """Delete a namespace and wait until it is gone."""
        self.run("delete", "namespace", name, "--ignore-not-found", "--wait=false")

        def gone() -> None:
            text = self.run("get", "namespace", name, "--ignore-not-found", "-o", "json")
            if text.strip():
                conditions = json.loads(text)["status"].get("conditions", [])
                raise NotYet("; ".join(c["message"] for c in conditions) or "it is there")

        wait_for(
            f"namespace {name} is gone", gone, timeout_seconds=timeout_seconds, interval_seconds=1
        )


def local_kube() -> Kube:
    """The local three-zone cluster."""
    return Kube(kubectl_path(), helm_path(), layout.KUBECONFIG, local=True)


def existing_kube() -> Kube:
    """The cluster of the current kubeconfig context, by the person's own programs."""
    programs = {name: shutil.which(name) for name in ("kubectl", "helm")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        raise Failed(f"not on the PATH: {', '.join(missing)}; KUBE=existing uses your own")
    return Kube(Path(programs["kubectl"] or ""), Path(programs["helm"] or ""), None, local=False)
