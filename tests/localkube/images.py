"""Small images made without a builder: one static program each, as an OCI archive.

The pause container, CoreDNS and a busybox for tests need no Dockerfile; a deterministic tar file
of one layer is enough and takes milliseconds.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def write_image(
    archive: Path,
    reference: str,
    files: Mapping[str, Path],
    entrypoint: Sequence[str],
    links: Mapping[str, str] | None = None,
) -> None:
    """Write an image of the given files (path in image -> file here) and symbolic links."""
    layer = _layer(files, links or {})
    layer_digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "Env": ["PATH=/bin"], "User": "65534:65534"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
    }
    config_bytes = json.dumps(config, sort_keys=True).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(_CONFIG, config_bytes),
        "layers": [_descriptor(_LAYER, layer)],
    }
    manifest_bytes = json.dumps(manifest, sort_keys=True).encode()
    named = _descriptor(_MANIFEST, manifest_bytes)
    named["annotations"] = {"io.containerd.image.name": reference}
    index = {"schemaVersion": 2, "manifests": [named]}
    unfinished = archive.with_suffix(".unfinished")
    with tarfile.open(unfinished, "w") as target:
        _add(target, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add(target, "index.json", json.dumps(index).encode())
        for blob in (config_bytes, manifest_bytes, layer):
            _add(target, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
    unfinished.replace(archive)


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _layer(files: Mapping[str, Path], links: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for name in sorted(files):
            _add(layer, name, files[name].read_bytes(), mode=0o755)
        for name in sorted(links):
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.SYMTYPE
            entry.linkname = links[name]
            layer.addfile(entry)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = mode
    archive.addfile(entry, io.BytesIO(content))
