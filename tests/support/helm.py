"""The `helm` that belongs to the local cluster, so that every machine uses the same one."""

from __future__ import annotations

from pathlib import Path

from localkube import layout
from support.waiting import Failed


def helm_path() -> Path:
    """The pinned helm; `python -m localkube up` has built it."""
    path = layout.BIN / "helm"
    if not path.exists():
        raise Failed(f"{path} is missing: bring the local cluster up first (make cluster-up)")
    return path
