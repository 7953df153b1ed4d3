"""The image builder: buildah with a store of its own in the cache, no daemon, no registry.

The store is ours alone, so nothing here can meet or remove images of the machine's owner.
Layers are kept between builds; that is what makes a change of only our Python code cheap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from imagekit.cache import cache_dir, only_one
from imagekit.process import run

LABEL = "io.aurora-operator.inputs"


def buildah(*words: str | Path) -> str:
    """Run buildah on our store."""
    store = cache_dir("images")
    return run(
        [
            "buildah",
            f"--root={store / 'store'}",
            f"--runroot={store / 'run'}",
            "--storage-driver=overlay",
            *words,
        ]
    )


@contextmanager
def our_store() -> Iterator[None]:
    """Hold the store alone; what a killed build left in it is removed."""
    with only_one("images"):
        buildah("rm", "--all")
        yield


def has_image(reference: str, inputs: str) -> bool:
    """Whether the store holds ``reference`` made from exactly these inputs."""
    for image in json.loads(buildah("images", "--json") or "null") or []:
        if reference in (image.get("names") or []):
            config = json.loads(buildah("inspect", "--type", "image", reference))
            labels = config["OCIv1"]["config"].get("Labels") or {}
            return bool(labels.get(LABEL) == inputs)
    return False


def build(context: Path, reference: str, inputs: str, target: str | None = None) -> None:
    """Build ``context``'s Dockerfile (or one stage of it) from local images only."""
    stage = [f"--target={target}"] if target else []
    buildah(
        "build",
        "--isolation=chroot",
        "--network=host",
        "--layers",
        "--pull=never",
        f"--label={LABEL}={inputs}",
        f"--tag={reference}",
        *stage,
        context,
    )


def import_root(tar: Path, reference: str, labels: Mapping[str, str]) -> None:
    """Make the file system in ``tar`` an image of one layer."""
    container = buildah("from", "scratch").strip()
    try:
        buildah("add", container, tar, "/")
        buildah(
            "config",
            "--env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "--cmd=bash",
            *(f"--label={name}={value}" for name, value in labels.items()),
            container,
        )
        buildah("commit", container, reference)
    finally:
        buildah("rm", container)


def write_archive(reference: str, archive: Path) -> None:
    """Write the image for ``ctr images import``: layers as they are, which loads fastest."""
    archive.unlink(missing_ok=True)
    buildah("push", "--disable-compression", reference, f"docker-archive:{archive}:{reference}")


@contextmanager
def mounted(reference: str) -> Iterator[Path]:
    """The image's file system, mounted for reading."""
    container = buildah("from", "--pull=never", reference).strip()
    try:
        yield Path(buildah("mount", container).strip())
    finally:
        buildah("umount", container)
        buildah("rm", container)
