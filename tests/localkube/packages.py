"""Debian's packages that the cluster and the image builds need, installed when missing."""

import os

from localkube import pins, shell
from localkube.progress import step

_DOWNLOAD_LIMIT_SECONDS = 900.0


def missing_packages(names: tuple[str, ...]) -> list[str]:
    """Those of `names` that dpkg does not list as installed."""
    listed = shell.run(
        *("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *names),
        accept=(0, 1),
    )
    installed = {line.split()[0] for line in listed.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def install_missing() -> None:
    """Install what the cluster and the images need and the machine lacks."""
    install(pins.DEBIAN_PACKAGES + pins.IMAGE_BUILD_PACKAGES)


def install(wanted: tuple[str, ...]) -> None:
    """Install what is missing; the package lists are fetched first, as they may be old or none."""
    names = missing_packages(wanted)
    if not names:
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installing {' '.join(names)}", 25):
        shell.run("apt-get", "-qq", "update", timeout_seconds=_DOWNLOAD_LIMIT_SECONDS)
        shell.run(
            *("apt-get", "-qq", "install", *names),
            timeout_seconds=_DOWNLOAD_LIMIT_SECONDS,
            env=environment,
        )
