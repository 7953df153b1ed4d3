"""Namespaces of tests and demo: one label on all, so that leftovers are found and removed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeAlias

from support.aurora import KIND
from support.kube import CallFailed, Kube
from support.waiting import Failed

LABEL = "aurora-operator.io/throw-away"
REMOVAL_TIMEOUT_SECONDS = 120.0
MakeNamespace: TypeAlias = Callable[[str], str]
"""The fixture that makes a namespace for one test."""


def create_namespace(kube: Kube, name: str) -> None:
    """A namespace under the restricted pod security standard, as ours must live in it."""
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {LABEL: "true", "pod-security.kubernetes.io/enforce": "restricted"},
            },
        }
    )


def remove_namespaces(kube: Kube) -> None:
    """Remove every namespace that tests or the demo have made."""
    for namespace in kube.list("namespaces", selector=f"{LABEL}=true"):
        remove_namespace(kube, namespace["metadata"]["name"])


def remove_namespace(kube: Kube, name: str) -> None:
    """Remove a namespace: its AuroraClusters first, by the operator, in order.

    Only when the operator does not get it done in time are finalizers taken off by force, so that
    one broken run does not spoil the next; that is reported as an error afterwards.
    """
    for item in kube.list(KIND, name):
        if item["spec"].get("deletionProtection"):
            _patch(kube, name, item["metadata"]["name"], {"spec": {"deletionProtection": False}})
        kube.delete(KIND, item["metadata"]["name"], namespace=name)
    try:
        kube.delete_namespace(name, REMOVAL_TIMEOUT_SECONDS)
    except Failed as stuck:
        for item in kube.list(KIND, name):
            _patch(kube, name, item["metadata"]["name"], {"metadata": {"finalizers": None}})
        kube.delete_namespace(name, REMOVAL_TIMEOUT_SECONDS)
        raise Failed(f"the operator did not finish the deletion by itself: {stuck}") from stuck


def _patch(kube: Kube, namespace: str, name: str, body: dict[str, object]) -> None:
    words = ("patch", KIND, name, "--namespace", namespace, "--type", "merge")
    try:
        kube.run(*words, "--patch", json.dumps(body))
    except CallFailed as error:
        if "NotFound" not in str(error):
            raise
