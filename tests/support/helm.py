"""The `helm` and `kubectl` of the local cluster, so that every machine uses the same ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

from localkube import gobuild, layout, pins
from support.waiting import Failed


def helm_path() -> Path:
    """The pinned helm; `python -m localkube up` has built it."""
    return _built("helm")


def render(chart: Path, *options: str) -> str:
    """The chart's manifests, without a cluster; an error is helm's own text."""
    argv = [
        str(helm_path()),
        "template",
        "aurora-operator",
        str(chart),
        "--namespace",
        "aurora-system",
    ]
    argv += ["--kube-version", pins.KUBERNETES_VERSION]
    done = subprocess.run(
        [*argv, *options], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise Failed(done.stderr.strip())
    return done.stdout


def kubectl_path() -> Path:
    """The pinned kubectl, one of the names of the Kubernetes program."""
    path = layout.BIN / "kubectl"
    if not path.exists():
        raise Failed(f"{path} is missing: bring the local cluster up first (make cluster-up)")
    return path


def _built(name: str) -> Path:
    path = gobuild.path_of(name)
    if not path.exists():
        raise Failed(f"{name} is not built: bring the local cluster up first (make cluster-up)")
    return path
