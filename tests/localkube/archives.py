"""Bring image archives into nodes, once for each content.

What an archive holds is told by its index (a few hundred bytes that name everything by digest);
its hash is noted on the node's disk, so that loading the same image again costs nothing.
"""

import hashlib
import tarfile
from pathlib import Path

from localkube import nodes
from localkube.errors import LocalKubeError
from localkube.layout import Node

_INDEXES = ("index.json", "manifest.json")


def content_key(archive: Path) -> str:
    """A hash of the archive's index, of the OCI or of docker's kind."""
    with tarfile.open(archive) as opened:
        for entry in opened:
            content = opened.extractfile(entry) if entry.name in _INDEXES else None
            if content is not None:
                return hashlib.sha256(content.read()).hexdigest()[:24]
    raise LocalKubeError(f"{archive} is not an image archive: it holds none of {_INDEXES}")


def load(node: Node, archive: Path) -> None:
    """Import an archive into a node that does not have it."""
    note = node.state / "loaded" / content_key(archive)
    if note.exists():
        return
    nodes.load_image(node, archive)
    note.parent.mkdir(exist_ok=True)
    note.write_text(f"{archive.name}\n")
