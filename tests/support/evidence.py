"""What is kept of a failed test: logs of every pod, objects and events of its namespaces."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.install import NAMESPACE
from support.kube import CallFailed, Kube
from support.namespaces import LABEL


def collect(kube: Kube, folder: Path) -> str:
    """Write it all below a folder, and tell in a few lines where and what stands out."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    namespaces = [NAMESPACE]
    try:
        labelled = kube.list("namespaces", selector=f"{LABEL}=true")
        namespaces += [item["metadata"]["name"] for item in labelled]
        for namespace in namespaces:
            _objects(kube, namespace, folder)
            for pod in kube.list("pods", namespace):
                _logs(kube, namespace, pod["metadata"]["name"], folder)
        overview = kube.run("get", "auroraclusters,pods", "--all-namespaces", "-o", "wide")
    except CallFailed as error:
        overview = f"the API server did not answer: {error}"
    return f"logs and objects: {folder}\n{overview}"


def _objects(kube: Kube, namespace: str, folder: Path) -> None:
    kinds = "auroraclusters,pods,persistentvolumeclaims,services,endpointslices,configmaps"
    text = kube.run("get", kinds, "--namespace", namespace, "-o", "yaml")
    (folder / f"{namespace}-objects.yaml").write_text(text)
    words = ("get", "events", "--namespace", namespace, "--sort-by", ".lastTimestamp")
    (folder / f"{namespace}-events.txt").write_text(kube.run(*words))


def _logs(kube: Kube, namespace: str, pod: str, folder: Path) -> None:
    for suffix, options in (("", ()), ("-before", ("--previous",))):
        words = ("logs", pod, "--namespace", namespace, "--all-containers", "--tail=20000")
        try:
            text = kube.run(*words, *options)
        except CallFailed as error:
            text = str(error)
            if "previous terminated container" in text:
                continue
        (folder / f"{namespace}-{pod}{suffix}.log").write_text(text)
