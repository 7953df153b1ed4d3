"""Openings of the volume as the instances' logs tell them."""

from __future__ import annotations

import json
from typing import Any

from support.aurora import Aurora
from support.kube import Kube

EVENT = "opening volume"


def openings(kube: Kube, aurora: Aurora, pod: str) -> list[dict[str, Any]]:
    """The log entries by which `open_volume` begins, in a pod that still exists."""
    text = kube.run("logs", pod, "--namespace", aurora.namespace, "--tail=-1")
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        if EVENT in line and line.startswith("{"):
            entry = json.loads(line)
            if entry.get("event") == EVENT:
                found.append(entry)
    return found
