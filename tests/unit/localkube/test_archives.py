"""Image archives: what we write is what a node is sent, less what it has."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from localkube import archives, images
from localkube.errors import LocalKubeError


def sent(image: archives.Image, held: set[str]) -> dict[str, bytes]:
    """Member -> content of the archive that a node with these blobs gets."""
    buffer = io.BytesIO()
    image.write(buffer, held)
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as opened:
        return {
            member.name: file.read()
            for member in opened
            if (file := opened.extractfile(member)) is not None
        }


def docker_archive(path: Path, layers: list[bytes], tag: str) -> list[str]:
    """An archive as `docker save` and `buildah push docker-archive:` write it."""
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    config = json.dumps({"rootfs": {"diff_ids": [f"sha256:{d}" for d in digests]}}).encode()
    manifest = [{"Config": "c.json", "RepoTags": [tag], "Layers": [f"{d}.tar" for d in digests]}]
    with tarfile.open(path, "w") as archive:
        for name, content in [
            ("c.json", config),
            ("manifest.json", json.dumps(manifest).encode()),
            *((f"{d}.tar", layer) for d, layer in zip(digests, layers, strict=True)),
        ]:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return [f"sha256:{digest}" for digest in digests]


def test_docker_archive_becomes_an_oci_one(tmp_path: Path) -> None:
    layers = docker_archive(tmp_path / "i.tar", [b"base", b"ours"], "localhost/engine:1")

    image = archives.read(tmp_path / "i.tar")
    members = sent(image, held=set())

    digest = image.names()["localhost/engine:1"]
    manifest = json.loads(members[f"blobs/sha256/{digest.removeprefix('sha256:')}"])
    assert [layer["digest"] for layer in manifest["layers"]] == layers
    for described in (*manifest["layers"], manifest["config"]):
        name = f"blobs/sha256/{described['digest'].removeprefix('sha256:')}"
        assert len(members[name]) == described["size"]
        assert hashlib.sha256(members[name]).hexdigest() in name


def test_layers_that_a_node_holds_are_not_sent(tmp_path: Path) -> None:
    base, ours = docker_archive(tmp_path / "i.tar", [b"base", b"ours"], "localhost/engine:1")

    members = sent(archives.read(tmp_path / "i.tar"), held={base})

    assert f"blobs/sha256/{base.removeprefix('sha256:')}" not in members
    assert f"blobs/sha256/{ours.removeprefix('sha256:')}" in members
    assert "index.json" in members


def test_our_own_images_are_read_back(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"ELF")
    images.write_image(
        tmp_path / "i.tar", "localhost/p:1", {"bin/p": program}, ["/bin/p"], {"bin/q": "p"}
    )

    image = archives.read(tmp_path / "i.tar")
    members = sent(image, held=set())

    manifest = json.loads(
        members[f"blobs/sha256/{image.names()['localhost/p:1'].removeprefix('sha256:')}"]
    )
    layer = members[f"blobs/sha256/{manifest['layers'][0]['digest'].removeprefix('sha256:')}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as opened:
        assert {(m.name, m.linkname) for m in opened} == {("bin/p", ""), ("bin/q", "p")}


def test_same_input_gives_the_same_image(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"ELF")
    for name in ("one.tar", "two.tar"):
        images.write_image(tmp_path / name, "localhost/p:1", {"p": program}, ["/p"])

    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_anything_else_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "i.tar", "w"):
        pass

    with pytest.raises(LocalKubeError, match="no image archive"):
        archives.read(tmp_path / "i.tar")
