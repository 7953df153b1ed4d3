"""What the demo stands on: a Kubernetes, both images on it, and the operator.

On the local cluster all of it is made here. With KUBE=existing the cluster of the current context
is used: a kind cluster gets the images loaded; any other must be able to pull them, so their
references are taken from ENGINE_IMAGE and OPERATOR_IMAGE.
"""

from __future__ import annotations

import os
import subprocess
from typing import Final

from demo.progress import say
from localkube import cluster, faults
from support.install import Images, archive_path, build_images, install_chart, load_images
from support.kube import Kube, existing_kube, local_kube
from support.waiting import Failed

KIND_PREFIX: Final = "kind-"
LOAD_TIMEOUT_SECONDS: Final = 600


def lay() -> tuple[Kube, Images]:
    """A cluster with the operator of this checkout on it."""
    match os.environ.get("KUBE") or "local":
        case "local":
            kube, images = _local()
        case "existing":
            kube, images = _existing()
        case other:
            raise Failed(f"KUBE={other} is not known; leave it out, or say KUBE=existing")
    say("installing the operator with helm")
    install_chart(kube, images)
    return kube, images


def _local() -> tuple[Kube, Images]:
    say("a real Kubernetes with three zones on this machine (the first time: about 12 minutes)")
    cluster.up()
    for healed in faults.heal_all():
        say(f"undone, left by an earlier run: {healed}")
    say("building the images (the first time: about 3 minutes)")
    images = build_images()
    say("loading the images into the six nodes")
    load_images()
    return local_kube(), images


def _existing() -> tuple[Kube, Images]:
    kube = existing_kube()
    context = kube.run("config", "current-context").strip()
    say(f"using the cluster of the current context: {context}")
    named = os.environ.get("ENGINE_IMAGE"), os.environ.get("OPERATOR_IMAGE")
    if named[0] and named[1]:
        return kube, Images(named[0], named[1])
    if not context.startswith(KIND_PREFIX):
        raise Failed(
            "this is not a kind cluster, so the images must come from a registry that it can"
            " reach: push them and set ENGINE_IMAGE and OPERATOR_IMAGE (docs/existing-clusters.md)"
        )
    say("building the images with docker")
    images = build_images("docker")
    for name in ("operator", "engine"):
        say(f"loading the {name} image into kind")
        argv = ["kind", "load", "image-archive", str(archive_path(name))]
        argv += ["--name", context.removeprefix(KIND_PREFIX)]
        subprocess.run(argv, check=True, timeout=LOAD_TIMEOUT_SECONDS)
    return kube, images
