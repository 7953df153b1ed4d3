"""The product as it stands in this checkout, put onto a cluster: images, nodes, chart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localkube import cluster
from support.kube import CallFailed, Kube
from support.waiting import Failed, NotYet, wait_for

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "aurora-operator"
ARCHIVES = ROOT / "build" / "images"
NAMESPACE = "aurora-system"
RELEASE = "aurora-operator"
BUILD_TIMEOUT_SECONDS = 1800


@dataclass(frozen=True)
class Images:
    """References of the two images, as pods name them."""

    engine: str
    operator: str


def build_images(builder: str = "buildah", *, archives: bool = True) -> Images:
    """Build what has changed; with archives, for nodes that fetch from no registry."""
    ARCHIVES.mkdir(parents=True, exist_ok=True)
    return Images(*(_build(name, builder, archives) for name in ("engine", "operator")))


def archive_path(name: str) -> Path:
    """Where the archive of an image is written."""
    return ARCHIVES / f"{name}.tar"


def _build(name: str, builder: str, archives: bool) -> str:
    argv = [sys.executable, "images/build.py", name, "--builder", builder]
    argv += ["--archive", str(archive_path(name))] if archives else []
    done = subprocess.run(
        argv,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=BUILD_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"the {name} image could not be built; its messages are above")
    return done.stdout.strip().splitlines()[-1]


def load_images() -> None:
    """Bring both images into the nodes of the local cluster; those that have them are skipped."""
    for name in ("operator", "engine"):
        cluster.load_image(archive_path(name))


def install_chart(kube: Kube, images: Images, *options: str) -> None:
    """Install the operator, or bring it to these images; wait until it runs."""
    # Helm installs CRDs once and never changes them; they are part of this checkout, so apply them.
    kube.run("apply", "--server-side", "--force-conflicts", "--filename", str(CHART / "crds"))
    _forget_interrupted(kube)
    settings: list[str] = []
    for key, reference in (("image", images.operator), ("engineImage", images.engine)):
        repository, _, tag = reference.rpartition(":")
        settings += ["--set-string", f"{key}.repository={repository},{key}.tag={tag}"]
    try:
        kube.run_helm(
            *("upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE),
            *("--create-namespace", "--wait", "--timeout", "2m", *settings, *options),
        )
    except CallFailed as error:
        raise Failed(f"the operator does not run: {error}\n{_last_words(kube)}") from error


def _last_words(kube: Kube) -> str:
    """The operator's pods and the ends of their logs, as far as there are any."""
    where = ("--namespace", NAMESPACE, "--selector", f"app.kubernetes.io/instance={RELEASE}")
    pods = kube.run("get", "pods", *where, "-o", "wide")
    try:
        return pods + kube.run("logs", *where, "--tail=5", "--prefix")
    except CallFailed as error:
        return f"{pods}{error}"


def _forget_interrupted(kube: Kube) -> None:
    """Helm refuses to work on a release whose last change was killed: remove that change's record.

    The objects stay; the next install takes them over, they carry the release's name.
    """
    for status in ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling"):
        selector = f"owner=helm,name={RELEASE},status={status}"
        kube.run("delete", "secret", "--namespace", NAMESPACE, "--selector", selector)


def uninstall_chart(kube: Kube) -> None:
    """Remove the operator; clusters and CRD stay."""
    kube.run_helm(*("uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait"))


@contextmanager
def operator_away(kube: Kube) -> Iterator[None]:
    """No operator runs within the block; afterwards both do again."""
    _scale_operator(kube, 0)
    try:
        yield
    finally:
        _scale_operator(kube, 2)


def _scale_operator(kube: Kube, replicas: int) -> None:
    words = ("scale", f"deployment/{RELEASE}", "--namespace", NAMESPACE)
    kube.run(*words, f"--replicas={replicas}")

    def probe() -> None:
        pods = kube.list("pods", NAMESPACE, f"app.kubernetes.io/instance={RELEASE}")
        if len(pods) != replicas:
            raise NotYet(f"{len(pods)} pods of the operator")

    wait_for(f"{replicas} pods of the operator", probe, timeout_seconds=60)
