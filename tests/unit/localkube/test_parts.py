"""Small decisions of the other parts: pins, certificates, specs, limits, sentences."""

import sys
from pathlib import Path

import pytest

from localkube import gobuild, layout, node_config, pins, pki, preflight, shell, volumes
from localkube.errors import LocalKubeError
from localkube.supervisor import Spec


def test_every_program_is_pinned_by_its_own_go_sum() -> None:
    for program in (*gobuild.PROGRAMS, gobuild.LINEAR):
        module = (program.source / "go.mod").read_text()
        assert "go 1.24" in module
        if "require" in module:
            assert (program.source / "go.sum").exists()


@pytest.mark.parametrize(
    ("program", "pin"),
    [
        ("kube", f"k8s.io/kubernetes v{pins.KUBERNETES_VERSION}"),
        ("coredns", f"github.com/coredns/coredns v{pins.COREDNS_VERSION}"),
        ("helm", f"helm.sh/helm/v3 v{pins.HELM_VERSION}"),
    ],
)
def test_pins_agree_with_go_mod(program: str, pin: str) -> None:
    assert pin in (gobuild.SOURCES / program / "go.mod").read_text()


def test_a_change_of_pins_is_another_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = gobuild.PROGRAMS[-1]
    before = gobuild.program_key(program)
    folder = tmp_path / program.name
    folder.mkdir()
    for path in program.source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(gobuild, "SOURCES", tmp_path)
    assert gobuild.program_key(program) == before

    (folder / "go.mod").write_text("module other\n")
    assert gobuild.program_key(program) != before


def test_the_checker_of_histories_is_no_part_of_the_cluster() -> None:
    """A change of it must not have every local cluster made anew."""
    assert gobuild.LINEAR not in gobuild.PROGRAMS
    assert "porcupine v1.3.1" in (gobuild.LINEAR.source / "go.mod").read_text()


def test_build_environment_takes_nothing_of_the_machines_own_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOROOT", "/usr/local/go")
    monkeypatch.setenv("GOFLAGS", "-mod=mod")

    made = gobuild._go_environment(Path("/cache/go-1/go/bin/go"))

    assert made["GOROOT"] == "/cache/go-1/go"
    assert made["PATH"].startswith("/cache/go-1/go/bin:")
    assert made["GOTOOLCHAIN"] == "local"
    assert "-mod=mod" not in made["GOFLAGS"]


def test_kubelet_certificate_serves_the_nodes_name_and_address() -> None:
    identity = pki.node_identity(layout.CLIENT)

    assert identity.subject() == "/O=system:nodes/CN=system:node:client"
    assert f"subjectAltName=DNS:client,IP:{layout.CLIENT.address}" in identity.extensions()


def test_client_certificate_serves_nobody() -> None:
    scheduler = next(i for i in pki.CONTROL_IDENTITIES if i.name == "scheduler")

    assert "serverAuth" not in scheduler.extensions()


def test_spec_survives_its_file(tmp_path: Path) -> None:
    spec = node_config.supervisor_spec(layout.NODES[0], "/run/netns/x", ["/pause.tar"])
    spec.write(tmp_path / "spec.json")

    assert Spec.read(tmp_path / "spec.json") == spec


def test_images_are_imported_before_the_kubelet_starts() -> None:
    spec = node_config.supervisor_spec(layout.NODES[0], "/run/netns/x", ["/pause.tar"])
    names = [task.name for task in spec.tasks]

    assert names.index("containerd") < names.index("import-0") < names.index("kubelet")


@pytest.mark.parametrize(
    ("requested", "usable"),
    [(1, 300 << 20), (300 << 20, 300 << 20), ((1 << 30) + 1, (1 << 30) + (1 << 20))],
)
def test_volume_sizes(requested: int, usable: int) -> None:
    assert volumes.usable_size(requested) == usable


def test_failed_program_says_what_it_said() -> None:
    with pytest.raises(LocalKubeError, match=r"ended with 3.*no luck"):
        shell.run(sys.executable, "-c", "import sys; print('no luck', file=sys.stderr); exit(3)")


def test_program_over_its_time_is_stopped() -> None:
    with pytest.raises(LocalKubeError, match="stopped after"):
        shell.run(sys.executable, "-c", "import time; time.sleep(60)", timeout_seconds=0.5)


def test_missing_program_is_named() -> None:
    with pytest.raises(LocalKubeError, match="no-such-program is not installed"):
        shell.run("no-such-program")


def test_wait_reports_the_last_thing_seen() -> None:
    with pytest.raises(LocalKubeError, match="three of six"):
        shell.wait_until("nodes", lambda: "three of six", timeout_seconds=0)


def test_wait_outlasts_errors_that_pass() -> None:
    answers = iter([ConnectionRefusedError("not yet"), None])

    def check() -> str | None:
        answer = next(answers)
        if answer is not None:
            raise answer
        return None

    shell.wait_until("server", check, timeout_seconds=5, interval_seconds=0)


@pytest.mark.parametrize(
    ("check", "patched", "value", "sentence"),
    [
        ("_root", "os.geteuid", 1000, "root"),
        ("_cores", "os.sched_getaffinity", {0}, "2 cores; there is 1"),
        ("_architecture", "platform.machine", "riscv64", "riscv64"),
    ],
)
def test_preflight_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, check: str, patched: str, value: object, sentence: str
) -> None:
    monkeypatch.setattr(f"localkube.preflight.{patched}", lambda *_: value)

    problem = getattr(preflight, check)()

    assert problem is not None
    assert sentence in problem
