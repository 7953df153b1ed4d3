"""The base image: Debian trixie, made here from the machine's own Debian mirror.

Dockerfiles keep their ordinary ``FROM debian:trixie-slim``; the short name is found in our store
as ``localhost/debian:trixie-slim``, so no registry of images is ever asked. Which mirror the
machine uses is read from apt, never written down in the project.
"""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from imagekit import buildah
from imagekit.cache import BuildError, cache_dir, digest_of, say
from imagekit.process import run

REFERENCE = "localhost/debian:trixie-slim"
SUITE = "trixie"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
EXCLUDED = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)
INCLUDED = ("/usr/share/doc/*/copyright",)


def inputs() -> str:
    """The digest of the recipe; a newer package in the mirror alone does not change it."""
    return digest_of([SUITE, platform.machine(), Path(__file__)])


def ensure() -> None:
    """Make the base image unless the store has it."""
    if buildah.has_image(REFERENCE, inputs()):
        return
    say("base image: mmdebstrap, about 30 s …")
    with tempfile.TemporaryDirectory(dir=cache_dir("images")) as scratch:
        tar = Path(scratch) / "root.tar"
        run(
            [
                "mmdebstrap",
                "--mode=root",
                "--variant=apt",
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED),
                *(f"--dpkgopt=path-include={pattern}" for pattern in INCLUDED),
                "--aptopt=Acquire::Languages none",
                SUITE,
                tar,
                *_sources(),
            ]
        )
        buildah.import_root(tar, REFERENCE, {buildah.LABEL: inputs()})


def _sources() -> list[str]:
    """Lines of a sources.list for trixie on the mirrors that this machine's apt uses."""
    columns = "$(LABEL)|$(REPO_URI)|$(COMPONENT)"
    listed = run(["apt-get", "indextargets", "--format", columns, "Created-By: Packages"])
    mirrors: dict[str, str] = {}
    for line in listed.splitlines():
        label, uri, component = line.split("|")
        if component == "main" and urlsplit(uri).scheme in ("http", "https"):
            mirrors.setdefault(label, uri)
    if "Debian" not in mirrors:
        raise BuildError(
            "apt knows no Debian mirror here, so there is nothing to make the base image from;"
            " run apt-get update (on Debian 12 or newer), then try again"
        )
    main, security = mirrors["Debian"], mirrors.get("Debian-Security")
    sources = [(main, SUITE), (main, f"{SUITE}-updates")]
    if security:
        sources.append((security, f"{SUITE}-security"))
    return [f"deb [signed-by={KEYRING}] {uri} {suite} main" for uri, suite in sources]
