"""A second release is refused; the first one may be upgraded. Helm asks a real API server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.api_server import ApiServer
from support.helm import helm_path

CHART = Path(__file__).resolve().parents[2] / "charts" / "aurora-operator"
HELM_TIMEOUT_SECONDS = 60


class Helm:
    """Helm on this API server; nothing runs there, so nothing is waited for."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        argv = [str(helm_path()), "--kubeconfig", str(self._kubeconfig), *words]
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=HELM_TIMEOUT_SECONDS, check=False
        )

    def install(self, release: str, namespace: str) -> subprocess.CompletedProcess[str]:
        """Install or upgrade."""
        where = ("--namespace", namespace, "--create-namespace", "--skip-crds")
        return self("upgrade", "--install", release, str(CHART), *where)


@pytest.fixture
def helm(server: ApiServer, tmp_path: Path) -> Helm:
    return Helm(server.kubeconfig("admin", tmp_path / "kubeconfig"))


def test_a_second_release_is_refused(helm: Helm) -> None:
    first = helm.install("aurora-operator", "aurora-system")
    assert first.returncode == 0, first.stderr
    for release, namespace in (("second", "aurora-system"), ("aurora-operator", "elsewhere")):
        done = helm.install(release, namespace)
        assert done.returncode != 0
        assert "release aurora-operator in namespace aurora-system" in done.stderr
        assert "Nothing was installed" in done.stderr
    again = helm.install("aurora-operator", "aurora-system")
    assert again.returncode == 0, again.stderr
    gone = helm("uninstall", "aurora-operator", "--namespace", "aurora-system")
    assert gone.returncode == 0, gone.stderr
    moved = helm.install("second", "elsewhere")
    assert moved.returncode == 0, moved.stderr
    assert helm("uninstall", "second", "--namespace", "elsewhere").returncode == 0
