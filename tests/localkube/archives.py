"""Bring image archives into nodes, sending only what a node lacks.

An image's layers rarely change all at once, so each node is asked which blobs it holds and gets an
archive without them. Docker's archives are described as OCI ones on the way (their layers are
uncompressed, so the configuration's diff_ids are their digests): one format to handle, and the
runtime still checks every digest it receives.
"""

import hashlib
import io
import json
import subprocess
import tarfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from localkube import cloning, launch, node_config, nodes
from localkube.cloning import Layer, chain_ids
from localkube.errors import LocalKubeError
from localkube.layout import Node

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_REFERENCE = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_IMPORT_LIMIT_SECONDS = 600.0
_BLOBS = "blobs/sha256/"


@dataclass(frozen=True)
class Image:
    """What an archive holds: an OCI index, and blobs by digest, in memory or as a tar member."""

    archive: Path
    index: dict[str, Any]
    small_blobs: dict[str, bytes]
    members: dict[str, tarfile.TarInfo] = field(repr=False)

    def names(self) -> dict[str, str]:
        """Image name -> digest of its manifest."""
        return {
            entry["annotations"][_CONTAINERD_NAME]: entry["digest"]
            for entry in self.index["manifests"]
        }

    def layers(self) -> list[list[Layer]]:
        """For each manifest its layers, the lowest first."""
        found = []
        with tarfile.open(self.archive) as source:
            for digest in dict.fromkeys(self.names().values()):
                manifest = json.loads(self._blob(source, digest))
                config = json.loads(self._blob(source, manifest["config"]["digest"]))
                chains = chain_ids(config["rootfs"]["diff_ids"])
                found.append(
                    [
                        Layer(layer["digest"], layer["size"], chain)
                        for layer, chain in zip(manifest["layers"], chains, strict=True)
                    ]
                )
        return found

    def _blob(self, source: tarfile.TarFile, digest: str) -> bytes:
        small = self.small_blobs.get(digest)
        return small if small is not None else _content(source, self.members[digest])

    def write(self, target: IO[bytes], held: set[str]) -> None:
        """An OCI archive of everything but the blobs that are held already."""
        with tarfile.open(fileobj=target, mode="w|") as out, tarfile.open(self.archive) as source:
            _add(out, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
            _add(out, "index.json", json.dumps(self.index).encode())
            for digest, content in self.small_blobs.items():
                _add(out, _blob_name(digest), content)
            for digest, member in self.members.items():
                if digest not in held:
                    entry = tarfile.TarInfo(_blob_name(digest))
                    entry.size = member.size
                    out.addfile(entry, source.extractfile(member))


def read(archive: Path) -> Image:
    """Understand an archive of the OCI or of docker's kind."""
    with tarfile.open(archive) as opened:
        members = {member.name.removeprefix("./"): member for member in opened}
        if "index.json" in members:
            return _read_oci(archive, opened, members)
        if "manifest.json" in members:
            return _read_docker(archive, opened, members)
    raise LocalKubeError(f"{archive} is no image archive: no index.json, no manifest.json in it")


def _read_oci(archive: Path, opened: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> Image:
    index = json.loads(_content(opened, members["index.json"]))
    for entry in index["manifests"]:
        annotations = entry.setdefault("annotations", {})
        name = annotations.get(_CONTAINERD_NAME) or annotations.get(_REFERENCE)
        if name is None:
            raise LocalKubeError(f"{archive} does not name its image: give it a reference")
        annotations[_CONTAINERD_NAME] = name
    blobs = {
        f"sha256:{name.removeprefix(_BLOBS)}": member
        for name, member in members.items()
        if name.startswith(_BLOBS) and member.isfile()
    }
    return Image(archive, index, {}, blobs)


def _read_docker(
    archive: Path, opened: tarfile.TarFile, members: dict[str, tarfile.TarInfo]
) -> Image:
    small: dict[str, bytes] = {}
    blobs: dict[str, tarfile.TarInfo] = {}
    entries: list[dict[str, Any]] = []
    for described in json.loads(_content(opened, members["manifest.json"])):
        config = _content(opened, members[described["Config"]])
        layers = []
        for name, diff_id in zip(
            described["Layers"], json.loads(config)["rootfs"]["diff_ids"], strict=True
        ):
            member = _followed(members, members[name])
            blobs[diff_id] = member
            layers.append({"mediaType": _LAYER, "digest": diff_id, "size": member.size})
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _descriptor(_CONFIG, config),
                "layers": layers,
            }
        ).encode()
        for content in (config, manifest):
            small[_digest(content)] = content
        for name in described["RepoTags"] or []:
            entries.append(_descriptor(_MANIFEST, manifest) | _named(name))
    if not entries:
        raise LocalKubeError(f"{archive} does not name its image: give it a tag")
    return Image(archive, {"schemaVersion": 2, "manifests": entries}, small, blobs)


def _followed(members: dict[str, tarfile.TarInfo], member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Docker writes a layer that occurs twice as a link to the first."""
    while member.issym() or member.islnk():
        parent = Path(member.name).parent if member.issym() else Path()
        member = members[str(_normal(parent / member.linkname))]
    return member


def _normal(path: Path) -> Path:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return Path(*parts)


def has(node: Node, image: Image) -> bool:
    """Whether the node has the image under all its names."""
    here = _ctr(nodes.require_pid(node), "images", "list")
    held_names = {words[0]: words[2] for words in map(str.split, here.splitlines()[1:])}
    return all(held_names.get(name) == digest for name, digest in image.names().items())


def load(node: Node, image: Image) -> None:
    """Import an image into a node, sending what it lacks."""
    pid = nodes.require_pid(node)
    _import(node, pid, image, set(_ctr(pid, "content", "list", "--quiet").split()))


def clone(source: Node, target: Node, image: Image) -> None:
    """Give a node an image that another one has."""
    pid = nodes.require_pid(target)
    for layers in image.layers():
        cloning.clone_layers(source, nodes.require_pid(source), target, pid, layers)
    load(target, image)
    checked = _ctr(pid, "images", "check")
    for name in image.names():
        line = next(line for line in checked.splitlines() if line.split()[0] == name)
        if " complete " not in line:
            raise LocalKubeError(f"{name} is not complete on {target.name}: {line}")


def _import(node: Node, pid: int, image: Image, held: set[str]) -> None:
    enter = ("nsenter", f"--target={pid}", "--mount", "--net", "--pid", "--")
    importing = subprocess.Popen(
        [*enter, *node_config.IMPORT, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    limit = threading.Timer(_IMPORT_LIMIT_SECONDS, importing.kill)
    limit.start()
    assert importing.stdin is not None
    broken = ""
    try:
        image.write(importing.stdin, held)
    except BrokenPipeError:
        broken = " (it stopped reading)"
    finally:
        _, said = importing.communicate()
        limit.cancel()
    if importing.returncode != 0 or broken:
        raise LocalKubeError(
            f"{image.archive} was not imported into {node.name}{broken}; within "
            f"{_IMPORT_LIMIT_SECONDS:.0f} s ctr said: {said.decode(errors='replace')[-1000:]}"
        )


def _ctr(pid: int, *words: str) -> str:
    return launch.in_node(pid, "ctr", "--namespace", "k8s.io", *words)


def _content(opened: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = opened.extractfile(member)
    if file is None:
        raise LocalKubeError(f"{member.name} in the image archive is not a file")
    return file.read()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _named(name: str) -> dict[str, Any]:
    return {"annotations": {_CONTAINERD_NAME: name}}


def _blob_name(digest: str) -> str:
    return _BLOBS + digest.removeprefix("sha256:")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
